"""What a program prints for people: nothing that a file states is obeyed by the terminal, nothing stops the program.

Control characters (the escapes that move the cursor, change titles or hide text) are shown as ``\\x1b``; characters
that the output cannot encode are shown as ``\\udcff`` instead of ending the program.
"""

import io
import os
import sys
import unicodedata
from typing import Any


def visible(text: str) -> str:
    """Return a text whose control characters are written out; line ends and tabs stay."""
    return "".join(
        one if one in "\n\t" or unicodedata.category(one) not in ("Cc", "Cf") else _written(one)
        for one in text
    )


def _written(character: str) -> str:
    number = ord(character)
    return (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )


def prepare_streams() -> None:
    """Make standard output and error usable whatever they are.

    A closed one becomes the null device: its number would go to the next file that is opened, and what libraries
    print would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", closefd=False)  # noqa: SIM115
        # Another class is a stream of whoever calls us from Python, who shows it in a way of their own.
        if type(stream) is io.TextIOWrapper:
            setattr(sys, name, _Visible(stream))


def verbatim(stream: Any) -> Any:
    """Return a stream that obeys control characters, for a progress bar that moves the cursor."""
    return stream.verbatim if isinstance(stream, _Visible) else stream


class _Visible(io.TextIOWrapper):
    """A standard stream that writes control characters out, and goes silent when nobody reads it any more.

    ``| head`` closes the pipe after its lines; a terminal may be closed. Neither is a reason to lose hours of work.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        encoding, buffered = stream.encoding, stream.line_buffering or stream.isatty()
        super().__init__(
            stream.detach(), encoding=encoding, errors="backslashreplace", line_buffering=buffered
        )
        self.verbatim = _Verbatim(self)

    def write(self, text: str) -> int:
        # What writes help texts finds out by this whether a stream takes bytes.
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.send(visible(text))
        return len(text)

    def send(self, text: str) -> None:
        """Write a text as it is."""
        try:
            super().write(text)
        except BrokenPipeError:
            self._silence()

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._silence()

    def _silence(self) -> None:
        """Let everything from now on go to the null device, what is held back too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class _Verbatim(io.TextIOBase):
    """The other face of a stream: what is written to it is obeyed by a terminal."""

    def __init__(self, stream: _Visible) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.send(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
