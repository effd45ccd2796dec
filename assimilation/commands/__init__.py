"""The verbs of data assimilation."""

from assimilation.commands.assembly import add_to

__all__ = ["add_to"]
