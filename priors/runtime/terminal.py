"""What a program prints for people: nothing that a file states is obeyed by the terminal, nothing stops the program.

Control characters (the escapes that move the cursor, change titles or hide text) are shown as ``\\x1b``; characters
that the output cannot encode are shown as ``\\udcff`` instead of ending the program.
"""

import os
import sys
import unicodedata


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
            setattr(sys, name, open(number, "w", closefd=False, errors="backslashreplace"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
