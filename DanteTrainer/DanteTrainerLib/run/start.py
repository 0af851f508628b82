"""Before the first step: everything is checked that can be, then the run folder is made."""

from __future__ import annotations

import json
from pathlib import Path

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import ConfigError, ResourceError
from DanteSegmenterLib.strict_dataclass import to_plain

from ..data.dataset import check_cases, read_dataset, read_split, remarks_on_labels
from ..methods import method_named
from ..settings.experiment import Experiment
from ..status import RUN_FILE
from .cases import pretraining_cases_of, what_names_cannot_tell
from .run_folder import Run


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
    stages = method_named(experiment.method)(experiment, dataset.task)
    pretrains = any(not stage.labelled_only for stage in stages)
    for sentence in what_names_cannot_tell(experiment, dataset, split, pretrains):
        print(f"warning: {sentence}", flush=True)
    for remark in remarks_on_labels(dataset, split.part("train")):
        print(f"note: {remark}", flush=True)
    if pretrains:
        _print_pretraining(*pretraining_cases_of(experiment, dataset, split))
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


def _print_pretraining(cases: list[Case], refused: list[str]) -> None:
    out = f"; {len(refused)} kept out: patients of the validation and test parts" if refused else ""
    print(f"Stage 1 reads {len(cases)} cases{out}", flush=True)


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
