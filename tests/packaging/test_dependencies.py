"""What the packages import is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("tomocast", "recon", "assimilation", "priors")
# Names of modules whose distribution is called otherwise, for those that may not be installed here.
NAMES = {"astra": "astra-toolbox", "triton": "triton", "cfgrib": "cfgrib", "eccodes": "eccodes"}
# Probed where it is installed by other means: it is on no index (see docs on backends).
ELSEWHERE = {"torch_radon"}
# Used through another package: the engine xarray picks by name, the one pandas reads Parquet with, the JPEG codec
# pydicom finds, the attention of monai's U-Net, the writer behind TensorBoard, the pin that keeps eccodes loadable.
BEHIND = {"h5netcdf", "pyarrow", "python-gdcm", "einops", "tensorboard", "eckitlib", "eccodes", "cfgrib"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Top-level modules imported anywhere in our packages, inside functions too, also by ``import_module("name")``."""
    found = set()
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module.split(".")[0])
                elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                    found |= {a.value.split(".")[0] for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found - set(OURS) - set(sys.stdlib_module_names) - ELSEWHERE


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def extras() -> list[str]:
    """Extras of users; a developer's are no excuse for an import."""
    return [name for name in project()["optional-dependencies"] if name != "dev"]


def declared(*extras: str) -> set[str]:
    texts = [*project()["dependencies"]]
    for name in extras:
        texts += project()["optional-dependencies"][name]
    return {canonical(re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0]) for text in texts}


@cache
def _installed():
    return packages_distributions()


def distributions(module: str) -> set[str]:
    known = _installed().get(module) or [NAMES.get(module, module)]
    return {canonical(name) for name in known}


def test_everything_imported_is_declared():
    allowed = declared(*extras())
    lacking = {module for module in imported() if not distributions(module) & allowed}
    assert lacking == set()


def test_everything_declared_is_imported():
    used = {name for module in imported() for name in distributions(module)} | {canonical(n) for n in BEHIND}
    assert declared() - used == set()


def test_what_is_used_through_another_package_is_declared():
    assert {canonical(name) for name in BEHIND} <= declared("grib")
