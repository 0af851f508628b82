"""Detect changes to a run's dataset since it was started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError

from ..data.dataset import Dataset, check_cases, read_dataset
from .run_folder import Run


def fingerprints(cases: Iterable[Case]) -> dict[str, str]:
    """Case -> digest of its files' names and sizes: cheap, and independent of the dataset's location."""
    return {case.name: _fingerprint(case) for case in cases}


def _fingerprint(case: Case) -> str:
    sources = {**case.images, "label": case.label}
    files = {key: [s.path.name, s.component, s.path.stat().st_size] for key, s in sources.items() if s is not None}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def dataset_of(run: Run) -> Dataset:
    """The run's dataset in its present state.

    Raises:
        InputError: it is missing, has another task, or lacks training or validation cases of the run, or files of its
            training cases.
    """
    try:
        dataset = read_dataset(run.data)
    except InputError as error:
        raise InputError(f"{error} If the dataset lies elsewhere now: resume RUN --data FOLDER.") from None
    if dataset.task.id != run.experiment.task:
        raise InputError(f"the run is for '{run.experiment.task}', '{run.data}' holds '{dataset.task.id}' cases.")
    missing = [name for name in (*run.split.train, *run.split.val) if name not in dataset.cases]
    if missing:
        raise InputError(
            f"'{run.data}' lacks {_cases(missing)} that this run was started with. Put them back, say where the whole "
            "dataset is now (resume RUN --data FOLDER), or start a new run."
        )
    check_cases(dataset, run.split.train, dataset.task.full)
    return dataset


def changes(run: Run, dataset: Dataset) -> list[str]:
    """Messages about changes that do not prevent the run from continuing; none if the run recorded no files."""
    if not run.files:
        return []
    now = fingerprints(dataset.cases[name] for name in run.files if name in dataset.cases)
    lost = [name for name in run.files if name not in now]
    altered = [name for name, digest in now.items() if digest != run.files[name]]
    new = [name for name in dataset.cases if name not in run.files]
    said = []
    if altered:
        said.append(f"{_cases(altered)} changed since the start of this run; what is there now is trained on.")
    if lost:
        said.append(f"{_cases(lost)} went since the start of this run; it trains without them.")
    if new:
        said.append(f"{_cases(new)} came since the start of this run; it leaves them out.")
    return said


def _cases(names: list[str]) -> str:
    return f"{len(names)} {'case' if len(names) == 1 else 'cases'} ('{names[0]}'{' ...' if len(names) > 1 else ''})"
