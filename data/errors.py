"""The one error that is the user's to mend. Apart from `data.panel`, so that the doctor can tell of a broken numpy."""


class InputError(ValueError):
    """The user's input is wrong. The message is one line for a person; commands print it and exit with code 2."""
