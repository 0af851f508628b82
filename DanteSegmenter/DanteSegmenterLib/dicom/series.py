"""A study's series as plain data: files grouped by their UIDs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .header.records import Acquisition, Frame, Instance


@dataclass(frozen=True)
class Series:
    """The files of one series.

    Attributes:
        problem: why it cannot be used, whatever it contains; empty if there is no known reason.
        notes: findings while its files were collected.
    """

    uid: str
    instances: tuple[Instance, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def number(self) -> int | None:
        """Series number of the scanner; several series may share one."""
        return self.instances[0].number

    @property
    def acquisition(self) -> Acquisition:
        """Acquisition parameters of its first file."""
        return self.instances[0].acquisition

    @property
    def description(self) -> str:
        return self.acquisition.description or self.acquisition.protocol

    @cached_property
    def image_types(self) -> frozenset[str]:
        """All words of Image Type in any file."""
        return frozenset(word.upper() for instance in self.instances for word in instance.acquisition.image_type)

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """All slices, in file order."""
        return tuple(frame for instance in self.instances for frame in instance.frames)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(instance.path for instance in self.instances)

    @property
    def label(self) -> str:
        """For a sentence: "series 5 'T1 axial'"."""
        number = "without number" if self.number is None else self.number
        return f"series {number} '{self.description or 'without description'}'"


@dataclass(frozen=True)
class Study:
    """All series of one StudyInstanceUID, by number."""

    uid: str
    series: tuple[Series, ...]

    @property
    def patients(self) -> frozenset[str]:
        """Patient IDs in its files; there should be only one."""
        return frozenset(instance.patient for series in self.series for instance in series.instances)

    @property
    def label(self) -> str:
        """Description for a list, without the patient's name."""
        first = self.series[0].instances[0]
        images = sum(len(series.instances) for series in self.series)
        about = ", ".join(filter(None, (first.date, first.study_description)))
        return f"{self.uid} ({about + ': ' if about else ''}{len(self.series)} series, {images} files)"


def studies_of(instances: Iterable[Instance], problems: dict[str, str], notes: dict[str, str]) -> tuple[Study, ...]:
    """Group instances into studies, sorted by study UID, and series, sorted by number.

    Args:
        problems, notes: by series UID.
    """
    grouped: dict[str, dict[str, list[Instance]]] = {}
    for instance in instances:
        grouped.setdefault(instance.study, {}).setdefault(instance.series, []).append(instance)
    return tuple(
        Study(uid, tuple(sorted((_series(name, files, problems, notes) for name, files in series.items()), key=_place)))
        for uid, series in sorted(grouped.items())
    )


def _series(uid: str, files: Sequence[Instance], problems: dict[str, str], notes: dict[str, str]) -> Series:
    return Series(uid, tuple(files), problems.get(uid, ""), (notes[uid],) if uid in notes else ())


def _place(series: Series) -> tuple[bool, int, str]:
    return series.number is None, series.number or 0, series.uid
