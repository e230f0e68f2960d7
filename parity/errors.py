"""What can go wrong, by the one who has to act on it."""

from __future__ import annotations


class Undecided(ArithmeticError):
    """A comparison (a kink, a branch) or a rounding that the enclosure does not settle: nobody may guess it."""


class Unsupported(Exception):
    """An engine says that it cannot do a case. Reported as such, never as a failure or in silence."""


class UsageError(Exception):
    """Bad input from the user: one message that names what was expected and what came; exit code 2."""
