"""Use a chosen series as an image of a case, and a folder of studies as cases of a batch."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..cases.case import Case, ImageSource
from ..cases.case_list import PASSED_OVER
from ..errors import InputError
from ..model_folder.spec import ModelSpec
from ..volume import Volume
from .choosing import Row, choose_series, notes_of, table
from .header.instance import NotReadable, read_instance
from .pixels import read_stack
from .series import Series, Study
from .stack import Stack, stack_of
from .study_scan import Scan, check_one_patient, scan

ALONE = "segment --dicom FOLDER"  # command with which the series can be specified


@dataclass(frozen=True)
class SeriesSource(ImageSource):
    """A volume in the files of a DICOM series; `path` is their common folder.

    Attributes:
        notes: notes on the choice for the user; passed on to the result.
    """

    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def stack(self) -> Stack:
        """The sorted slices.

        Raises:
            InputError: they do not form a volume, or changed since they were chosen.
        """
        instances = []
        for path in self.files:
            try:
                instance = read_instance(path)
            except (NotReadable, OSError) as error:
                raise InputError(f"'{path}' cannot be read any more: {error}.") from None
            if instance is not None:
                instances.append(instance)
        return stack_of(Series(instances[0].series, tuple(instances)))

    def read(self) -> Volume:
        volume = read_stack(self.stack)
        return Volume(volume.array, volume.ijk_to_ras, volume.name, (*self.notes, *volume.notes))


def sources_of(chosen: Mapping[str, Row], more: tuple[str, ...] = ()) -> dict[str, ImageSource]:
    """Chosen series as images by modality; notes about the whole study are attached to the first one.

    Args:
        more: notes about the whole study.
    """
    notes, sources = notes_of(chosen), {}
    for modality, row in chosen.items():
        files = row.series.files
        own = (*notes[modality], *(f"{row.series.label}: {note}" for note in row.series.notes))
        sources[modality] = SeriesSource(_common_folder(files), None, files, (*more, *own))
        more = ()
    return dict(sources)


def dicom_cases(folder: Path, spec: ModelSpec, passed_over: Collection[Path] = ()) -> list[Case]:
    """One case per study in a folder; ambiguous or incomplete ones have a `problem`.

    An additional case with a problem stands for files or folders that cannot be read.

    Args:
        passed_over: folders that are cases already, whose DICOM originals belong to the same patients.

    Raises:
        InputError: the folder cannot be read, or contains far too many files.
        ResourceError: there are DICOM files, and pydicom is not installed.
    """
    found = scan(folder, passed_over, PASSED_OVER, go_on=True)
    places = [_place_of(study) for study in found.studies]
    cases = [
        _case(study, _name(study, place, folder, places.count(place) > 1), found, spec)
        for study, place in zip(found.studies, places)
    ]
    return [*cases, no_case(found.closed)] if found.closed else cases


def no_case(problem: str) -> Case:
    """A problem with DICOM files as a whole, as a case that cannot be used."""
    return Case("DICOM", {}, None, {}, problem=problem)


def _case(study: Study, name: str, found: Scan, spec: ModelSpec) -> Case:
    try:
        check_one_patient(study)
        chosen = choose_series(table(study), spec, {}, ALONE)
    except InputError as error:
        return Case(name, {}, None, {}, problem=f"{error} ({study.label})")
    return Case(name, sources_of(chosen, found.notes), None, {})


def _place_of(study: Study) -> Path:
    return _common_folder([path for series in study.series for path in series.files])


def _name(study: Study, place: Path, folder: Path, shared: bool) -> str:
    """Named after the folder that contains only this study, relative to the given one; otherwise after its UID."""
    within = place.relative_to(folder).parts if place != folder else ()
    if within and not shared:
        return "_".join(within)
    return re.sub(r"[^0-9A-Za-z.]", "_", study.uid).strip(".") or "study"  # it becomes a file name


def _common_folder(files: Collection[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in files]))
