"""A folder of many patients -> `Dataset`; and its split into training, validation and test.

Read are: any tree of case folders in the namings of `DanteSegmenterLib.cases.case_folder` (BraTS 2018 with its HGG and
LGG folders, 2019-2023, mixtures, paired chest CT), MSD Task01 and nnU-Net raw folders (`dataset.json`).
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from DanteSegmenterLib.cases.case_folder import Case
from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import InputError

from ..settings.tasks import TASKS, Task

SPLIT_FILE = "split.json"
SPLIT_NAMES = ("train", "val", "test")
# 70/10/20, as the paper.
SPLIT_SHARES = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Dataset:
    """Cases of one task, by name in `cases`."""

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
        """Names of "train", "val" or "test".

        Raises:
            InputError: another name, or the part is empty.
        """
        if name not in SPLIT_NAMES:
            raise InputError(f"unknown split '{name}'; use one of {', '.join(SPLIT_NAMES)}.")
        names = getattr(self, name)
        if not names:
            raise InputError(f"the split '{name}' is empty.")
        return names


def read_dataset(folder: Path | str) -> Dataset:
    """Find all cases below a folder.

    Raises:
        InputError: no case is there, two have one name, or they belong to different tasks.
    """
    folder = Path(folder)
    cases = find_cases(folder)
    doubled = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if doubled:
        raise InputError(f"'{folder}' holds {len(doubled)} case name(s) twice, for example '{doubled[0]}'. Rename one.")
    return Dataset(folder, _task_of(folder, cases), {case.name: case for case in cases})


def _task_of(folder: Path, cases: Sequence[Case]) -> Task:
    kinds = {task.id for case in cases for task in TASKS.values() if set(case.images) & set(task.full)}
    if len(kinds) != 1:
        raise InputError(f"'{folder}' mixes {' and '.join(sorted(kinds)) or 'unknown'} cases; use one folder a task.")
    return TASKS[kinds.pop()]


def check_cases(dataset: Dataset, names: Sequence[str], modalities: Sequence[str], labelled: bool = True) -> None:
    """Refuse, before the first step, cases that lack a file.

    Raises:
        InputError: names the first such case and says how many there are.
    """
    problems = []
    for name in names:
        case = dataset.cases[name]
        missing = [modality for modality in modalities if modality not in case.images]
        if missing:
            problems.append(f"'{name}' has no {', '.join(missing)} (it has {', '.join(case.images)})")
        if labelled and case.label is None:
            problems.append(f"'{name}' has no mask")
    if problems:
        more = f"; {len(problems) - 1} more of this kind" if len(problems) > 1 else ""
        raise InputError(
            f"{dataset.folder}: case {problems[0]}{more}. Add the file or leave the case out of the split."
        )


def read_split(dataset: Dataset, path: Path | None = None, seed: int = 12345) -> Split:
    """The split in `path`, else in the folder's split.json, else a new one (70/10/20, seeded, stratified by group).

    Raises:
        InputError: the file is not a split, names unknown cases, or one case twice.
    """
    path = path or (dataset.folder / SPLIT_FILE if (dataset.folder / SPLIT_FILE).is_file() else None)
    if path is None:
        return make_split(list(dataset.cases.values()), seed)
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        split = Split(*(tuple(str(name) for name in plain.get(part, ())) for part in SPLIT_NAMES))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"'{path}' is no split: lists 'train', 'val' and 'test' are needed ({error}).") from None
    names = [*split.train, *split.val, *split.test]
    unknown = [name for name in names if name not in dataset.cases]
    if unknown:
        raise InputError(f"'{path}' names {len(unknown)} case(s) that are not in the folder, e.g. '{unknown[0]}'.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"'{path}' names '{twice[0]}' more than once; training and test cases must not overlap.")
    return split


def make_split(cases: Sequence[Case], seed: int = 12345) -> Split:
    """Shuffle within each group, cut at 70 and 80 per cent; the rest is the test set."""
    parts: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case.name)
    generator = random.Random(seed)
    for group in sorted(groups):
        names = sorted(groups[group])
        generator.shuffle(names)
        first, second = (round(len(names) * share) for share in (SPLIT_SHARES[0], sum(SPLIT_SHARES[:2])))
        parts["train"] += names[:first]
        parts["val"] += names[first:second]
        parts["test"] += names[second:]
    return Split(*(tuple(sorted(parts[name])) for name in SPLIT_NAMES))
