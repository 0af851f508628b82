"""Train in a background process: start, resume and stop from a Python console such as Slicer's. Does not import torch.

The process ends, after a checkpoint, together with the one that started it (its standard input closes, in whatever way
that ends), unless it was started detached. `start`, `resume` and `stop` wait until their outcome is certain, which
suits shells and scripts. A GUI must not wait: `until_started=False` and a timeout of 0 return at once, and `status` has
the outcome.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from DanteSegmenterLib.child_process import Child
from DanteSegmenterLib.errors import ConfigError, DanteError, ResourceError

from ..locks import in_use
from ..status import LOG_FILE, RUN_FILE, RunStatus, ask_to_stop, read_status, status_changed, stored_status

# Includes importing torch and reading the dataset's folders; a refused training ends sooner.
START_TIMEOUT_S = 300
# A few milliseconds pass between a run's final status and its process releasing the lock.
ENDING_S = 2


@dataclass
class _Launch:
    """A training process started by this session. While it is referenced, its standard input stays open and it runs.

    child: writes errors to its own file until it has a run folder to log to.
    before: when the run's status was last written before the launch.
    """

    child: Child
    before: int
    stopped: bool = False

    @property
    def running(self) -> bool:
        return self.child.running

    def has_started(self, run: Path) -> bool:
        """Whether the process has taken hold of the run; read from the status, as probing the lock could interfere."""
        return status_changed(run) != self.before


# The latest launch of every run, by run folder.
_LAUNCHES: dict[Path, _Launch] = {}


def start(
    method: str,
    data: Path | str,
    out: Path | str,
    overrides: Sequence[str] = (),
    experiment: str = "brats-2mm",
    smoke: bool = False,
    device: str = "auto",
    detach: bool = False,
    until_started: bool = True,
) -> Path:
    """Start a training; returns its run folder once the dataset and all settings have been accepted.

    Args: as for `python -m DanteTrainerLib train`; `overrides` are its `--set`; with `detach` it outlives this process.
        until_started: False returns at once; a later refusal appears in `status` as "failed", with the reason.

    Raises:
        DanteError: the training process refused; has its message. With `until_started=False` only what can be checked
            at once: `data` or the parent folder of `out` is missing, or `out` is already a run.
    """
    arguments = ["train", method, "--data", str(data), "--out", str(out), "--experiment", experiment]
    arguments += _set(overrides)
    run = Path(out)
    if not Path(data).exists():
        raise ConfigError(f"the dataset folder '{data}' does not exist.")
    if (run / RUN_FILE).exists() or is_starting(run):
        raise ResourceError(f"the run folder '{run}' exists already; resume it or choose another.")
    _launch([*arguments, *(["--smoke"] if smoke else []), "--device", device], run, detach, until_started)
    return run


def resume(
    run: Path | str,
    device: str = "auto",
    detach: bool = False,
    until_started: bool = True,
    data: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Resume a run from its last checkpoint; `until_started` as in `start`.

    Args: as for `python -m DanteTrainerLib resume`: `data` is the dataset's new location, `overrides` its `--set`.

    Raises:
        InputError: not a run folder.
        ResourceError: the run is already being trained.
    """
    run = Path(run)
    read_status(run)
    deadline = time.monotonic() + ENDING_S
    while stored_status(run).state not in ("new", "running") and in_use(run) and time.monotonic() < deadline:
        time.sleep(0.01)
    if is_starting(run) or in_use(run):
        raise ResourceError(f"the run '{run}' is being trained already.")
    arguments = ["resume", str(run), "--device", device, *(["--data", str(data)] if data is not None else [])]
    arguments += _set(overrides)
    _launch(arguments, run, detach, until_started)
    return run


def _set(overrides: Sequence[str]) -> list[str]:
    """As the command line has them; one alone may be a text, which would be taken apart letter by letter else."""
    each = [overrides] if isinstance(overrides, str) else overrides
    return [part for override in each for part in ("--set", override)]


def status(run: Path | str) -> RunStatus:
    """Status of a run; for trainings started by this session also "starting", and the reason for a refusal.

    Raises:
        InputError: not a run folder, nor one that this session is about to create.
    """
    run = Path(run)
    launch = _LAUNCHES.get(run.resolve())
    if launch is None:
        return read_status(run)
    running = launch.running  # before the status is read: the process may write its final status and end in between
    if launch.has_started(run):
        return stored_status(run) if running else read_status(run)
    if running:
        return RunStatus("starting")
    if launch.stopped:
        return RunStatus("stopped", message="Stopped before it began.")
    return RunStatus("failed", message=_error_message(launch.child))


def is_starting(run: Path) -> bool:
    """Whether a process of this session is about to train the run."""
    launch = _LAUNCHES.get(run.resolve())
    return launch is not None and launch.running and not launch.has_started(run)


def stop(run: Path | str, timeout_s: float = 60) -> RunStatus:
    """Ask a run to write a checkpoint and end; returns its status once it has, or after the timeout.

    A training that is still starting ends without a checkpoint.
    """
    run = Path(run)
    status(run)  # raises if it is not a run
    if is_starting(run):
        launch = _LAUNCHES[run.resolve()]
        launch.stopped = True
        with contextlib.suppress(OSError):
            process = launch.child.process
            process.stdin.close() if process.stdin else process.terminate()
    elif in_use(run):
        ask_to_stop(run)
    return wait(run, timeout_s)


def wait(run: Path | str, timeout_s: float) -> RunStatus:
    """Wait until no process trains the run, at most `timeout_s`; returns its status."""
    deadline = time.monotonic() + timeout_s
    while _trained(Path(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return status(run)


@dataclass
class Evaluation:
    """A background process that evaluates a run; see `evaluate`.

    Attributes:
        out: output folder.
    """

    out: Path
    child: Child

    @property
    def running(self) -> bool:
        return self.child.running

    def error(self) -> DanteError | None:
        """The error it reported; None if there is none, or it is still running."""
        return DanteError(_error_message(self.child)) if self.child.poll() else None

    def close(self) -> None:
        """Release the process; it ends if it is still running."""
        self.child.close()


def begin_evaluation(run: Path | str, data: Path | str, split: str = "test", device: str = "auto") -> Evaluation:
    """Start the evaluation of a finished run on a split; returns at once."""
    out = Path(run) / f"evaluation-{split}"
    arguments = ["evaluate", str(run), "--data", str(data), "--split", split, "--out", str(out)]
    return Evaluation(out, _process([*arguments, "--device", device, "--quiet", "--with-parent"], detach=False))


def evaluate(run: Path | str, data: Path | str, split: str = "test", device: str = "auto") -> Path:
    """Evaluate a finished run on a split, wait for it, and return the output folder.

    Raises:
        DanteError: the evaluation failed; has its message.
    """
    evaluation = begin_evaluation(run, data, split, device)
    with contextlib.closing(evaluation):
        evaluation.child.process.wait()
        error = evaluation.error()
    if error is not None:
        raise error
    return evaluation.out


def _trained(run: Path) -> bool:
    """Whether a process trains the run, or is about to."""
    launch = _LAUNCHES.get(run.resolve())
    return (launch is not None and launch.running) or in_use(run)


def _launch(arguments: list[str], run: Path, detach: bool, until_started: bool) -> None:
    """Start the process; with `until_started` wait until it holds the run or has reported an error."""
    if not run.parent.is_dir():
        raise ConfigError(f"the folder '{run.parent}' does not exist. Create it or choose another.")
    before = status_changed(run)
    child = _process([*arguments, "--quiet", "--log", *([] if detach else ["--with-parent"])], detach)
    if run.resolve() in _LAUNCHES:
        _LAUNCHES[run.resolve()].child.close()
    launch = _LAUNCHES[run.resolve()] = _Launch(child, before)
    if not until_started:
        return
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_starting(run):
        if time.monotonic() > deadline:
            child.end()
            raise ResourceError(f"the training did not begin within {START_TIMEOUT_S} s; see '{run / LOG_FILE}'.")
        time.sleep(0.05)
    if not launch.has_started(run):
        raise DanteError(_error_message(child))


def _process(arguments: list[str], detach: bool) -> Child:
    paths = [Path(__file__).resolve().parents[2]]
    return Child.of_module("DanteTrainerLib", arguments, detached=detach, paths=paths)


def _error_message(child: Child) -> str:
    """Error message of a process that has ended."""
    return child.last_error_line() or "the process ended without a word"
