"""Which names mean one patient, and what Stage 1 may therefore read.

BraTS 2021 contains the cases of 2018 to 2020 under other names. The mapping files that come with the data sets
(`BraTS21-17_Mapping.csv`, `name_mapping.csv`) say which; they are looked for in the dataset folders and one above.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from DanteSegmenterLib.cases.case_folder import Case
from DanteSegmenterLib.errors import InputError

from .dataset import Dataset, Split

MAPPING_PATTERNS = ("*[mM]apping*.csv",)
# Columns that hold case names in the published files: BraTS2021, BraTS_2019_subject_ID, TCGA_TCIA_subject_ID.
NAME_COLUMN_WORDS = ("brats", "subject_id", "subject id")


class Patients:
    """Names -> patients; a name that no mapping knows is a patient of its own."""

    def __init__(self, rows: Iterable[Sequence[str]] = ()) -> None:
        self._same: dict[str, set[str]] = {}
        for row in rows:
            together = {_key(name) for name in row}
            for name in row:
                together |= self._same.get(_key(name), set())
            for name in together:
                self._same[name] = together

    def patient(self, case: str) -> str:
        """One name for all names of a patient."""
        return min(self._same.get(_key(case), {_key(case)}))


def _key(name: str) -> str:
    return name.strip().lower()


def read_mappings(folders: Iterable[Path]) -> Patients:
    """Read every mapping file in these folders and one above each.

    Raises:
        InputError: a mapping file has no column of case names.
    """
    paths = {
        path.resolve()
        for folder in folders
        for place in (folder, folder.parent)
        for pattern in MAPPING_PATTERNS
        for path in place.glob(pattern)
    }
    return Patients(row for path in sorted(paths) for row in _rows(path))


def _rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    heads = [head for head in (lines[0] if lines else {}) if head and _names_cases(head)]
    if len(heads) < 2:
        raise InputError(f"'{path}' maps nothing: two columns of case names are needed, e.g. BraTS2021 and BraTS2020.")
    rows = [[line[head].strip() for head in heads if line[head]] for line in lines]
    return [[name for name in row if _key(name) not in ("", "na", "nan", "none", "-")] for row in rows]


def _names_cases(head: str) -> bool:
    return any(word in head.lower() for word in NAME_COLUMN_WORDS)


def check_split(dataset: Dataset, split: Split) -> None:
    """Refuse a split with one patient, under two names, in two parts.

    Raises:
        InputError: names both.
    """
    patients = read_mappings([dataset.folder])
    seen: dict[str, tuple[str, str]] = {}
    for part in ("train", "val", "test"):
        for name in getattr(split, part):
            where, other = seen.setdefault(patients.patient(name), (part, name))
            if where != part:
                raise InputError(
                    f"'{other}' ({where}) and '{name}' ({part}) are one patient according to the mapping file. Keep "
                    "them in one part of the split."
                )


def pretraining_cases(
    dataset: Dataset, split: Split, others: Sequence[Dataset], on_val: bool = False, include_held_out: bool = False
) -> tuple[list[Case], list[str]]:
    """The cases that Stage 1 reads, without their masks' use, and the names of those kept out.

    Training cases of the split, then all cases of `others` but those of a patient who is in its validation or test
    part, or who was taken already.

    Args:
        on_val: read the validation cases' images as well.
        include_held_out: keep no patient of `others` out (`data.include_downstream_test_in_pretrain`).
    """
    patients = read_mappings([dataset.folder, *(other.folder for other in others)])
    own = [*split.train, *(split.val if on_val else ())]
    cases = [dataset.cases[name] for name in own]
    taken = {patients.patient(name) for name in own}
    kept = () if include_held_out else (*(() if on_val else split.val), *split.test)
    held_out = {patients.patient(name) for name in kept}
    refused = []
    for other in others:
        for case in other.cases.values():
            patient = patients.patient(case.name)
            if patient in held_out:
                refused.append(case.name)
            elif patient not in taken:
                taken.add(patient)
                cases.append(case)
    return cases, refused
