"""One run from beginning to end: stages in order -> model folder, with its provenance beside it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from DanteSegmenterLib import __version__
from DanteSegmenterLib.cases.case_folder import Case
from DanteSegmenterLib.errors import Cancelled, ConfigError, DanteError, InputError, ResourceError
from DanteSegmenterLib.inference.devices import resolve_device
from DanteSegmenterLib.model_folder import ModelSpec, Pathway, Preprocessing, sha256_of, write_spec
from DanteSegmenterLib.networks.weights import save_weights
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from ..data.cache import CachedCase, cache_cases
from ..data.dataset import Dataset, Split, check_cases, read_dataset, read_split
from ..data.patches import PRETRAINING, SUPERVISED, VALIDATION, PatchSource
from ..data.patients import check_split, pretraining_cases
from ..loop.checkpoint import load_checkpoint, read_state, save_checkpoint
from ..loop.distributed import Group, check_batch
from ..loop.history import seconds_trained
from ..loop.stage import Stage
from ..loop.trainer import Progress, Trainer
from ..methods import method_named
from ..release.model_card import model_card
from ..settings.experiment import Experiment
from ..settings.tasks import TASKS, Task
from ..status import LOCK_FILE, RUN_FILE, STOP_FILE, RunStatus, StatusWriter, write_status

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Run:
    """What `run.json` holds: all that `resume` needs."""

    experiment: Experiment
    data: str
    split: Split
    cache: str
    name: str


def start_run(experiment: Experiment, data: Path, out: Path, name: str = "", cache: Path | None = None) -> Run:
    """Check everything that can be checked before the first step, and write `run.json`.

    Raises:
        InputError, ConfigError: the dataset or a setting cannot be used.
        ResourceError: the run folder exists already and is not empty, or cannot be made.
    """
    dataset = read_dataset(data)
    if dataset.task.id != experiment.task:
        raise ConfigError(f"the experiment is for '{experiment.task}', '{data}' holds '{dataset.task.id}' cases.")
    split = read_split(dataset, seed=experiment.data.split_seed)
    check_cases(dataset, split.part("train"), dataset.task.full)
    check_split(dataset, split)
    stages = method_named(experiment.method)(experiment, dataset.task)
    if any(not stage.labelled_only for stage in stages):
        _print_pretraining(*_pretraining(experiment, dataset, split))
    _check_patch(experiment)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        hint = "resume it" if (out / RUN_FILE).is_file() else "choose another folder"
        raise ResourceError(f"the run folder '{out}' exists and is not empty; {hint}.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"the run folder '{out}' cannot be made: {error.strerror}.") from None
    run = Run(
        experiment, str(data.resolve()), split, str((cache or out / "cache").resolve()), name or experiment.method
    )
    (out / RUN_FILE).write_text(json.dumps(to_plain(run), indent=1) + "\n", encoding="utf-8")
    return run


def _pretraining(experiment: Experiment, dataset: Dataset, split: Split) -> tuple[list[Case], list[str]]:
    """What Stage 1 reads, and the names kept out of it.

    Raises:
        InputError: a further folder cannot be used, is of another task, or a case of it lacks a modality.
    """
    data = experiment.data
    others = [read_dataset(folder) for folder in data.pretrain_folders]
    for other in others:
        if other.task.id != dataset.task.id:
            raise InputError(f"'{other.folder}' holds '{other.task.id}' cases, '{dataset.task.id}' are needed.")
        check_cases(other, list(other.cases), dataset.task.full, labelled=False)
    return pretraining_cases(dataset, split, others, data.pretrain_on_val, data.include_downstream_test_in_pretrain)


def _print_pretraining(cases: list[Case], refused: list[str]) -> None:
    out = f"; {len(refused)} kept out: patients of the validation and test parts" if refused else ""
    print(f"Stage 1 reads {len(cases)} cases{out}", flush=True)


def read_run(folder: Path) -> Run:
    """Read `run.json`.

    Raises:
        InputError: the folder is no run folder.
    """
    path = folder / RUN_FILE
    try:
        return from_plain(Run, json.loads(path.read_text(encoding="utf-8")), RUN_FILE, InputError)
    except FileNotFoundError:
        raise InputError(f"'{folder}' is no run folder: it has no {RUN_FILE}. Start one with `train`.") from None
    except ValueError as error:
        raise InputError(f"'{path}' is damaged ({error}).") from None


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
    workers = _workers(experiment)
    if not group.leads:
        group.wait()  # until the first process has prepared the cases
    train, val = _cached(run, dataset, task, workers, quiet)
    pretrained = not stages[0].labelled_only
    unlabelled = _cached_for_pretraining(run, dataset, task, workers, quiet, train) if pretrained else []
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
        source, validation = _sources(experiment, task, stage, cases, val)
        source = replace(source, rank=group.rank, world_size=group.size)
        trainer.train(stage, source, validation, progress, resumed)
        if group.leads:
            state_of_stage = {"step": stage.steps, "networks": stage.networks.state_dict()}
            save_checkpoint(folder, state_of_stage, f"{stage.name}.pt")
        group.wait()
    if not group.leads:
        return folder / MODEL_FOLDER
    return write_model(run, stages[-1], dataset, folder / MODEL_FOLDER, seconds_trained(progress.rows))


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


def _cached(
    run: Run, dataset: Dataset, task: Task, workers: int, quiet: bool
) -> tuple[list[CachedCase], list[CachedCase]]:
    preprocessing = preprocessing_of(run.experiment, task)

    def cached(cases: list[Case]) -> list[CachedCase]:
        return cache_cases(cases, task, preprocessing, Path(run.cache), workers, quiet)

    val = [dataset.cases[name] for name in run.split.val]
    usable = [case for case in val if case.label is not None and set(task.full) <= set(case.images)]
    return cached([dataset.cases[name] for name in run.split.train]), cached(usable)


def _cached_for_pretraining(
    run: Run, dataset: Dataset, task: Task, workers: int, quiet: bool, train: list[CachedCase]
) -> list[CachedCase]:
    """The cases that only Stage 1 reads; their masks, where they have some, are not used."""
    known = {case.name for case in train}
    cases = [case for case in _pretraining(run.experiment, dataset, run.split)[0] if case.name not in known]
    cached = cache_cases(cases, task, preprocessing_of(run.experiment, task), Path(run.cache), workers, quiet)
    return [replace(case, labelled=False) for case in cached]


def _sources(
    experiment: Experiment, task: Task, stage: Stage, train: list[CachedCase], val: list[CachedCase]
) -> tuple[PatchSource, PatchSource | None]:
    data = experiment.data
    cases = [case for case in train if case.labelled or not stage.labelled_only]
    source = PatchSource(
        cases, len(task.regions), data.patch, data.batch_size, experiment.seed,
        stage.augmentation if data.augment else "none", data.foreground_share,
        SUPERVISED if stage.labelled_only else PRETRAINING,
    )  # fmt: skip
    if not val:
        return source, None
    return source, PatchSource(
        val, len(task.regions), data.patch, data.batch_size, 0, "none", foreground_share=1.0, stream=VALIDATION
    )


def preprocessing_of(experiment: Experiment, task: Task) -> Preprocessing:
    """What `prepare` does in this experiment."""
    return Preprocessing(task.orientation, experiment.data.spacing_mm, task.normalisation)


def _workers(experiment: Experiment) -> int:
    if experiment.data.workers >= 0:
        return experiment.data.workers
    cores = os.cpu_count() or 1
    return min(8, max(1, cores // 2)) if cores > 1 else 0


def _check_patch(experiment: Experiment) -> None:
    for axis, size in enumerate(experiment.data.patch):
        step = 1
        for stride in experiment.network.strides:
            step *= stride[axis]
        if size % step:
            raise ConfigError(
                f"data.patch {experiment.data.patch} must be divisible by the network's strides; axis {axis} needs a "
                f"multiple of {step}, got {size}."
            )


def write_model(run: Run, stage: Stage, dataset: Dataset, target: Path, seconds: float) -> Path:
    """Write the model folder, all of it or nothing."""
    temporary = Path(tempfile.mkdtemp(prefix=".model-", dir=target.parent))
    try:
        pathways = {}
        for name, deployed in stage.deployed.items():
            path = temporary / f"{name}.safetensors"
            save_weights(deployed.network(), path)
            pathways[name] = Pathway(path.name, sha256_of(path), deployed.modalities, deployed.architecture)
        spec = _spec(run, dataset.task, pathways)
        write_spec(temporary, spec)
        (temporary / "README.md").write_text(model_card(spec, run.experiment), encoding="utf-8")
        (temporary / "provenance.json").write_text(json.dumps(_provenance(run, seconds), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.chmod(temporary, 0o755)
        os.replace(temporary, target)
    except OSError as error:
        raise ResourceError(f"the model could not be written to '{target}': {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _spec(run: Run, task: Task, pathways: dict[str, Pathway]) -> ModelSpec:
    experiment = run.experiment
    return ModelSpec(
        name=run.name,
        version="1",
        task=task.id,
        modalities=task.modalities,
        # A network that reads the privileged modality always has no privilege to speak of.
        privileged=task.privileged if task.privileged not in pathways["limited"].modalities else None,
        regions=task.regions,
        output=task.output,
        preprocessing=preprocessing_of(experiment, task),
        patch=experiment.data.patch,
        network=experiment.network,
        limited=pathways["limited"],
        full=pathways.get("full"),
        intended_use="Research use only. Not a medical device, not for diagnosis.",
        training_data=f"{len(run.split.train)} cases of a local dataset",
    )


def _provenance(run: Run, seconds: float) -> dict[str, Any]:
    """How the weights came about; no paths and no host names."""
    return {
        "experiment": to_plain(run.experiment),
        "cases": to_plain(run.split),
        "hours": round(seconds / 3600, 2),
        "versions": {"slicer-dante": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
