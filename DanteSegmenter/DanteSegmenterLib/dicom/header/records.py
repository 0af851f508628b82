"""Data kept from a DICOM header: the file, its frames, and acquisition parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        index: index of the frame in its file, from 0.
        position: centre of its first voxel, LPS mm.
        axes: unit vectors along a row and along a column, LPS: six numbers.
        spacing_mm: between rows, between columns.
        slope, intercept: from stored values to the scanner's.
        marks: (attribute, value) pairs that distinguish it from other images at the same position.
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
    """Acquisition parameters of a series, as far as its headers have them; times in ms, None if missing."""

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
        patient: Patient ID, used to distinguish patients and never shown.
        study, series, uid: Study, Series and SOP Instance UID.
        date: Study Date, as written in the file.
        number: Series Number.
        frame_of_reference: its UID; empty if the file has none.
        grey: whether the pixels are plain grey values (MONOCHROME2).
        lossy: whether the pixels were compressed with loss.
        ours: whether it is a segmentation written by this program.
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
    ours: bool
    frames: tuple[Frame, ...]
    acquisition: Acquisition
