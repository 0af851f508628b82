"""Training in a process of its own: start, resume, stop, from Slicer's Python console or any other. No torch here.

The process ends, after a checkpoint, with the one that started it (its standard input closes, however that happens),
unless it was started detached.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from DanteSegmenterLib.errors import ConfigError, DanteError, ResourceError
from DanteSegmenterLib.worker_client import child_environment, interpreter, window_options

from .status import LOG_FILE, RUN_FILE, RunStatus, ask_to_stop, in_use, read_status

# Importing torch and reading a dataset's folders; a training that is refused says so sooner.
START_TIMEOUT_S = 300


def start(
    method: str,
    data: Path | str,
    out: Path | str,
    overrides: Sequence[str] = (),
    experiment: str = "brats-2mm",
    smoke: bool = False,
    device: str = "auto",
    detach: bool = False,
) -> Path:
    """Begin a training and return its run folder once the dataset and all settings were accepted.

    Args: as `python -m DanteTrainerLib train`; `overrides` are its `--set`; `detach` lets it outlive this process.

    Raises:
        DanteError: what the training process refused, in its words.
    """
    arguments = ["train", method, "--data", str(data), "--out", str(out), "--experiment", experiment]
    arguments += [part for override in overrides for part in ("--set", override)]
    run = Path(out)
    if (run / RUN_FILE).exists():
        raise ResourceError(f"the run folder '{run}' exists already; resume it or choose another.")
    _launch([*arguments, *(["--smoke"] if smoke else []), "--device", device], run, detach)
    return run


def resume(run: Path | str, device: str = "auto", detach: bool = False) -> Path:
    """Go on with a run from its last checkpoint.

    Raises:
        InputError: no run folder. ResourceError: somebody trains it already.
    """
    run = Path(run)
    read_status(run)
    if in_use(run):
        raise ResourceError(f"the run '{run}' is being trained already.")
    _launch(["resume", str(run), "--device", device], run, detach)
    return run


def stop(run: Path | str, timeout_s: float = 60) -> RunStatus:
    """Have a run write a checkpoint and end; returns its status when it has, or after the timeout."""
    run = Path(run)
    read_status(run)
    if in_use(run):
        ask_to_stop(run)
    return wait(run, timeout_s)


def wait(run: Path | str, timeout_s: float) -> RunStatus:
    """Status of a run once nobody trains it any more, or after the timeout."""
    deadline = time.monotonic() + timeout_s
    while in_use(Path(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return read_status(Path(run))


def evaluate(run: Path | str, data: Path | str, split: str = "test", device: str = "auto") -> Path:
    """Scores of a finished run on a split; waits, and returns the folder that `evaluate` wrote.

    Raises:
        DanteError: what the evaluation refused, in its words.
    """
    out = Path(run) / f"evaluation-{split}"
    arguments = ["evaluate", str(run), "--data", str(data), "--split", split, "--out", str(out)]
    process = _process([*arguments, "--device", device, "--quiet"], detach=False)
    error = process.communicate()[1]
    if process.returncode:
        raise DanteError(_reason(error))
    return out


def _launch(arguments: list[str], run: Path, detach: bool) -> None:
    """Start the process and wait until it holds the run, or has said why not."""
    if not run.parent.is_dir():
        raise ConfigError(f"the folder '{run.parent}' does not exist. Create it or choose another.")
    process = _process([*arguments, "--quiet", "--log", *([] if detach else ["--with-parent"])], detach)
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if (run / RUN_FILE).is_file() and in_use(run):
            _RUNNING.append(process)  # keeps its standard input open
            return
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()
        raise ResourceError(f"the training did not begin within {START_TIMEOUT_S} s; see '{run / LOG_FILE}'.")
    if process.returncode == 0:  # so short that it is over already
        return
    raise DanteError(_reason(process.communicate()[1]))


# Processes of this session: as long as they are referenced, their standard input stays open and they go on.
_RUNNING: list[subprocess.Popen] = []


def _process(arguments: list[str], detach: bool) -> subprocess.Popen:
    options: dict = {"start_new_session": True} if os.name == "posix" and detach else {}
    return subprocess.Popen(
        [interpreter(), "-m", "DanteTrainerLib", *arguments],
        stdin=subprocess.DEVNULL if detach else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=child_environment(Path(__file__).resolve().parent.parent),
        **window_options(),
        **options,
    )


def _reason(error: bytes) -> str:
    """The last line of a process's complaint."""
    lines = error.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "the process ended without a word"
