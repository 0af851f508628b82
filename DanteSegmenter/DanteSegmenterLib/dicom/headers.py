"""What is read of a DICOM file before its pixels: what it is, where its frames lie, and how it was acquired.

Only the attributes named here are read; a value that is not what the standard asks for counts as not there. Multi-frame
files keep many of them in functional groups, each frame's own before those that all frames share (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ResourceError
from ..guard.plain_text import one_line

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_MARK, DICOM_MARK_AT = b"DICM", 128
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
# Unpacks as a whole, to any size; images of patients are not sent so.
DEFLATED = "1.2.840.10008.1.2.1.99"
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
_READ = (
    *_PLACE, "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality",
    "StudyDate", "StudyDescription", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName",
    "PulseSequenceName", "ImageType", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType",
    "EchoPulseSequence", "EchoPlanarPulseSequence", "InversionRecovery", "EchoTime", "RepetitionTime", "InversionTime",
    "DiffusionBValue", "NumberOfTemporalPositions", "ContrastBolusAgent", "ContrastBolusVolume",
    "ContrastBolusAgentSequence", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers",
    "LossyImageCompression", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
# More frames than any scanner's file has.
MOST_FRAMES = 20_000
# What tells two images of one place apart.
_TELLS_APART = ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "AcquisitionNumber")


class NotReadable(Exception):
    """A file that begins as DICOM and cannot be read; why, as a half sentence."""


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
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    dimensions: str = ""  # "2D" or "3D"
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    b_value: float | None = None
    time_points: float | None = None
    contrast_agent: str = ""
    contrast_ml: float | None = None


@dataclass(frozen=True)
class Instance:
    """One file."""

    path: Path
    patient: str  # the ID: to tell patients apart, never shown
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


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(DICOM_MARK_AT + len(DICOM_MARK))[DICOM_MARK_AT:] == DICOM_MARK


def check_packages(writing: bool = False) -> None:
    """Whether what reads DICOM, and what writes DICOM SEG, is installed.

    Raises:
        ResourceError: it is not; says what to do.
    """
    try:
        import pydicom.pixels  # noqa: F401  # of version 3 on

        if writing:
            import highdicom  # noqa: F401
    except ImportError as error:
        lacking = "highdicom" if str(error.name).startswith("highdicom") else "pydicom 3"
        raise ResourceError(f'DICOM needs the package {lacking}: pip install "slicer-dante[dicom]".') from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's own remarks, which would print values of a patient's header."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def read_instance(path: Path) -> Instance | None:
    """What a file's header says; None of a directory of files (DICOMDIR), whose word is not needed.

    Raises:
        NotReadable: damaged, or in a form that is not read.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet():
            meta = read_file_meta_info(path)
            if meta.get("MediaStorageSOPClassUID") == DICOMDIR_CLASS:
                return None
            if meta.get("TransferSyntaxUID") == DEFLATED:
                raise NotReadable("it is deflated, which is not read")
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(_READ))
            return _instance(path, dataset)
    except NotReadable:
        raise
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises what its parsers raise
        raise NotReadable(f"its header is damaged ({type(error).__name__})") from None


def _instance(path: Path, dataset: Dataset) -> Instance:
    study, series, uid = (text(dataset, f"{name}InstanceUID") for name in ("Study", "Series", "SOP"))
    if not (study and series and uid):
        raise NotReadable("its header is cut short or names no study, series or instance")
    number = number_of(dataset, "SeriesNumber")
    return Instance(
        path,
        text(dataset, "PatientID"),
        study,
        series,
        uid,
        text(dataset, "StudyDate"),
        text(dataset, "StudyDescription"),
        None if number is None else int(number),
        text(dataset, "FrameOfReferenceUID"),
        number_of(dataset, "SamplesPerPixel") == 1 and text(dataset, "PhotometricInterpretation") == "MONOCHROME2",
        text(dataset, "LossyImageCompression") == "01",
        _frames(path, dataset),
        _acquisition(dataset),
    )


def _frames(path: Path, dataset: Dataset) -> tuple[Frame, ...]:
    """None of what is no image."""
    rows, columns = (number_of(dataset, name) for name in ("Rows", "Columns"))
    if not rows or not columns:
        return ()
    count = number_of(dataset, "NumberOfFrames") or 1
    if not 1 <= count <= MOST_FRAMES:
        raise NotReadable(f"its header speaks of {count:g} frames")
    own, shared = _groups(dataset)
    return tuple(
        _frame(path, index, int(rows), int(columns), _Groups(dataset, [*own[index : index + 1], *shared]))
        for index in range(int(count))
    )


def _frame(path: Path, index: int, rows: int, columns: int, groups: _Groups) -> Frame:
    slope, intercept = (
        groups.number("PixelValueTransformationSequence", f"Rescale{n}") for n in ("Slope", "Intercept")
    )
    marks = [(name, text(groups.dataset, name)) for name in _TELLS_APART]
    marks += [
        ("EchoTime", _shown(groups.number("MREchoSequence", "EffectiveEchoTime"))),
        ("DiffusionBValue", _shown(groups.number("MRDiffusionSequence", "DiffusionBValue"))),
        ("TemporalPositionIndex", _shown(groups.number("FrameContentSequence", "TemporalPositionIndex"))),
        ("ImageType", "\\".join(texts(groups.dataset, "ImageType"))),
    ]
    return Frame(
        path,
        index,
        rows,
        columns,
        groups.numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        groups.numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        tuple((name, value) for name, value in marks if value),
    )


def _acquisition(dataset: Dataset) -> Acquisition:
    own, shared = _groups(dataset)
    first = _Groups(dataset, [*own[:1], *shared])
    scanning = list(texts(dataset, "ScanningSequence"))
    if text(dataset, "EchoPlanarPulseSequence") == "YES":
        scanning.append("EP")
    if text(dataset, "InversionRecovery") == "YES":
        scanning.append("IR")
    scanning += {"SPIN": ["SE"], "GRADIENT": ["GR"]}.get(text(dataset, "EchoPulseSequence"), [])
    agents = [text(item, "CodeMeaning") for item in items(dataset, "ContrastBolusAgentSequence")]
    return Acquisition(
        text(dataset, "Modality"),
        text(dataset, "SOPClassUID"),
        text(dataset, "SeriesDescription"),
        text(dataset, "ProtocolName"),
        text(dataset, "SequenceName") or text(dataset, "PulseSequenceName"),
        texts(dataset, "ImageType"),
        tuple(scanning),
        texts(dataset, "SequenceVariant"),
        texts(dataset, "ScanOptions"),
        text(dataset, "MRAcquisitionType"),
        _or(number_of(dataset, "EchoTime"), first.number("MREchoSequence", "EffectiveEchoTime")),
        _or(number_of(dataset, "RepetitionTime"), first.number(_TIMING, "RepetitionTime")),
        _or(number_of(dataset, "InversionTime"), first.number("MRModifierSequence", "InversionTimes")),
        _or(number_of(dataset, "DiffusionBValue"), first.number("MRDiffusionSequence", "DiffusionBValue")),
        number_of(dataset, "NumberOfTemporalPositions"),
        text(dataset, "ContrastBolusAgent") or " ".join(filter(None, agents)),
        number_of(dataset, "ContrastBolusVolume"),
    )


_TIMING = "MRTimingAndRelatedParametersSequence"


def _groups(dataset: Dataset) -> tuple[list[Dataset], list[Dataset]]:
    """Functional groups: one a frame, and what all frames share."""
    return items(dataset, "PerFrameFunctionalGroupsSequence"), items(dataset, "SharedFunctionalGroupsSequence")[:1]


class _Groups:
    """The attributes of one frame: its own functional group, the shared one, or the data set itself."""

    def __init__(self, dataset: Dataset, groups: list[Dataset]) -> None:
        self.dataset, self._groups = dataset, groups

    def _holder(self, sequence: str, name: str) -> Dataset:
        for group in self._groups:
            for item in items(group, sequence)[:1]:
                if name in item:
                    return item
        return self.dataset

    def number(self, sequence: str, name: str) -> float | None:
        """The first number of an attribute."""
        return number_of(self._holder(sequence, name), name)

    def numbers(self, sequence: str, name: str, count: int) -> tuple[float, ...] | None:
        """So many finite numbers, or None."""
        found = numbers_of(self._holder(sequence, name), name)
        return found if len(found) == count else None


def value_of(dataset: Dataset, name: str) -> Any:
    """An attribute's value; None where it is missing, empty, or not what the standard asks for."""
    try:
        return dataset.get(name)
    except Exception:  # values are parsed when they are asked for
        return None


def items(dataset: Dataset, name: str) -> list[Dataset]:
    """A sequence's items."""
    from pydicom.sequence import Sequence

    value = value_of(dataset, name)
    return list(value) if isinstance(value, Sequence) else []


def texts(dataset: Dataset, name: str) -> tuple[str, ...]:
    """All values as texts that print."""
    value = value_of(dataset, name)
    if value is None or isinstance(value, bytes):
        return ()
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return tuple(one_line(part) for part in several)


def text(dataset: Dataset, name: str) -> str:
    """The value as one text that prints; empty where there is none."""
    return one_line(" ".join(texts(dataset, name)))


def numbers_of(dataset: Dataset, name: str) -> tuple[float, ...]:
    """All values as finite numbers; none of them where one is no number."""
    try:
        found = tuple(float(part) for part in texts(dataset, name))
    except ValueError:
        return ()
    return found if all(abs(number) < float("inf") for number in found) else ()


def number_of(dataset: Dataset, name: str) -> float | None:
    """The first number, or None."""
    return next(iter(numbers_of(dataset, name)), None)


def _or(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:g}"
