"""What is kept of a DICOM file's header: the file, its frames, and how they were acquired."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        index: which frame of its file, from 0.
        position: of the centre of its first voxel, LPS mm.
        axes: unit vectors along a row and along a column, LPS: six numbers.
        spacing_mm: between rows, between columns.
        slope, intercept: from stored values to the scanner's.
        marks: what tells it from another image of the same place, as (attribute, value).
    """

    path: Path
    index: int
    rows: int
    columns: int
    position: tuple[float, ...] | None
    axes: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float
    intercept: float
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Acquisition:
    """How a series was acquired, as far as its headers say; times in ms, None for what is not said."""

    modality: str = ""
    sop_class: str = ""
    description: str = ""
    protocol: str = ""
    sequence_name: str = ""
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    b_value: float | None = None
    time_points: float | None = None
    contrast_agent: str = ""
    contrast_ml: float | None = None


@dataclass(frozen=True)
class Instance:
    """One file.

    Attributes:
        patient: Patient ID, used to tell patients apart and never shown.
        study, series, uid: Study, Series and SOP Instance UID.
        date: Study Date, as the file writes it.
        number: Series Number.
        frame_of_reference: its UID; empty if the file names none.
        grey: whether the pixels are plain grey values (MONOCHROME2).
        lossy: whether the pixels were compressed with loss.
    """

    path: Path
    patient: str
    study: str
    series: str
    uid: str
    date: str
    study_description: str
    number: int | None
    frame_of_reference: str
    grey: bool
    lossy: bool
    frames: tuple[Frame, ...]
    acquisition: Acquisition
