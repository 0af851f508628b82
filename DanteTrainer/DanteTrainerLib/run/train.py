"""Train a run from its last checkpoint, or its beginning, to the end: all stages, then the model folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import Cancelled, ConfigError, sentence_of
from DanteSegmenterLib.inference.devices import resolve_device

from ..ending import on_stop, wait_if_ending
from ..locks import holding
from ..loop.average import with_average
from ..loop.checkpoint import load_checkpoint, save_checkpoint
from ..loop.distributed import Group, check_batch
from ..loop.history import draw_history, seconds_trained
from ..loop.stage import Stage
from ..loop.trainer import Progress, Trainer
from ..methods import method_named
from ..release.write_model import write_model
from ..settings.experiment import Experiment
from ..settings.tasks import TASKS, Task
from ..status import STOP_FILE, RunStatus, StatusWriter, write_status
from .cases import cached_cases, cached_for_pretraining, sources_of, workers_of
from .dataset_changes import changes, dataset_of
from .initial_weights import carry
from .run_folder import MODEL_FOLDER, Run, cache_of, read_run


def continue_run(
    folder: Path,
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
    group: Group = Group(),  # noqa: B008 - frozen
) -> Path:
    """Train from the last checkpoint, or from the beginning; returns the model folder.

    Raises:
        ConfigError: this version normalises images differently from the one that started the run.
        ResourceError: another process is working on this run; no space left; no intact checkpoint.
        Cancelled: `stop` returned True; the run can be resumed.
    """
    run = read_run(folder)
    run.check_normalisation()
    check_batch(run.experiment.data.batch_size, group)
    if not group.leads:
        return _train(run, folder, device, quiet, stop, group)
    with holding(folder):
        (folder / STOP_FILE).unlink(missing_ok=True)
        write_status(folder, RunStatus("running"))
        return _with_status(folder, lambda: _train(run, folder, device, quiet, stop, group))


def _with_status(folder: Path, train: Callable[[], Path]) -> Path:
    """Run `train` and write the run's final status."""
    status = StatusWriter(folder)
    with on_stop(lambda message: status.end("stopped", message)):
        try:
            model = train()
        except Cancelled as error:
            status.end("stopped", str(error))
            raise
        except Exception as error:
            wait_if_ending()
            status.end("failed", sentence_of(error))
            raise
    status.end("finished")
    return model


def _train(run: Run, folder: Path, device: str, quiet: bool, stop: Callable[[], bool], group: Group) -> Path:
    experiment, task, where = run.experiment, TASKS[run.experiment.task], resolve_device(device)
    dataset = dataset_of(run)
    stages = stages_of(experiment, task)
    state, progress = _place(run, folder, stages)
    if group.leads:
        for change in changes(run, dataset):
            print(f"note: {change}", flush=True)
    workers, cache = workers_of(experiment), cache_of(folder, run)
    if not group.leads:
        group.wait()  # until the first process has prepared the cases
    train, val = cached_cases(run, cache, dataset, task, workers, quiet)
    pretrained = not stages[0].labelled_only
    further = cached_for_pretraining(run, cache, dataset, task, workers, quiet, train) if pretrained else []
    if group.leads:
        group.wait()
    asked = folder / STOP_FILE  # written by another process
    trainer = Trainer(experiment, where, folder, workers, quiet, lambda: stop() or asked.exists(), group, run.id)
    for index, stage in enumerate(stages):
        if index < progress.stage:
            continue
        resumed = state if state and state["stage"] == index else None
        if resumed is None:
            progress.stage, progress.step = index, 0
            carry(run, folder, stages, index)
        cases = train if stage.labelled_only else [*train, *further]
        source, validation = sources_of(experiment, task, stage, cases, val)
        source = replace(source, rank=group.rank, world_size=group.size)
        trainer.train(stage, source, validation, progress, resumed)
        if group.leads:
            state_of_stage = {"run": run.id, "step": stage.steps, "networks": stage.networks.state_dict()}
            save_checkpoint(folder, state_of_stage, f"{stage.name}.pt")
            _remark(stage, progress)
        group.wait()
    if not group.leads:
        return folder / MODEL_FOLDER
    draw_history(folder, progress.rows)
    return write_model(
        run.name,
        experiment,
        run.split,
        stages[-1],
        task,
        folder / MODEL_FOLDER,
        seconds_trained(progress.rows),
        [case.name for case in further],
    )


def _remark(stage: Stage, progress: Progress) -> None:
    """Print the stage's remark on its own log."""
    rows = [row for row in progress.rows if row["stage"] == stage.name]
    remark = stage.remark(rows) if stage.remark else None
    if remark:
        print(f"note: {remark}", flush=True)


def stages_of(experiment: Experiment, task: Task) -> list[Stage]:
    """The method's stages, with the experiment's method-independent settings applied.

    Raises:
        ConfigError: `begin_with` is set, but the method does not support it.
    """
    stages = method_named(experiment.method)(experiment, task)
    if experiment.begin_with and not any(origin.folder for stage in stages for origin in stage.carried.values()):
        raise ConfigError(f"begin_with is for 'lower' and 'upper'; '{experiment.method}' begins with random weights.")
    if experiment.weight_average:
        stages[-1] = with_average(stages[-1], experiment.weight_average)
    return stages


def _place(run: Run, folder: Path, stages: Sequence[Stage]) -> tuple[dict[str, Any] | None, Progress]:
    """The checkpoint to resume from and its progress; (None, initial progress) for a new run."""
    state, note = load_checkpoint(folder, run.id)
    if note:
        print(f"note: {note}", flush=True)
    return state, Progress.of(state, stages) if state else Progress()
