"""Which case names denote one patient, what Stage 1 may therefore read, and what names cannot tell.

BraTS 2021 contains the cases of 2018 to 2020 under other names. The mapping files shipped with the datasets
(`BraTS21-17_Mapping.csv`, `name_mapping.csv`) link them; they are looked up in the dataset folders and their parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError

from .dataset import SPLIT_NAMES, Dataset, Split
from .mappings import mapping_files, rows_of
from .names import collection, glioma_collection, patient_key, patients_by_name, scan_key


class Patients:
    """Names -> scans and patients: a scan may have several names, a patient several scans."""

    def __init__(self, rows: Iterable[Sequence[str]] = (), passed_over: Iterable[Path] = ()) -> None:
        """Join names by mapping rows.

        Args:
            rows: lists of names that denote the same scan.
            passed_over: mapping files that name no cases in two columns.
        """
        rows = list(rows)
        self.passed_over = tuple(passed_over)
        self._scans = _Joined([[scan_key(name) for name in row] for row in rows])
        self._patients = _Joined([[_sure_patient(name) for name in row] for row in rows])

    def scan(self, case: str) -> str:
        """A canonical name for all names of a scan."""
        return self._scans.one_for(scan_key(case))

    def patient(self, case: str) -> str:
        """A canonical name for all names of a patient; recognises time points by their names."""
        return self._patients.one_for(_sure_patient(case))

    def knows(self, case: str) -> bool:
        """Whether a mapping file has this name."""
        return self._scans.knows(scan_key(case))


class _Joined:
    """Groups of names that denote the same thing."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        self._same: dict[str, set[str]] = {}
        for row in rows:
            together = set(row)
            for name in row:
                together |= self._same.get(name, set())
            for name in together:
                self._same[name] = together

    def one_for(self, name: str) -> str:
        return min(self._same.get(name, {name}))

    def knows(self, name: str) -> bool:
        return name in self._same


def _sure_patient(name: str) -> str:
    key, sure = patient_key(name)
    return key if sure else scan_key(name)


def check_split(dataset: Dataset, split: Split, patients: Patients | None = None) -> list[str]:
    """Refuse a split in which a patient, under any name or time point, is in two parts.

    Args:
        patients: from the mapping files; read by default.

    Returns:
        warnings about what the names cannot tell.

    Raises:
        InputError: a patient is in two parts; names both cases.
    """
    patients = patients or patients_of(dataset)
    seen: dict[str, tuple[str, str]] = {}
    for part in SPLIT_NAMES:
        for name in getattr(split, part):
            where, other = seen.setdefault(patients.patient(name), (part, name))
            if where != part:
                raise InputError(
                    f"'{other}' ({where}) and '{name}' ({part}) are one patient, by their names or by the mapping "
                    "file. Keep them in one part of the split."
                )
    held_out = (*split.val, *split.test)
    return [*_perhaps_time_points(split), *_leak_warnings(split.train, held_out, patients, glioma_collection)]


def _perhaps_time_points(split: Split) -> list[str]:
    part_of = {name: part for part in SPLIT_NAMES for name in getattr(split, part)}
    first: dict[str, str] = {}
    for name, patient in patients_by_name(list(part_of)).items():
        other = first.setdefault(patient, name)
        if part_of[other] != part_of[name]:
            return [
                f"'{other}' ({part_of[other]}) and '{name}' ({part_of[name]}) may be two examinations of one patient; "
                "their names do not tell. If they are, keep them in one part of the split."
            ]
    return []


def leak_warnings_of_pretraining(
    split: Split, others: Sequence[Dataset], on_val: bool, patients: Patients
) -> list[str]:
    """Warnings where held-out patients may also be among Stage 1's additional cases."""
    held_out = (*(() if on_val else split.val), *split.test)
    return _leak_warnings([name for other in others for name in other.cases], held_out, patients, collection)


def _leak_warnings(
    read: Sequence[str], held_out: Sequence[str], patients: Patients, collection_of: Callable[[str], str]
) -> list[str]:
    """Warnings where patients of `held_out` may be in `read` under other names that no mapping file links."""
    of_read, of_held_out = _by_collection(read, collection_of), _by_collection(held_out, collection_of)
    sentences = []
    for title, names in of_held_out.items():
        unknown = [name for name in names if not patients.knows(name)]
        others = [other for other in of_read if other != title and not all(map(patients.knows, of_read[other]))]
        if unknown and others:
            sentences.append(
                f"whether {len(unknown)} validation or test case(s) of {title}, e.g. '{unknown[0]}', are also read in "
                f"training, among {', '.join(others[:3])}, cannot be told: the names differ, and no mapping file (e.g. "
                "BraTS21-17_Mapping.csv) beside the data links them."
            )
    return sentences


def _by_collection(names: Sequence[str], collection_of: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(collection_of(name), []).append(name)
    found.pop("", None)
    return found


def pretraining_cases(
    dataset: Dataset,
    split: Split,
    others: Sequence[Dataset],
    on_val: bool = False,
    include_held_out: bool = False,
    patients: Patients | None = None,
) -> tuple[list[Case], list[str]]:
    """The cases that Stage 1 reads, and the names of those of `others` that are excluded.

    Reads the split's training cases, then the cases of `others`, without masks, except those of patients in the
    validation or test part, at any time point, and scans that are already included.

    Args:
        on_val: also read the validation cases' images.
        include_held_out: exclude no patient of `others` (`data.include_downstream_test_in_pretrain`).
        patients: from the mapping files of all these folders; read by default.
    """
    patients = patients or patients_of(dataset, others)
    own = [*split.train, *(split.val if on_val else ())]
    cases = [dataset.cases[name] for name in own]
    taken = {patients.scan(name) for name in own}
    kept = () if include_held_out else (*(() if on_val else split.val), *split.test)
    held_out = {patients.patient(name) for name in kept}
    refused = []
    for other in others:
        for case in other.cases.values():
            if patients.patient(case.name) in held_out:
                refused.append(case.name)
            elif patients.scan(case.name) not in taken:
                taken.add(patients.scan(case.name))
                cases.append(replace(case, label=None))
    return cases, refused


def read_mappings(folders: Iterable[Path]) -> Patients:
    """Patients according to the mapping files in these folders and their parents."""
    tables = {path: rows_of(path) for path in mapping_files(folders)}
    passed_over = [path for path, rows in tables.items() if not rows]
    return Patients((row for rows in tables.values() for row in rows), passed_over)


def patients_of(dataset: Dataset, others: Sequence[Dataset] = ()) -> Patients:
    """Patients according to the mapping files of these datasets' folders."""
    return read_mappings([dataset.folder, *(other.folder for other in others)])
