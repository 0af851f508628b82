"""One run from its last checkpoint, or its beginning, to its end: stages in order -> model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from DanteSegmenterLib.errors import Cancelled, DanteError, ResourceError
from DanteSegmenterLib.inference.devices import resolve_device

from ..data.dataset import read_dataset
from ..loop.checkpoint import load_checkpoint, read_state, save_checkpoint
from ..loop.distributed import Group, check_batch
from ..loop.history import seconds_trained
from ..loop.stage import Stage
from ..loop.trainer import Progress, Trainer
from ..methods import method_named
from ..release.write_model import write_model
from ..settings.tasks import TASKS
from ..status import LOCK_FILE, STOP_FILE, RunStatus, StatusWriter, write_status
from .cases import cached_cases, cached_for_pretraining, sources_of, workers_of
from .run_folder import MODEL_FOLDER, Run, read_run


def continue_run(
    folder: Path,
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
    group: Group = Group(),  # noqa: B008 - frozen
) -> Path:
    """Train from the last checkpoint, or from the beginning, to the model folder, which is returned.

    Raises:
        ResourceError: another process works on this run; no space left; no intact checkpoint.
        Cancelled: `stop` said so; the run can be resumed.
    """
    run = read_run(folder)
    check_batch(run.experiment.data.batch_size, group)
    if not group.leads:
        return _train(run, folder, device, quiet, stop, group)
    try:
        with FileLock(folder / LOCK_FILE, blocking=False):
            (folder / STOP_FILE).unlink(missing_ok=True)
            write_status(folder, RunStatus("running"))
            return _told(folder, lambda: _train(run, folder, device, quiet, stop, group))
    except Timeout:
        raise ResourceError(f"another process works on the run '{folder}'. Wait for it, or stop it first.") from None


def _told(folder: Path, train: Callable[[], Path]) -> Path:
    """Run `train` and leave the run's last word in its status file."""
    status = StatusWriter(folder)
    try:
        model = train()
    except Cancelled as error:
        status.end("stopped", str(error))
        raise
    except Exception as error:
        status.end("failed", str(error) if isinstance(error, DanteError) else f"{type(error).__name__}: {error}")
        raise
    status.end("finished")
    return model


def _train(run: Run, folder: Path, device: str, quiet: bool, stop: Callable[[], bool], group: Group) -> Path:
    experiment, task = run.experiment, TASKS[run.experiment.task]
    dataset = read_dataset(run.data)
    state, note = load_checkpoint(folder)
    if note:
        print(f"note: {note}", flush=True)
    stages = method_named(experiment.method)(experiment, task)
    workers = workers_of(experiment)
    if not group.leads:
        group.wait()  # until the first process has prepared the cases
    train, val = cached_cases(run, dataset, task, workers, quiet)
    pretrained = not stages[0].labelled_only
    unlabelled = cached_for_pretraining(run, dataset, task, workers, quiet, train) if pretrained else []
    if group.leads:
        group.wait()
    asked = folder / STOP_FILE  # by another process
    trainer = Trainer(
        experiment, resolve_device(device), folder, workers, quiet, lambda: stop() or asked.exists(), group
    )
    progress = Progress(state["stage"], state["step"], state["rows"]) if state else Progress()
    for index, stage in enumerate(stages):
        if index < progress.stage:
            continue
        resumed = state if state and state["stage"] == index else None
        if resumed is None:
            progress.stage, progress.step = index, 0
            if index:
                _carry(folder, stages[index - 1], stage)
        cases = train if stage.labelled_only else [*train, *unlabelled]
        source, validation = sources_of(experiment, task, stage, cases, val)
        source = replace(source, rank=group.rank, world_size=group.size)
        trainer.train(stage, source, validation, progress, resumed)
        if group.leads:
            state_of_stage = {"step": stage.steps, "networks": stage.networks.state_dict()}
            save_checkpoint(folder, state_of_stage, f"{stage.name}.pt")
        group.wait()
    if not group.leads:
        return folder / MODEL_FOLDER
    return write_model(
        run.name, experiment, run.split, stages[-1], task, folder / MODEL_FOLDER, seconds_trained(progress.rows)
    )


def _carry(folder: Path, before: Stage, stage: Stage) -> None:
    """Begin with the weights that the stage before ended with."""
    if not stage.carried:
        return
    state = read_state(folder / f"{before.name}.pt")
    if state is None:
        raise ResourceError(f"'{folder / before.name}.pt' is damaged or missing; start the run again.")
    for name, origin in stage.carried.items():
        weights = {key.removeprefix(f"{origin}."): value for key, value in state["networks"].items()
                   if key.startswith(f"{origin}.")}  # fmt: skip
        stage.networks[name].load_state_dict(weights)
