"""The one exception that means "the user can mend this"."""


class FruganError(ValueError):
    """A mistake in what the user gave: a path, a file, an option, a combination.

    The message is one sentence (or a few short ones) that names the value, the limit and the remedy. The command line
    prints it without a traceback and exits with code 2.
    """
