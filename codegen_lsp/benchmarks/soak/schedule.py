"""The actions of a soak test and their order, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import Enum

from attrs import asdict, frozen

EDITS_PER_ROUND = 500


class Action(Enum):
    """One step of a run."""

    EDIT = "edit"
    REQUEST = "request"
    """A completion request that is not cancelled."""
    CANCEL = "cancel"
    """A completion request that is cancelled at once or after some other messages."""
    ASK = "ask"
    """Another request: code actions, an explanation."""
    REOPEN = "reopen"
    LOSE = "lose"
    """A malformed change of an open document, which is then closed and opened again."""
    MALFORMED = "malformed"
    """Many malformed messages at once."""
    KILL = "kill"
    """SIGKILL to the worker."""
    PAUSE = "pause"
    """SIGSTOP to the worker, and SIGCONT after some other actions."""
    STOP = "stop"
    """SIGSTOP to the worker, which never continues."""
    FILL_DISK = "fill disk"
    """No file can be written until `FREE_DISK`."""
    FREE_DISK = "free disk"
    VANISH = "vanish"
    """A client of the server on TCP, or a stranger at the worker's socket, that is gone in the middle."""
    WINDOW = "window"
    """Another server on stdio, whose editor ends without a word."""


@frozen
class Counts:
    """Number of actions in a run; `malformed` counts messages. The others follow from the edits."""

    edits: int = 10_000
    cancels: int = 1_000
    kills: int = 10
    malformed: int = 100_000
    stops: int = 2
    disks: int = 5
    """Times that the disk is full."""
    vanishing: int = 100
    windows: int = 5


def rounds_of(counts: Counts) -> int:
    """Return the number of rounds that a run is divided into; two at least, so that it has a middle."""
    return max(2, -(-counts.edits // EDITS_PER_ROUND))


def share(counts: Counts, number: int, rounds: int) -> Counts:
    """Return the actions of one round; those of all rounds add up to the counts."""
    return Counts(
        **{name: all * (number + 1) // rounds - all * number // rounds for name, all in asdict(counts).items()}
    )


def actions(counts: Counts, batch: int, choose: random.Random) -> Iterator[Action]:
    """Yield the actions of one round in random order. Malformed messages come in batches of at most this size."""
    order = [Action.EDIT] * counts.edits + [Action.CANCEL] * counts.cancels
    order += [Action.REQUEST] * (counts.edits // 50) + [Action.ASK] * (counts.edits // 50)
    order += [Action.REOPEN] * (counts.edits // 50) + [Action.LOSE] * (counts.edits // 100)
    order += [Action.MALFORMED] * -(-counts.malformed // batch)
    order += [Action.KILL] * counts.kills + [Action.STOP] * counts.stops + [Action.PAUSE] * counts.stops
    order += [Action.VANISH] * counts.vanishing + [Action.WINDOW] * counts.windows
    choose.shuffle(order)
    freed = 0
    for _ in range(counts.disks):
        full = choose.randint(freed, len(order))
        order.insert(full, Action.FILL_DISK)
        freed = choose.randint(full + 1, len(order))
        order.insert(freed, Action.FREE_DISK)
        freed += 1
    yield from order
