"""How a command fails: one sentence, and exit status 1."""


class CommandFailed(Exception):
    """The command did not do what was asked; the message is a sentence for the operator."""
