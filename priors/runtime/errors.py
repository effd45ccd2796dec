"""What a user can cause: an input that cannot be used, and an interruption."""


class InputError(Exception):
    """A mistake in a file, an option or a resource, told in one line.

    The message names the file or key, what was found and what was expected. The command line prints it as
    ``error: ...`` and exits with status 2; it never shows a traceback.
    """


class Interrupted(Exception):  # noqa: N818 (a wish of the user, not an error)
    """The user stopped a job that can be continued; the message says how. Exit status 130."""
