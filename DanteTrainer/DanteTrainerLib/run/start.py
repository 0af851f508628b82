"""Start a run: check everything that can be checked before the first step, then create the run folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from uuid import uuid4

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import ConfigError, ResourceError
from DanteSegmenterLib.guard.plain_text import one_line

from ..data.dataset import check_cases, read_dataset, read_split, remarks_on_labels
from ..locks import HELD_FILE, LOCK_FILE, holding
from ..settings.experiment import Experiment
from ..status import RUN_FILE
from ..whole_files import make_writable
from .cases import leak_warnings, pretraining_cases_of
from .dataset_changes import fingerprints
from .initial_weights import check_models
from .run_folder import DEFAULT_CACHE, Run, write_run
from .train import stages_of

# Files that two trainings started at once in one folder may find there of each other.
OURS_BEFORE_THE_START = {LOCK_FILE, HELD_FILE}


def start_run(experiment: Experiment, data: Path, out: Path, name: str = "", cache: Path | None = None) -> Run:
    """Check everything that can be checked before the first step, and write `run.json`.

    Args:
        name: display name of the model; the method's if it has no printable characters.
        cache: folder of prepared cases, relative to the run folder; inside it by default.

    Raises:
        InputError: the dataset cannot be used.
        ConfigError: a setting cannot be used.
        ResourceError: the run folder exists and is not empty, or cannot be created.
    """
    _check_free(out)
    experiment = experiment.with_absolute_paths()
    dataset = read_dataset(data)
    if dataset.task.id != experiment.task:
        raise ConfigError(f"the experiment is for '{experiment.task}', '{data}' holds '{dataset.task.id}' cases.")
    split = read_split(dataset, seed=experiment.data.split_seed)
    check_cases(dataset, split.part("train"), dataset.task.full)
    stages = stages_of(experiment, dataset.task)
    check_models(stages)
    pretrains = any(not stage.labelled_only for stage in stages)
    for sentence in leak_warnings(experiment, dataset, split, pretrains):
        print(f"warning: {sentence}", flush=True)
    for remark in remarks_on_labels(dataset, split.part("train")):
        print(f"note: {remark}", flush=True)
    if pretrains:
        _print_pretraining(*pretraining_cases_of(experiment, dataset, split))
    run = Run(
        experiment,
        str(data.resolve()),
        split,
        str(cache or DEFAULT_CACHE),
        one_line(name) or experiment.method,
        uuid4().hex,
        fingerprints(dataset.cases.values()),
        dict(dataset.task.normalisation),
    )
    _write(run, out)
    return run


def _write(run: Run, out: Path) -> None:
    """Write `run.json` into a new or empty folder; of two concurrent trainings only one succeeds.

    Raises:
        ResourceError: the folder is not empty or not writable; anything created so far is removed.
    """
    made = not out.exists()
    make_writable(out)
    try:
        with holding(out):
            _check_free(out)
            write_run(out, run)
    except BaseException:
        if made and not (out / RUN_FILE).exists():
            _remove_new_folder(out)
        raise


def _check_free(out: Path) -> None:
    """Check that the run folder is missing or empty.

    Raises:
        ResourceError: the folder is not empty.
    """
    if not out.exists():
        return
    others = {path.name for path in out.iterdir()} - OURS_BEFORE_THE_START if out.is_dir() else {out.name}
    if others:
        hint = "resume it" if RUN_FILE in others else "choose another folder"
        raise ResourceError(f"the run folder '{out}' exists and is not empty; {hint}.")


def _remove_new_folder(out: Path) -> None:
    with contextlib.suppress(OSError):
        for name in OURS_BEFORE_THE_START:
            (out / name).unlink(missing_ok=True)
        out.rmdir()


def _print_pretraining(cases: list[Case], refused: list[str]) -> None:
    out = f"; {len(refused)} kept out: patients of the validation and test parts" if refused else ""
    print(f"Stage 1 reads {len(cases)} cases{out}", flush=True)
