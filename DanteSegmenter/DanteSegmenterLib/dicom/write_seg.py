"""Write masks as a DICOM Segmentation (PS3.3 A.51), one coded binary segment per region, referring to its series.

From the source's header, only what the patient and study modules require is copied (`COPIED`); everything else is new.
highdicom writes the file and applies its own checks of the standard.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..errors import InputError
from ..guard.atomic import write_atomically
from ..guard.plain_text import one_line
from ..model_folder.spec import Region
from ..result.report import Report
from .header.instance import MANUFACTURER
from .header.packages import check_packages, quiet
from .header.records import Frame
from .stack import Stack

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code as DicomCode

    from ..model_folder.terminology import Code

DICOM_ENDING = ".dcm"
# Of patient and study, types 1 and 2: always present, empty if missing in the source.
COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
# Copied if present in the source: information on de-identification.
COPIED_IF_THERE = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
# Identification of the source: referred to, or shared by the segmentation. The position is written from the stack.
_REFERRED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "Rows", "Columns", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
PRODUCT = "DanteSegmenterLib"
UTF_8 = "ISO_IR 192"  # for names of patients and models, whatever the source's character set
# Maximum lengths of the value representations LO and SH.
LONGEST_LO, LONGEST_SH = 64, 16
LARGEST_NUMBER = 2**31 - 1


def check_can_write_seg(stack: Stack) -> None:
    """Check before the computation whether a segmentation can refer to these slices.

    Raises:
        InputError: they have no frame of reference, or are in several multi-frame files.
        ResourceError: highdicom is not installed.
    """
    check_packages(writing=True)
    if not stack.series.instances[0].frame_of_reference:
        raise InputError(
            f"{stack.series.label} names no Frame of Reference UID, which a DICOM segmentation needs. Write .seg.nrrd."
        )
    if len(stack.series.files) > 1 and any(len(instance.frames) > 1 for instance in stack.series.instances):
        raise InputError(
            f"{stack.series.label} lies in {len(stack.series.files)} multi-frame files; a DICOM segmentation refers to "
            "one. Write .seg.nrrd."
        )


def write_seg(
    path: Path,
    masks: Mapping[str, np.ndarray],
    regions: Sequence[Region],
    report: Report,
    stack: Stack,
) -> None:
    """Write overlapping regions as one DICOM SEG file.

    Args:
        masks: bool [K, J, I] by region id, on the grid of `stack`.
        regions: regions to write, in this order.
        report: report of the run, with the model's name.
        stack: the slices of the source series.

    Raises:
        InputError: the slices cannot be referred to, or their files were changed.
        ResourceError: the file cannot be written, or highdicom is not installed.
    """
    check_can_write_seg(stack)
    if any(masks[region.id].shape != stack.shape for region in regions):
        raise ValueError(f"masks are not on the grid of {stack.series.label}, {stack.shape}")
    with quiet():
        logging.getLogger("highdicom").setLevel(logging.ERROR)
        segmentation = _segmentation(masks, regions, report, stack)
        write_atomically(path, lambda temporary: segmentation.save_as(temporary))


def _segmentation(
    masks: Mapping[str, np.ndarray], regions: Sequence[Region], report: Report, stack: Stack
) -> Segmentation:
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    sources, order = _sources(stack)
    # [frame, J, I, segment]
    array = np.stack([masks[region.id][order] for region in regions], axis=-1).astype(np.uint8)
    described = [_segment(number, region, report) for number, region in enumerate(regions, 1)]
    made_by = _lo(f"{report.model} {report.version}")
    return Segmentation(
        sources,
        array,
        "BINARY",
        described,
        series_instance_uid=generate_uid(None),
        series_number=_series_number(stack),
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number=_lo(report.weights or "0"),
        content_description=made_by,
        content_label="SEGMENTATION",
        series_description=made_by,
        specific_character_set=UTF_8,
        omit_empty_frames=True,
    )


def _sources(stack: Stack) -> tuple[list[Dataset], list[int]]:
    """Headers of the source files, and the slice index along K of each of their frames."""
    if len(stack.series.files) > 1:
        sources = [_source(frame.path) for frame in stack.frames]
        for source, frame in zip(sources, stack.frames):
            source.update(_measures(stack))
            source.update(_orientation(stack))
            source.update(_position(frame))
        return sources, list(range(len(stack.frames)))
    order = sorted(range(len(stack.frames)), key=lambda k: stack.frames[k].index)
    source = _source(stack.frames[0].path)
    source.NumberOfFrames = len(order)
    source.SharedFunctionalGroupsSequence = [
        _holding(PixelMeasuresSequence=_measures(stack), PlaneOrientationSequence=_orientation(stack))
    ]
    source.PerFrameFunctionalGroupsSequence = [
        _holding(PlanePositionSequence=_position(stack.frames[k])) for k in order
    ]
    return [source], order


def _source(path: Path) -> Dataset:
    """A source file's header, restricted to what is copied or referred to."""
    from pydicom import dcmread

    try:
        source = dcmread(path, stop_before_pixels=True, specific_tags=[*COPIED, *COPIED_IF_THERE, *_REFERRED])
    except Exception as error:  # any error of pydicom's parsers
        raise InputError(f"'{path}' cannot be read any more ({type(error).__name__}). Was it changed?") from None
    for name in COPIED:
        if name not in source:
            setattr(source, name, "")
    return source


def _measures(stack: Stack) -> Dataset:
    thickness, *spacing = stack.spacing_mm
    return _holding_numbers(PixelSpacing=spacing, SliceThickness=[thickness], SpacingBetweenSlices=[thickness])


def _orientation(stack: Stack) -> Dataset:
    return _holding_numbers(ImageOrientationPatient=stack.frames[0].axes or ())


def _position(frame: Frame) -> Dataset:
    return _holding_numbers(ImagePositionPatient=frame.position or ())


def _holding_numbers(**attributes: Sequence[float]) -> Dataset:
    """A dataset of decimal strings."""
    from pydicom.dataset import Dataset as Made
    from pydicom.valuerep import DSfloat

    made = Made()
    for name, values in attributes.items():
        written = [DSfloat(float(value), auto_format=True) for value in values]
        setattr(made, name, written if len(written) > 1 else written[0])
    return made


def _holding(**sequences: Dataset) -> Dataset:
    """A functional group: sequences with one item."""
    from pydicom.dataset import Dataset as Made

    made = Made()
    for name, item in sequences.items():
        setattr(made, name, [item])
    return made


def _segment(number: int, region: Region, report: Report) -> SegmentDescription:
    from highdicom.color import CIELabColor
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = AlgorithmIdentificationSequence(
        _lo(report.model), codes.cid7162.ArtificialIntelligence, _lo(report.version), source=MANUFACTURER
    )
    return SegmentDescription(
        number,
        _lo(region.name),
        _code(region.terminology.category),
        _code(region.terminology.type),
        "AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(None),
        tracking_id=_lo(region.id),
        anatomic_regions=[_code(region.terminology.anatomy)],
        display_color=CIELabColor.from_rgb(*(round(255 * part) for part in region.color)),
    )


def _code(code: Code) -> DicomCode:
    from pydicom.sr.coding import Code as Written

    return Written(one_line(code.value, LONGEST_SH), one_line(code.scheme, LONGEST_SH), _lo(code.meaning))


def _lo(text: str) -> str:
    """A text as DICOM's "long string": at most 64 characters, without backslashes, which separate values."""
    return one_line(text.replace("\\", "/"), LONGEST_LO) or "-"


def _series_number(stack: Stack) -> int:
    """A number that the study's scanner does not use: the source's times 100, plus 1."""
    return min(100 * max(stack.series.number or 0, 0) + 1, LARGEST_NUMBER)
