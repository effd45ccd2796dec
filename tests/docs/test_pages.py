"""Links lead somewhere, commands exist, results say how they were made."""

import re
import shlex

import pytest
import typer

from tests.support.docs.pages import PAGES, ROOT, code, name, prose, slugs
from tomocast.cli import SECONDS, app
from tomocast.spelling import RENAMED

# Words in place of what a reader fills in.
FILLED_IN = re.compile(r"^[A-Z_./]+$|^\.\.\.$")
ROOMS = ("tutorial", "guides", "formats", "results")
TREE = typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_every_command_exists(page):
    for line in code(page):
        command = re.sub(r"^\$ ", "", line).split("#")[0].strip()
        if command.startswith("tomocast ") and not re.search(r"\w=\w.*\(|\|.*\|", command):
            check_command(command)


def check_command(line):
    """A line of the command line names verbs and options there are."""
    words = shlex.split(re.split(r"\s[|>&]\s|\s&&", line)[0])[1:]
    if not words or FILLED_IN.match(words[0]) or words[0].startswith("-"):
        return
    assert words[0] not in RENAMED, f"{line}: an old spelling"
    command = TREE
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if FILLED_IN.match(words[0]):
            return
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {text for item in command.params for text in (*item.opts, *item.secondary_opts)} | {"--help"}
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in options, f"{line}: {word}"


def test_the_check_sees_what_is_wrong():
    check_command("tomocast simulate scan X.zip --views 30")
    for wrong in (
        "tomocast simulat scan X.zip",
        "tomocast simulate scan X.zip --view 3",
        "tomocast verify a b",
    ):
        with pytest.raises(AssertionError):
            check_command(wrong)


def test_every_page_has_a_room_and_is_reachable():
    """From the README, by links."""
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
        queue += [(page.parent / link).resolve() for link in links if "://" not in link]
    pages = set((ROOT / "docs").rglob("*.md"))
    assert {page.relative_to(ROOT / "docs").parts[0] for page in pages} == set(ROOMS)
    assert {name(page) for page in pages - seen} == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "results").glob("*.md")), ids=name)
def test_every_result_says_the_command_that_made_it(page):
    """No table stands before the first command of its page, and the scripts named exist."""
    text = page.read_text(encoding="utf-8")
    first_table = text.find("\n|")
    scripts = re.findall(r"benchmarks/[\w/]+\.py", text)
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
    if first_table >= 0:
        assert 0 <= text.find("python benchmarks/") < first_table or 0 <= text.find("tomocast ") < first_table


def test_the_list_of_benchmarks_is_complete():
    listed = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = [path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in scripts if f"| `{path.name}` |" not in listed] == []


def test_pairs_are_those_of_the_command_line():
    assert set(SECONDS) == {
        verb for verb, command in TREE.commands.items() if hasattr(command, "commands")
    } - {"data"}
