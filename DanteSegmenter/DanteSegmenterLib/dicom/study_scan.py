"""Find the studies in a folder as written by a PACS: nested folders, arbitrary names, other files in between.

DICOMDIR is ignored: all files in the folder are examined, and none outside.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.user_files import entries, is_folder, is_system_file
from .header.instance import NotReadable, looks_like_dicom, read_instance
from .header.packages import check_packages
from .header.records import Instance
from .series import Study, studies_of

# A study of thin slices has some thousands; more is a whole disk, given by mistake.
MOST_FILES = 1_000_000
NAMED_IN_A_NOTE = 3


@dataclass(frozen=True)
class Scan:
    """Content of a folder.

    Attributes:
        others: number of files that are not DICOM.
        notes: files that were skipped but may belong to a study.
        closed: files and folders that could not be read and were skipped; otherwise empty.
    """

    folder: Path
    studies: tuple[Study, ...]
    others: int
    notes: tuple[str, ...]
    closed: str = ""


def scan(
    folder: Path, passed_over: Collection[Path] = (), leave_out: Collection[str] = (), go_on: bool = False
) -> Scan:
    """Read the headers of all DICOM files in a folder.

    Args:
        passed_over: folders to skip.
        leave_out: lower-case names of folders to skip.
        go_on: skip parts that cannot be read.

    Raises:
        InputError: the folder does not exist, a part of it cannot be read, or it contains far too many files.
        ResourceError: pydicom is not installed.
    """
    entries(folder)
    gathered, others = _Gathered(folder), 0
    on_closed = gathered.add_closed if go_on else _refuse
    for path in files_below(folder, passed_over, leave_out, on_closed):
        try:
            if not looks_like_dicom(path):
                others += 1
                continue
        except OSError as error:
            on_closed(path, error)
            continue
        check_packages()
        gathered.add(path)
    return Scan(folder, gathered.studies(), others, gathered.notes(), gathered.closed())


def files_below(
    folder: Path,
    passed_over: Collection[Path],
    leave_out: Collection[str],
    on_closed: Callable[[Path, OSError], None],
) -> Iterator[Path]:
    """All regular files, sorted; links to folders are not followed, and system files are skipped.

    Args:
        on_closed: called with each folder that cannot be read, and the error.

    Raises:
        InputError: there are far too many files.
    """
    count = 0
    for place, folders, names in os.walk(folder, onerror=lambda error: on_closed(Path(error.filename), error)):
        folders[:] = sorted(
            name
            for name in folders
            if not is_system_file(name) and name.lower() not in leave_out and Path(place, name) not in passed_over
        )
        for name in sorted(names):
            path = Path(place, name)
            if is_system_file(name) or not _is_regular(path):  # a pipe would block
                continue
            count += 1
            if count > MOST_FILES:
                raise InputError(f"'{folder}' holds more than {MOST_FILES} files. Give a part of it.")
            yield path


def choose_study(scan: Scan, wanted: str = "") -> Study:
    """The folder's only study, or the one with the given UID or number in the list.

    Raises:
        InputError: there is none, there are several, or none has that name.
    """
    if not scan.studies:
        raise InputError(f"'{scan.folder}' holds no DICOM study ({scan.others} other files). {' '.join(scan.notes)}")
    listed = "; ".join(f"{n} {study.label}" for n, study in enumerate(scan.studies, 1))
    found = [study for n, study in enumerate(scan.studies, 1) if wanted in ("", study.uid, str(n))]
    if not found:
        raise InputError(f"--study {wanted}: no such study; there are {listed}.")
    if len(found) > 1:
        patients = len(frozenset().union(*(study.patients for study in scan.studies)))
        of_patients = f" of {patients} patients" if patients > 1 else ""
        raise InputError(f"'{scan.folder}' holds {len(found)} studies{of_patients}; --study UID chooses one: {listed}.")
    check_one_patient(found[0])
    return found[0]


def check_one_patient(study: Study) -> None:
    """Check a study's patient IDs.

    Raises:
        InputError: its files name several patients.
    """
    if len(study.patients) > 1:
        raise InputError(
            f"study {study.uid}: its files name {len(study.patients)} patient IDs; a study is of one. Sort them."
        )


class _Gathered:
    """Collects files, distinguishing copies from contradictions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._instances: dict[str, Instance] = {}
        self._problems: dict[str, str] = {}
        self._copies: dict[str, int] = {}
        self._damaged: list[str] = []
        self._closed: list[str] = []

    def add_closed(self, path: Path, error: OSError) -> None:
        """Record a path that cannot be read."""
        self._closed.append(f"'{path.relative_to(self._folder)}' ({error.strerror})")

    def add(self, path: Path) -> None:
        """Add a file; a result of an earlier run is none of the study's own files, and may lie far from them."""
        try:
            instance = read_instance(path)
        except NotReadable as error:
            self._damaged.append(f"'{path.relative_to(self._folder)}' ({error})")
            return
        if instance is None or instance.ours:
            return
        known = self._instances.setdefault(instance.uid, instance)
        if known is instance:
            return
        if filecmp.cmp(known.path, path, shallow=False):
            self._copies[known.series] = self._copies.get(known.series, 0) + 1
        else:
            for series in (known.series, instance.series):
                self._problems[series] = (
                    f"two different files, '{known.path.name}' and '{path.name}', have one SOP Instance UID. Export it "
                    "again"
                )

    def studies(self) -> tuple[Study, ...]:
        notes = {
            uid: f"{count} files are copies of others and were passed over." for uid, count in self._copies.items()
        }
        return studies_of(self._instances.values(), self._problems, notes)

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self._damaged:
            notes.append(
                f"WARNING: {len(self._damaged)} DICOM files cannot be read and were passed over: "
                f"{_first_of(self._damaged)}. Slices may be missing at an end of a volume; export the study again."
            )
        if self._closed:
            notes.append(
                f"WARNING: {len(self._closed)} files or folders cannot be read and were passed over: "
                f"{_first_of(self._closed)}. Slices may be missing at an end of a volume; ask for access to them."
            )
        return tuple(notes)

    def closed(self) -> str:
        if not self._closed:
            return ""
        return (
            f"{len(self._closed)} files or folders cannot be read: {_first_of(self._closed)}. Whether DICOM files are "
            "among them is not known; ask for access to them, or take them away."
        )


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_IN_A_NOTE]) + (", ..." if len(names) > NAMED_IN_A_NOTE else "")


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # a broken link
        return False


def _refuse(path: Path, error: OSError) -> None:
    what = f"the folder '{path}'" if is_folder(path) else f"'{path}'"
    raise InputError(f"{what} cannot be read: {error.strerror}. Ask for access to it.") from None
