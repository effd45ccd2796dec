"""The tutorials and the guide to own operators run: every block of a page, in order, in an empty folder."""

import os
import shlex

import matplotlib as mpl
import pytest

from tests.support.command_line import inside
from tests.support.docs.pages import ROOT, name, runnable

TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
PAGES = [*TUTORIALS, ROOT / "docs" / "guides" / "own-operators.md"]


@pytest.fixture
def _empty_folder(tmp_path):
    before = os.getcwd()
    os.chdir(tmp_path)
    mpl.use("Agg")
    yield
    os.chdir(before)


@pytest.mark.parametrize("page", PAGES, ids=name)
@pytest.mark.usefixtures("_empty_folder")
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    variables: dict = {}
    for language, body in runnable(page):
        if language == "python":
            exec(compile(body, str(page), "exec"), variables)
        else:
            for line in body.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(line, comments=True)
                assert program == "tomocast"
                inside(*words)
    assert page not in TUTORIALS or (tmp_path / f"{page.stem}.png").is_file()


def test_the_readme_shows_what_the_tutorials_run():
    """Its Python lines, apart from the sizes chosen there, are those of the public face."""
    readme = ROOT / "README.md"
    for language, body in runnable(readme):
        if language == "python":
            compile(body, str(readme), "exec")
