"""Prepare a run's cases, and make the patch sources of its stages."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError

from ..data.cache import CachedCase, cache_cases
from ..data.dataset import Dataset, Split, check_cases, read_dataset
from ..data.patches import PRETRAINING, SUPERVISED, VALIDATION, PatchSource
from ..data.patients import check_split, leak_warnings_of_pretraining, patients_of, pretraining_cases
from ..loop.stage import Stage
from ..release.write_model import preprocessing_of
from ..settings.experiment import Experiment
from ..settings.tables import DataSettings
from ..settings.tasks import Task
from .run_folder import Run
from .split import held_out_but_seen


def further_datasets(experiment: Experiment, dataset: Dataset) -> list[Dataset]:
    """The datasets that only Stage 1 reads.

    Raises:
        InputError: one cannot be used, has another task, or has a case that lacks a modality.
    """
    others = [read_dataset(folder) for folder in experiment.data.pretrain_folders]
    for other in others:
        if other.task.id != dataset.task.id:
            raise InputError(f"'{other.folder}' holds '{other.task.id}' cases, '{dataset.task.id}' are needed.")
        check_cases(other, list(other.cases), dataset.task.full, labelled=False)
    return others


def pretraining_cases_of(experiment: Experiment, dataset: Dataset, split: Split) -> tuple[list[Case], list[str]]:
    """The cases that Stage 1 reads, and the names of those excluded.

    Raises:
        InputError: one of the additional folders cannot be used.
    """
    data, others = experiment.data, further_datasets(experiment, dataset)
    return pretraining_cases(dataset, split, others, data.pretrain_on_val, data.include_downstream_test_in_pretrain)


def leak_warnings(experiment: Experiment, dataset: Dataset, split: Split, pretrains: bool) -> list[str]:
    """Warnings about possible leakage between parts of the split, into Stage 1, or into a model that is learned from.

    Raises:
        InputError: a patient is in two parts of the split; or there is a warning and `data.strict_leak_guard` is set.
    """
    data = experiment.data
    others = further_datasets(experiment, dataset) if pretrains else []
    patients = patients_of(dataset, others)
    for path in patients.passed_over:
        print(f"note: '{path.name}' names no cases in two columns, and is not used.", flush=True)
    sentences = check_split(dataset, split, patients)
    if not data.include_downstream_test_in_pretrain:
        sentences += leak_warnings_of_pretraining(split, others, data.pretrain_on_val, patients)
    models = {"distillation.teacher": experiment.distillation.teacher, "begin_with": experiment.begin_with}
    sentences += held_out_but_seen(split, models, patients)
    if sentences and data.strict_leak_guard:
        raise InputError(f"{sentences[0]} data.strict_leak_guard is on.")
    return sentences


def cached_cases(
    run: Run, cache: Path, dataset: Dataset, task: Task, workers: int, quiet: bool
) -> tuple[list[CachedCase], list[CachedCase]]:
    preprocessing = preprocessing_of(run.experiment, task)

    def cached(cases: list[Case]) -> list[CachedCase]:
        return cache_cases(cases, task, preprocessing, cache, workers, quiet)

    val = [dataset.cases[name] for name in run.split.val]
    usable = [case for case in val if not case.mask_problem() and set(task.full) <= set(case.images)]
    return cached([dataset.cases[name] for name in run.split.train]), cached(usable)


def cached_for_pretraining(
    run: Run, cache: Path, dataset: Dataset, task: Task, workers: int, quiet: bool, train: list[CachedCase]
) -> list[CachedCase]:
    """Additional cases that only Stage 1 reads; their masks are ignored."""
    known = {case.name for case in train}
    cases = [case for case in pretraining_cases_of(run.experiment, dataset, run.split)[0] if case.name not in known]
    cached = cache_cases(cases, task, preprocessing_of(run.experiment, task), cache, workers, quiet)
    return [replace(case, labelled=False) for case in cached]


def sources_of(
    experiment: Experiment, task: Task, stage: Stage, train: list[CachedCase], val: list[CachedCase]
) -> tuple[PatchSource, PatchSource | None]:
    data = experiment.data
    cases = [case for case in train if case.labelled or not stage.labelled_only]
    source = PatchSource(
        cases,
        len(task.regions),
        data.patch,
        data.batch_size,
        experiment.seed,
        _augmentation(stage, data),
        data.foreground_share,
        SUPERVISED if stage.labelled_only else PRETRAINING,
        data.augment_strength,
    )
    if not val:
        return source, None
    return source, PatchSource(
        val, len(task.regions), data.patch, data.batch_size, 0, "none", foreground_share=1.0, stream=VALIDATION
    )


def _augmentation(stage: Stage, data: DataSettings) -> str:
    """Kind of augmentation, as accepted by `PatchSource`."""
    if not data.augment:
        return "none"
    return "calibrated" if stage.augmentation == "full" and not data.augment_values else stage.augmentation


def workers_of(experiment: Experiment) -> int:
    if experiment.data.workers >= 0:
        return experiment.data.workers
    cores = _allotted_cores()
    return min(8, max(1, cores // 2)) if cores > 1 else 0


def _allotted_cores() -> int:
    """Cores that this process may use: a cluster's job has some of a node's."""
    allotted = getattr(os, "sched_getaffinity", None)  # Linux
    return len(allotted(0)) if allotted else os.cpu_count() or 1
