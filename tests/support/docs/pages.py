"""The pages people read, and what is in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(.+)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return [body for kind, body in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def code(page: Path) -> list[str]:
    """Lines of code: fenced (not Python), indented, or inline; a line that ends in a backslash goes on."""
    text = page.read_text(encoding="utf-8")
    bodies = [body for kind, body in _FENCE.findall(text) if kind != "python"]
    prose = _FENCE.sub("", text)
    bodies += [*_INDENTED.findall(prose), *_INLINE.findall(prose)]
    joined = "\n".join(bodies).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines()]


def prose(page: Path) -> str:
    """The page without code, where links are."""
    return _INLINE.sub("``", _FENCE.sub("", page.read_text(encoding="utf-8")))


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def runnable(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks of Python and of the shell, in order."""
    return [
        pair for pair in _FENCE.findall(page.read_text(encoding="utf-8")) if pair[0] in ("python", "bash")
    ]
