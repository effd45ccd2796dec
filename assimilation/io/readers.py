"""The name that ``assimilation.io.registry`` had before; it stays for one release."""

from assimilation.io.registry import open_stream, read_any_fields

__all__ = ["open_stream", "read_any_fields"]
