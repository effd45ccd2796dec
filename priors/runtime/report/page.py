"""Reports: one HTML file that works offline and can be mailed.

What is shown sits inside the file; its content policy forbids every request. The page is filled by replacing every
``{{name}}`` in one pass, so that no inserted text is read as a placeholder. The core of
the viewer is here (``page_assets/viewer.js``: pictures, buttons, drawing once per frame); a package that reports brings
its skin, ``report/assets/viewer.html``, ``viewer.css`` and ``viewer.js``.
"""

import base64
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from priors.runtime.files.writing import atomic


@dataclass(frozen=True)
class Notice:
    """What a reader must know before anything else: a kind that colours it, a heading, and sentences.

    Attributes:
        kind: good, doubtful or bad.
        heading: a few words.
        sentences: why.
    """

    kind: Literal["good", "doubtful", "bad"]
    heading: str
    sentences: Sequence[str] = ()

    def html(self) -> str:
        """Return it as HTML."""
        listed = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        listed = f"<ul>{listed}</ul>" if listed else ""
        return f'<div class="notice {self.kind}"><strong>{html.escape(self.heading)}</strong>{listed}</div>'


@dataclass(frozen=True, eq=False)
class Page:
    """A report.

    Attributes:
        package: whose viewer shows ``data``.
        title: heading.
        data: what the viewer draws, without NaN or infinities.
        facts: short statements under the heading, label -> text.
        note: what to know about the pictures.
        sections: HTML of what comes below the viewer.
        details: text to unfold at the end, heading -> text; empty ones are left out. The first is open.
        foot: last line.
        notice: shown at the head.
    """

    package: str
    title: str
    data: Mapping[str, Any]
    facts: Mapping[str, str]
    note: str
    sections: str
    details: Mapping[str, str] = field(default_factory=dict)
    foot: str = "Made by tomocast."
    notice: Notice | None = None

    def render(self) -> str:
        """Return the HTML text."""
        # Inside a script element "</script" and "<!--" would be read as HTML.
        data = json.dumps(self.data, allow_nan=False).replace("<", "\\u003c")
        facts = (
            f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd></div>"
            for label, text in self.facts.items()
        )
        viewer = self._asset("viewer.html").replace("{{note}}", html.escape(self.note))
        parts = {
            "title": html.escape(self.title),
            "facts": "".join(facts),
            "notice": "" if self.notice is None else self.notice.html(),
            "viewer": viewer,
            "sections": self.sections + self._unfolding(),
            "foot": html.escape(self.foot),
            "data": data,
            "css": _shared("page.css") + self._asset("viewer.css"),
            "js": _shared("page.js") + _shared("viewer.js") + self._asset("viewer.js"),
        }
        return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _shared("page.html"))

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            InputError: it cannot be written.
        """
        text = self.render()
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    def _unfolding(self) -> str:
        return "".join(
            f"<section><details{'' if number else ' open'}><summary>{html.escape(name)}</summary>"
            f"<pre>{html.escape(text)}</pre></details></section>"
            for number, (name, text) in enumerate(self.details.items())
            if text
        )

    def _asset(self, name: str) -> str:
        """Return the text of a file of the package's viewer."""
        return resources.files(self.package).joinpath("report", "assets", name).read_text(encoding="utf-8")


def deflated(content: bytes) -> str:
    """Return bytes as text to embed: raw deflate, base64; ``inflated`` of ``page_assets/page.js`` reads it."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def inflated(text: str) -> bytes:
    """Return the bytes that ``deflated`` packed."""
    return zlib.decompress(base64.b64decode(text), -15)


def _shared(name: str) -> str:
    """Return the text of a file of every page."""
    return resources.files("priors.runtime.report").joinpath("page_assets", name).read_text(encoding="utf-8")
