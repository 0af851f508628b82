"""Read a dataset folder with many patients, and its split into training, validation and test cases.

Supported: any tree of case folders in the naming schemes of `DanteSegmenterLib.cases.case_folder` (BraTS 2018 with its
HGG and LGG folders, 2019-2023, mixtures, paired chest CT), MSD Task01 and nnU-Net raw folders (`dataset.json`).
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files.user_files import decode

from ..settings.tasks import TASKS, Task
from .names import patients_by_name

SPLIT_FILE = "split.json"
SPLIT_NAMES = ("train", "val", "test")
# 70/10/20, as in the paper.
SPLIT_SHARES = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Dataset:
    """A dataset folder and its cases, by name; all of one task."""

    folder: Path
    task: Task
    cases: dict[str, Case]


@dataclass(frozen=True)
class Split:
    """Case names of each part."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def part(self, name: str) -> tuple[str, ...]:
        """Case names of "train", "val" or "test".

        Raises:
            InputError: the name is unknown, or the part is empty.
        """
        if name not in SPLIT_NAMES:
            raise InputError(f"unknown split '{name}'; use one of {', '.join(SPLIT_NAMES)}.")
        names = getattr(self, name)
        if not names:
            raise InputError(f"the split '{name}' is empty.")
        return names


def read_dataset(folder: Path | str) -> Dataset:
    """Find all cases in a folder.

    Raises:
        InputError: there are no cases, two have the same name, or they belong to different tasks.
    """
    folder = Path(folder)
    cases = find_cases(folder)
    doubled = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if doubled:
        raise InputError(f"'{folder}' holds {len(doubled)} case name(s) twice, for example '{doubled[0]}'. Rename one.")
    return Dataset(folder, _task_of(folder, cases), {case.name: case for case in cases})


def _task_of(folder: Path, cases: Sequence[Case]) -> Task:
    broken = [case for case in cases if case.problem]
    if len(broken) == len(cases):
        raise InputError(broken[0].problem)
    kinds = {task.id for case in cases for task in TASKS.values() if set(case.images) & set(task.full)}
    if len(kinds) != 1:
        raise InputError(f"'{folder}' mixes {' and '.join(sorted(kinds)) or 'unknown'} cases; use one folder a task.")
    return TASKS[kinds.pop()]


def check_cases(dataset: Dataset, names: Sequence[str], modalities: Sequence[str], labelled: bool = True) -> None:
    """Check before training that no case lacks a file.

    Raises:
        InputError: names the first such case and how many there are.
    """
    problems = []
    for name in names:
        case = dataset.cases[name]
        if case.problem:
            problems.append(f"'{name}': {case.problem.removesuffix('.')}")
            continue
        missing = [modality for modality in modalities if modality not in case.images]
        if missing:
            problems.append(f"'{name}' has no {', '.join(missing)} (it has {', '.join(case.images)})")
        if labelled and case.mask_problem():
            problems.append(case.mask_problem())
    if problems:
        more = f"; {len(problems) - 1} more of this kind" if len(problems) > 1 else ""
        raise InputError(
            f"{dataset.folder}: case {problems[0]}{more}. Add the file or leave the case out of the split."
        )


def check_masks(dataset: Dataset, names: Sequence[str]) -> None:
    """Check before evaluation that no mask has unexpected labels; reads all masks.

    Raises:
        InputError: names the first such mask and how many there are.
    """
    problems = []
    for name in names:
        case = dataset.cases[name]
        try:
            if case.label is not None:
                case.check_labels(case.label.read())
        except InputError as error:
            problems.append(f"case '{name}': {error}")
    if problems:
        more = f" {len(problems) - 1} more of this kind." if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}")


def remarks_on_labels(dataset: Dataset, names: Sequence[str]) -> list[str]:
    """Notes on these cases' masks for the user, one per kind of note."""
    remarks = Counter(dataset.cases[name].remark for name in names if dataset.cases[name].label is not None)
    return [f"{count} case(s) have {remark}." for remark, count in remarks.items() if remark]


def read_split(dataset: Dataset, path: Path | None = None, seed: int = 12345) -> Split:
    """Read the split from `path` or the folder's split.json, or make one (70/10/20, seeded, stratified by group).

    Raises:
        InputError: the file is not a valid split, names unknown cases, or names a case twice.
    """
    path = path or (dataset.folder / SPLIT_FILE if (dataset.folder / SPLIT_FILE).is_file() else None)
    if path is None:
        return make_split([case for case in dataset.cases.values() if not case.held_apart], seed)
    try:
        plain = json.loads(decode(Path(path).read_bytes()))
        split = Split(*(_names_in(plain.get(part, [])) for part in SPLIT_NAMES))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"'{path}' is no split: lists 'train', 'val' and 'test' are needed ({error}).") from None
    names = [*split.train, *split.val, *split.test]
    unknown = [name for name in names if name not in dataset.cases]
    if unknown:
        raise InputError(f"'{path}' names {len(unknown)} case(s) that are not in the folder, e.g. '{unknown[0]}'.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"'{path}' names '{twice[0]}' more than once; training and test cases must not overlap.")
    return split


def _names_in(part: object) -> tuple[str, ...]:
    """Case names of a JSON list.

    Raises:
        TypeError: it is not a list of texts.
    """
    if not isinstance(part, list) or not all(isinstance(name, str) for name in part):
        raise TypeError(f"got {str(part)[:60]}")
    return tuple(part)


def make_split(cases: Sequence[Case], seed: int = 12345) -> Split:
    """Shuffle the patients within each group, and cut at 70 and 80 per cent; the rest is the test set.

    All time points of a patient stay together. Groups of fewer than three patients are merged into one.
    """
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    patients = patients_by_name([case.name for case in cases])
    group_of = {patients[case.name]: case.group for case in cases}  # one group per patient
    sizes = Counter(group_of.values())
    group_of = {patient: group if sizes[group] >= 3 else "" for patient, group in group_of.items()}
    for name in sorted(patients):
        groups[group_of[patients[name]]][patients[name]].append(name)
    parts: dict[str, list[str]] = defaultdict(list)
    generator = random.Random(seed)
    for group in sorted(groups):
        together = list(groups[group].values())
        generator.shuffle(together)
        first, second = (round(len(together) * share) for share in (SPLIT_SHARES[0], sum(SPLIT_SHARES[:2])))
        for part, own in zip(SPLIT_NAMES, (together[:first], together[first:second], together[second:])):
            parts[part] += [name for names in own for name in names]
    return Split(*(tuple(sorted(parts[name])) for name in SPLIT_NAMES))
