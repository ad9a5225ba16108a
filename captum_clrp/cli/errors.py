"""The one kind of error that the command reports as a single line and exit code 2."""

from __future__ import annotations


class CommandError(Exception):
    """Something the user can put right; its message says what was given and what to do."""
