"""Training in a process of its own: start, resume, stop, from Slicer's Python console or any other. No torch here.

The process ends, after a checkpoint, with the one that started it (its standard input closes, however that happens),
unless it was started detached. From a shell or a script, `start`, `resume` and `stop` wait until it is certain how they
went. A window must not wait: `until_begun=False` and a timeout of 0 return at once, and `status` tells the rest.
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

# Importing torch and reading a dataset's folders; a training that is refused says so sooner.
START_TIMEOUT_S = 300
# Between a run's last word and the moment when its process lets go of it there are some milliseconds.
ENDING_S = 2


@dataclass
class _Launch:
    """A process of this session. As long as it is referenced, its standard input stays open and it goes on.

    child: complains to its own file until it has a run folder to print to.
    before: when the run's status was written last before it began.
    """

    child: Child
    before: int
    stopped: bool = False

    @property
    def running(self) -> bool:
        return self.child.running

    def begun(self, run: Path) -> bool:
        """Whether it holds the run, or did; known from its status, for looking at the lock would take it away."""
        return status_changed(run) != self.before


# The last of every run, by its folder.
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
    until_begun: bool = True,
) -> Path:
    """Begin a training and return its run folder, once the dataset and all settings were accepted.

    Args: as `python -m DanteTrainerLib train`; `overrides` are its `--set`; `detach` lets it outlive this process.
        until_begun: False returns at once; what is refused then is in `status`: "failed", with the reason.

    Raises:
        DanteError: what the training process refused, in its words; with `until_begun=False` only what can be seen at
            once: that `data` or the folder around `out` is missing, or that `out` is a run already.
    """
    arguments = ["train", method, "--data", str(data), "--out", str(out), "--experiment", experiment]
    arguments += _set(overrides)
    run = Path(out)
    if not Path(data).exists():
        raise ConfigError(f"the dataset folder '{data}' does not exist.")
    if (run / RUN_FILE).exists() or is_starting(run):
        raise ResourceError(f"the run folder '{run}' exists already; resume it or choose another.")
    _launch([*arguments, *(["--smoke"] if smoke else []), "--device", device], run, detach, until_begun)
    return run


def resume(
    run: Path | str,
    device: str = "auto",
    detach: bool = False,
    until_begun: bool = True,
    data: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Go on with a run from its last checkpoint; `until_begun` as in `start`.

    Args: as `python -m DanteTrainerLib resume`: `data` where the dataset lies now, `overrides` its `--set`.

    Raises:
        InputError: no run folder.
        ResourceError: somebody trains it already.
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
    _launch(arguments, run, detach, until_begun)
    return run


def _set(overrides: Sequence[str]) -> list[str]:
    """As the command line has them; one alone may be a text, which would be taken apart letter by letter else."""
    each = [overrides] if isinstance(overrides, str) else overrides
    return [part for override in each for part in ("--set", override)]


def status(run: Path | str) -> RunStatus:
    """Where a run stands; of a training that this session has begun also "starting", and why it was refused.

    Raises:
        InputError: the folder is no run folder, and nothing of this session will make it one.
    """
    run = Path(run)
    launch = _LAUNCHES.get(run.resolve())
    if launch is None:
        return read_status(run)
    running = launch.running  # before the status is read: it may write its last and end in between
    if launch.begun(run):
        return stored_status(run) if running else read_status(run)
    if running:
        return RunStatus("starting")
    if launch.stopped:
        return RunStatus("stopped", message="Stopped before it began.")
    return RunStatus("failed", message=_complaint(launch.child))


def is_starting(run: Path) -> bool:
    """Whether a process of this session is about to train a run."""
    launch = _LAUNCHES.get(run.resolve())
    return launch is not None and launch.running and not launch.begun(run)


def stop(run: Path | str, timeout_s: float = 60) -> RunStatus:
    """Have a run write a checkpoint and end; returns its status when it has, or after the timeout.

    A training that is still starting is ended without.
    """
    run = Path(run)
    status(run)  # it is a run
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
    """Status of a run once nobody trains it any more and a process of this session is gone, or after the timeout."""
    deadline = time.monotonic() + timeout_s
    while _trained(Path(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return status(run)


@dataclass
class Evaluation:
    """A process that scores a run; see `evaluate`.

    Attributes:
        out: the folder that it writes.
    """

    out: Path
    child: Child

    @property
    def running(self) -> bool:
        return self.child.running

    def error(self) -> DanteError | None:
        """What it refused, in its words; None if it did not, or still runs."""
        return DanteError(_complaint(self.child)) if self.child.poll() else None

    def close(self) -> None:
        """Let go of it; one that still runs ends."""
        self.child.close()


def begin_evaluation(run: Path | str, data: Path | str, split: str = "test", device: str = "auto") -> Evaluation:
    """Begin to score a finished run on a split; returns at once."""
    out = Path(run) / f"evaluation-{split}"
    arguments = ["evaluate", str(run), "--data", str(data), "--split", split, "--out", str(out)]
    return Evaluation(out, _process([*arguments, "--device", device, "--quiet", "--with-parent"], detach=False))


def evaluate(run: Path | str, data: Path | str, split: str = "test", device: str = "auto") -> Path:
    """Scores of a finished run on a split; waits, and returns the folder that `evaluate` wrote.

    Raises:
        DanteError: what the evaluation refused, in its words.
    """
    evaluation = begin_evaluation(run, data, split, device)
    with contextlib.closing(evaluation):
        evaluation.child.process.wait()
        error = evaluation.error()
    if error is not None:
        raise error
    return evaluation.out


def _trained(run: Path) -> bool:
    """Whether a process trains a run, or is about to."""
    launch = _LAUNCHES.get(run.resolve())
    return (launch is not None and launch.running) or in_use(run)


def _launch(arguments: list[str], run: Path, detach: bool, until_begun: bool) -> None:
    """Start the process; with `until_begun` wait until it holds the run, or has said why not."""
    if not run.parent.is_dir():
        raise ConfigError(f"the folder '{run.parent}' does not exist. Create it or choose another.")
    before = status_changed(run)
    child = _process([*arguments, "--quiet", "--log", *([] if detach else ["--with-parent"])], detach)
    if run.resolve() in _LAUNCHES:
        _LAUNCHES[run.resolve()].child.close()
    launch = _LAUNCHES[run.resolve()] = _Launch(child, before)
    if not until_begun:
        return
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_starting(run):
        if time.monotonic() > deadline:
            child.end()
            raise ResourceError(f"the training did not begin within {START_TIMEOUT_S} s; see '{run / LOG_FILE}'.")
        time.sleep(0.05)
    if not launch.begun(run):
        raise DanteError(_complaint(child))


def _process(arguments: list[str], detach: bool) -> Child:
    paths = [Path(__file__).resolve().parents[2]]
    return Child.of_module("DanteTrainerLib", arguments, detached=detach, paths=paths)


def _complaint(child: Child) -> str:
    """Why a process that has ended did not do its work."""
    return child.complaint() or "the process ended without a word"
