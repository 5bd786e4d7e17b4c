"""The ``nodedb`` command."""
