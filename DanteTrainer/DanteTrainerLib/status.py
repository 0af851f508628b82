"""Status of a run, stored in a small file in its folder for any process to read. Does not import torch."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.guard.busy_files import retry_while_busy
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from .locks import in_use
from .whole_files import write_text_whole

STATUS_FILE, STOP_FILE, RUN_FILE, LOG_FILE = "status.json", "stop", "run.json", "train.log"


@dataclass(frozen=True)
class RunStatus:
    """State of a run.

    Attributes:
        state: "new", "starting" (launched by this session a moment ago), "running", "stopped" (resumable), "finished",
            "failed" or "interrupted" (killed; resumable).
        stage: name of the current stage.
        step, steps: within this stage.
        loss: of the last logged steps; None before the first.
        seconds_left: until the end of this stage at the present speed; None if unknown.
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
    """Replace the status file atomically, so that readers never see a partial file.

    Raises:
        ResourceError: no space left or not writable.
    """
    write_text_whole(folder / STATUS_FILE, _text(status), sync=False)


def _text(status: RunStatus) -> str:
    return json.dumps(to_plain(status)) + "\n"


def read_status(folder: Path) -> RunStatus:
    """Read a run's status; "interrupted" if it says running but no process holds the run.

    Raises:
        InputError: not a run folder.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise InputError(f"'{folder}' is no run folder: it has no {RUN_FILE}.")
    status = stored_status(folder)
    if status.state == "running" and not in_use(folder):
        return replace(status, state="interrupted", message="the training process ended without a word; resume it")
    return status


def status_changed(folder: Path) -> int:
    """Modification time of the status in nanoseconds; 0 if there is none."""
    try:
        return (folder / STATUS_FILE).stat().st_mtime_ns
    except OSError:
        return 0


def ask_to_stop(folder: Path) -> None:
    """Ask the process that trains this run to write a checkpoint after the current step and end."""
    (folder / STOP_FILE).touch()


class StatusWriter:
    """Writes the status at a stage's first step, then at most once per second."""

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
        with contextlib.suppress(ResourceError):  # the training matters more than its status
            write_status(self._folder, RunStatus("running", stage, step, steps, loss, left))

    def end(self, state: str, message: str = "") -> None:
        """Write the final status, keeping the progress; on a full disk, overwrites the existing file in place."""
        status = replace(stored_status(self._folder), state=state, message=message, seconds_left=None)
        try:
            write_status(self._folder, status)
        except ResourceError:
            with contextlib.suppress(OSError), open(self._folder / STATUS_FILE, "r+", encoding="utf-8") as file:
                file.write(_text(status))
                file.truncate()


def stored_status(folder: Path) -> RunStatus:
    """The stored status; that of a new run if the file is missing or unreadable."""
    try:
        plain = json.loads(retry_while_busy(lambda: (folder / STATUS_FILE).read_text(encoding="utf-8")))
        return from_plain(RunStatus, plain, STATUS_FILE, InputError)
    except (OSError, ValueError, InputError):
        return RunStatus()
