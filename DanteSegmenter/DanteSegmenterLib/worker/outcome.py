"""Progress and failures of a run in the inference process."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DanteError


class WorkerDied(DanteError):
    """The inference process ended during a run; the next run starts a new one."""


class HostFailed(WorkerDied):
    """A remote host was not reached, or cannot be used; the next run would fail too."""


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run: phase, share done 0 to 1, message for the user, and seconds left if known."""

    phase: str
    fraction: float
    message: str
    seconds_left: float | None = None
