"""The reason why a refactoring can't be proved to keep a program's behaviour, with the place."""

from __future__ import annotations

from attrs import frozen


@frozen
class Obstacle:
    """What stands in the way of a refactoring."""

    rule: str
    """Name of the condition that is not met, for programs."""
    reason: str
    """The reason with the line, for people."""
    advice: str = ""
    """What to do about it."""
