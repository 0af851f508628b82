"""What a run in the warm process tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DanteError


class WorkerDied(DanteError):
    """The inference process ended while it was needed; the next run starts a new one."""


class HostFailed(WorkerDied):
    """Another computer was not reached, or what runs there is of no use: the next run would meet the same."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: phase, share done 0 to 1, words for the user, and seconds left where they can be told."""

    phase: str
    fraction: float
    message: str
    seconds_left: float | None = None
