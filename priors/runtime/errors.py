"""The one exception that means "the user gave something that cannot be used"."""


class InputError(Exception):
    """A mistake in a file, an option or a resource, told in one line.

    The message names the file or key, what was found and what was expected. The command line prints it as
    ``error: ...`` and exits with status 2; it never shows a traceback.
    """
