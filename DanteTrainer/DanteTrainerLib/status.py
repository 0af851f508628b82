"""Where a run stands, as a small file in its folder: any process, now or later, can read it. No torch."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.guard.busy_files import patiently
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from .locks import in_use
from .whole_files import write_text_whole

STATUS_FILE, STOP_FILE, RUN_FILE, LOG_FILE = "status.json", "stop", "run.json", "train.log"


@dataclass(frozen=True)
class RunStatus:
    """State of a run.

    Attributes:
        state: "new", "starting" (of a training that this session has just begun), "running", "stopped" (resumable),
            "finished", "failed" or "interrupted" (killed; resumable).
        stage: name of the stage it is in.
        step, steps: of this stage.
        loss: of the last logged steps; None before.
        seconds_left: of this stage at the present speed; None if not known.
        message: why it failed or stopped.
    """

    state: str = "new"
    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None
    message: str = ""


def write_status(folder: Path, status: RunStatus) -> None:
    """Replace the status file in one move, so that a reader never sees half of it.

    Raises:
        ResourceError: no space left or not writable.
    """
    write_text_whole(folder / STATUS_FILE, _text(status), sync=False)


def _text(status: RunStatus) -> str:
    return json.dumps(to_plain(status)) + "\n"


def read_status(folder: Path) -> RunStatus:
    """Read a run's status; "interrupted" if it says running but no process holds the run.

    Raises:
        InputError: the folder is no run folder.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise InputError(f"'{folder}' is no run folder: it has no {RUN_FILE}.")
    status = stored_status(folder)
    if status.state == "running" and not in_use(folder):
        return replace(status, state="interrupted", message="the training process ended without a word; resume it")
    return status


def status_changed(folder: Path) -> int:
    """When the status was written last, in nanoseconds; 0 for never."""
    try:
        return (folder / STATUS_FILE).stat().st_mtime_ns
    except OSError:
        return 0


def ask_to_stop(folder: Path) -> None:
    """Have whoever trains this run write a checkpoint after the present step and end."""
    (folder / STOP_FILE).touch()


class StatusWriter:
    """Writes the status at a stage's first step, which tells that it moves, and then at most once a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last, self._start = -math.inf, time.monotonic()
        self._first_step: int | None = None

    def step(self, stage: str, step: int, steps: int, loss: float | None) -> None:
        now = time.monotonic()
        if self._first_step is None or step < self._first_step:
            self._first_step, self._start, self._last = step, now, -math.inf
        if now - self._last < 1 and step != steps:
            return
        self._last = now
        done = step - self._first_step
        left = (now - self._start) / done * (steps - step) if done else None
        with contextlib.suppress(ResourceError):  # where the training stands is no reason to end it
            write_status(self._folder, RunStatus("running", stage, step, steps, loss, left))

    def end(self, state: str, message: str = "") -> None:
        """The run's last word; keeps where it stood. On a full disk it takes the place that the file has already."""
        status = replace(stored_status(self._folder), state=state, message=message, seconds_left=None)
        try:
            write_status(self._folder, status)
        except ResourceError:
            with contextlib.suppress(OSError), open(self._folder / STATUS_FILE, "r+", encoding="utf-8") as file:
                file.write(_text(status))
                file.truncate()


def stored_status(folder: Path) -> RunStatus:
    """What the status file says; a new run's status where there is none that can be read."""
    try:
        plain = json.loads(patiently(lambda: (folder / STATUS_FILE).read_text(encoding="utf-8")))
        return from_plain(RunStatus, plain, STATUS_FILE, InputError)
    except (OSError, ValueError, InputError):
        return RunStatus()
