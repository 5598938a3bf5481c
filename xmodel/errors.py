"""The one exception a user is meant to see."""


class InputError(ValueError):
    """The user's input cannot be used as it is.

    The message is one paragraph that says what came, what was expected and what to do. The command
    line prints it without a traceback and exits with code 2; library callers may catch it as a
    `ValueError`.
    """
