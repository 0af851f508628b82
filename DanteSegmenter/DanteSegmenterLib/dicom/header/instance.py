"""Read a DICOM file's header: identification, positions of its frames, and acquisition parameters.

Only the attributes named here are read. Multi-frame files have many of them in functional groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .attributes import items, number_of, text, texts
from .functional_groups import Groups, groups_of
from .packages import quiet
from .records import Acquisition, Frame, Instance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_MARK, DICOM_MARK_AT = b"DICM", 128
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
# Decompresses as a whole, to any size; not used for images of patients.
DEFLATED = "1.2.840.10008.1.2.1.99"
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
# In the segmentations that this program writes.
MANUFACTURER = "SlicerDANTE"
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
_READ = (
    *_PLACE, "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality",
    "StudyDate", "StudyDescription", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName",
    "PulseSequenceName", "ImageType", "ScanningSequence", "EchoPulseSequence", "EchoPlanarPulseSequence",
    "InversionRecovery", "EchoTime", "RepetitionTime", "InversionTime",
    "DiffusionBValue", "NumberOfTemporalPositions", "ContrastBolusAgent", "ContrastBolusVolume",
    "ContrastBolusAgentSequence", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers",
    "LossyImageCompression", "Manufacturer", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
# More frames than any scanner writes into one file.
MOST_FRAMES = 20_000
# Attributes that distinguish two images at one position.
_TELLS_APART = ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "AcquisitionNumber")
_TIMING = "MRTimingAndRelatedParametersSequence"


class NotReadable(Exception):
    """A file that starts like DICOM but cannot be read; with the reason as half a sentence."""


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts like a DICOM file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(DICOM_MARK_AT + len(DICOM_MARK))[DICOM_MARK_AT:] == DICOM_MARK


def read_instance(path: Path) -> Instance | None:
    """Read a file's header; None for a DICOMDIR, which is not needed.

    Raises:
        NotReadable: damaged, or in an unsupported form.
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
    except Exception as error:  # any error of pydicom's parsers
        raise NotReadable(f"its header is damaged ({type(error).__name__})") from None


def _instance(path: Path, dataset: Dataset) -> Instance:
    study, series, uid = (text(dataset, f"{name}InstanceUID") for name in ("Study", "Series", "SOP"))
    if not (study and series and uid):
        raise NotReadable("its header is cut short or names no study, series or instance")
    number = number_of(dataset, "SeriesNumber")
    grey = number_of(dataset, "SamplesPerPixel") == 1 and text(dataset, "PhotometricInterpretation") == "MONOCHROME2"
    ours = text(dataset, "SOPClassUID") == SEGMENTATION_CLASS and text(dataset, "Manufacturer") == MANUFACTURER
    return Instance(
        path=path,
        patient=text(dataset, "PatientID"),
        study=study,
        series=series,
        uid=uid,
        date=text(dataset, "StudyDate"),
        study_description=text(dataset, "StudyDescription"),
        number=None if number is None else int(number),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        grey=grey,
        lossy=text(dataset, "LossyImageCompression") == "01",
        ours=ours,
        frames=_frames(path, dataset),
        acquisition=_acquisition(dataset),
    )


def _frames(path: Path, dataset: Dataset) -> tuple[Frame, ...]:
    """The frames of an image; empty for other objects."""
    rows, columns = (number_of(dataset, name) for name in ("Rows", "Columns"))
    if not rows or not columns:
        return ()
    count = number_of(dataset, "NumberOfFrames") or 1
    if not 1 <= count <= MOST_FRAMES:
        raise NotReadable(f"its header speaks of {count:g} frames")
    own, shared = groups_of(dataset)
    return tuple(
        _frame(path, index, int(rows), int(columns), Groups(dataset, [*own[index : index + 1], *shared]))
        for index in range(int(count))
    )


def _frame(path: Path, index: int, rows: int, columns: int, groups: Groups) -> Frame:
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
        path=path,
        index=index,
        rows=rows,
        columns=columns,
        position=groups.numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        axes=groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing_mm=groups.numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        marks=tuple((name, value) for name, value in marks if value),
    )


def _acquisition(dataset: Dataset) -> Acquisition:
    own, shared = groups_of(dataset)
    first = Groups(dataset, [*own[:1], *shared])
    scanning = list(texts(dataset, "ScanningSequence"))
    if text(dataset, "EchoPlanarPulseSequence") == "YES":
        scanning.append("EP")
    if text(dataset, "InversionRecovery") == "YES":
        scanning.append("IR")
    scanning += {"SPIN": ["SE"], "GRADIENT": ["GR"]}.get(text(dataset, "EchoPulseSequence"), [])
    agents = [text(item, "CodeMeaning") for item in items(dataset, "ContrastBolusAgentSequence")]
    return Acquisition(
        modality=text(dataset, "Modality"),
        sop_class=text(dataset, "SOPClassUID"),
        description=text(dataset, "SeriesDescription"),
        protocol=text(dataset, "ProtocolName"),
        sequence_name=text(dataset, "SequenceName") or text(dataset, "PulseSequenceName"),
        image_type=texts(dataset, "ImageType"),
        scanning_sequence=tuple(scanning),
        echo_ms=_or(number_of(dataset, "EchoTime"), first.number("MREchoSequence", "EffectiveEchoTime")),
        repetition_ms=_or(number_of(dataset, "RepetitionTime"), first.number(_TIMING, "RepetitionTime")),
        inversion_ms=_or(number_of(dataset, "InversionTime"), first.number("MRModifierSequence", "InversionTimes")),
        b_value=_or(number_of(dataset, "DiffusionBValue"), first.number("MRDiffusionSequence", "DiffusionBValue")),
        time_points=number_of(dataset, "NumberOfTemporalPositions"),
        contrast_agent=text(dataset, "ContrastBolusAgent") or " ".join(filter(None, agents)),
        contrast_ml=number_of(dataset, "ContrastBolusVolume"),
    )


def _or(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:g}"
