"""DICOM studies as written by a scanner or a PACS, from volumes with known voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from DanteSegmenterLib.volume import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STUDY, FRAME_OF_REFERENCE = generate_uid(None), generate_uid(None)
# The attributes that identify a modality: description, TE, TR, TI (ms), scanning sequence.
SEQUENCES = {
    "t1": ("AX T1 SE", 12, 600, None, "SE"),
    "t1ce": ("AX T1 SE +C", 12, 600, None, "SE"),
    "t2": ("AX T2 TSE", 100, 5000, None, "SE"),
    "flair": ("AX FLAIR", 120, 9000, 2500, ["SE", "IR"]),
}
Change = Callable[[Dataset, int], None]


def oblique(spacing_mm: tuple[float, float, float], degrees: float = 17.0) -> np.ndarray:
    """A rotated grid with the given spacing along I, J, K; K is opposite to the normal of I and J."""
    a, b = np.radians([degrees, degrees / 2])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ np.diag([-1.0, -1.0, -1.0]) * np.array(spacing_mm)
    matrix[:3, 3] = (31.5, -12.25, 7.125)
    return matrix


def whole(volume: Volume, scale: float = 1000.0) -> Volume:
    """The volume rounded to integers, as stored by a scanner."""
    return Volume(np.rint(volume.array * scale).astype(np.int16), volume.ijk_to_ras, volume.name)


def along_normal(volume: Volume) -> Volume:
    """The voxels in reading order, with K along the cross product of I and J in LPS; flipped if necessary."""
    if np.linalg.det(LPS @ volume.ijk_to_ras) > 0:
        return volume
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = volume.shape[0] - 1
    return Volume(volume.array[::-1], volume.ijk_to_ras @ flip, volume.name)


def write_series(
    folder: Path,
    volume: Volume,
    kind: str = "t1",
    number: int = 1,
    change: Change = lambda dataset, k: None,
    names: Callable[[int], str] = "{:04d}.dcm".format,
    **fields: object,
) -> list[Path]:
    """Write one file per slice, numbered along K.

    Args:
        kind: key of `SEQUENCES`, or "ct".
        change: applied to each data set before it is written.
        names: file name for a slice number.
        fields: attributes for all files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, paths = generate_uid(None), []
    for k in range(volume.shape[0]):
        dataset = slice_of(volume, k, kind, number)
        dataset.SeriesInstanceUID = series
        for name, value in fields.items():
            setattr(dataset, name, value)
        change(dataset, k)
        paths.append(save(folder / names(k), dataset))
    return paths


def slice_of(volume: Volume, k: int, kind: str = "t1", number: int = 1) -> Dataset:
    """A complete MR or CT instance of one slice."""
    lps = LPS @ volume.ijk_to_ras
    axes = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    dataset = patient_and_study()
    dataset.SOPClassUID = CTImageStorage if kind == "ct" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid(None)
    dataset.Modality = "CT" if kind == "ct" else "MR"
    dataset.SeriesNumber, dataset.InstanceNumber = number, k + 1
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = FRAME_OF_REFERENCE, ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if kind == "ct" else "M"]
    dataset.PatientPosition = "HFS"
    dataset.Manufacturer = "Test scanner"
    if kind != "ct":
        describe(dataset, kind)
    dataset.ImagePositionPatient = numbers(lps[:3] @ [0, 0, k, 1])
    dataset.ImageOrientationPatient = numbers([*axes[:, 0], *axes[:, 1]])
    dataset.PixelSpacing = numbers([volume.spacing_mm[1], volume.spacing_mm[2]])
    dataset.SliceThickness = numbers([volume.spacing_mm[0]])[0]
    set_pixels(dataset, volume.array[k])
    return dataset


def patient_and_study() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Müller^Änne", "4711-SECRET"
    dataset.PatientBirthDate, dataset.PatientSex = "19500203", "F"
    dataset.PatientAddress, dataset.PatientWeight = "Hidden Street 7", 61
    dataset.StudyInstanceUID, dataset.StudyID = STUDY, "7"
    dataset.StudyDate, dataset.StudyTime = "20260102", "030405"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A-99", "House^Gregory"
    return dataset


def describe(dataset: Dataset, kind: str) -> None:
    """Set the parameters of a sequence."""
    dataset.SeriesDescription, dataset.EchoTime, dataset.RepetitionTime, inversion, dataset.ScanningSequence = (
        SEQUENCES[kind]
    )
    if inversion is not None:
        dataset.InversionTime = inversion
    dataset.SequenceVariant, dataset.ScanOptions, dataset.MRAcquisitionType = "SK", "", "2D"
    dataset.EchoTrainLength = 1


def set_pixels(dataset: Dataset, array: np.ndarray) -> None:
    """Store values as signed 16 bit, [J, I] or [frame, J, I]."""
    dataset.Rows, dataset.Columns = array.shape[-2:]
    if array.ndim == 3:
        dataset.NumberOfFrames = len(array)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = array.astype("<i2").tobytes()


def numbers(values) -> list[str]:
    """As decimal strings of at most sixteen characters."""
    return [f"{value:.10f}"[:16] for value in values]


def save(path: Path, dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a file with preamble."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    file = FileDataset(str(path), dataset, file_meta=meta, preamble=bytes(128))
    file.save_as(path, enforce_file_format=True)
    return path


def write_study(folder: Path, volumes: dict[str, Volume], **choices) -> Path:
    """Write one series per modality, each into its own folder."""
    for number, (modality, volume) in enumerate(volumes.items(), 1):
        write_series(folder / f"S{number:05d}", volume, modality, number, **choices)
    return folder


def item(**attributes):
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def write_enhanced(folder, volume, order=None, shared=False, echoes=(100,)):
    """Write one file with a frame per slice (and echo), in the given order; geometry per frame or shared."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS @ volume.ijk_to_ras
    axes = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    dataset = patient_and_study()
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedMRImageStorage, generate_uid(None)
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.InstanceNumber = generate_uid(None), 3, 1
    dataset.FrameOfReferenceUID, dataset.Modality = generate_uid(None), "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "T2", "NONE"]
    describe(dataset, "t2")
    del dataset.EchoTime, dataset.RepetitionTime, dataset.ScanningSequence
    dataset.EchoPulseSequence = "SPIN"
    place = {
        "PixelMeasuresSequence": [item(PixelSpacing=numbers(volume.spacing_mm[1:]), SliceThickness=3)],
        "PlaneOrientationSequence": [item(ImageOrientationPatient=numbers([*axes[:, 0], *axes[:, 1]]))],
    }
    timing = {"MRTimingAndRelatedParametersSequence": [item(RepetitionTime=5000)]}
    dataset.SharedFunctionalGroupsSequence = [item(**timing, **(place if shared else {}))]
    order = range(volume.shape[0]) if order is None else order
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=numbers(lps[:3] @ [0, 0, k, 1]))],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=int(k))],
            MREchoSequence=[item(EffectiveEchoTime=echo)],
            **({} if shared else place),
        )
        for echo in echoes
        for k in order
    ]
    set_pixels(dataset, np.concatenate([volume.array[list(order)]] * len(echoes)))
    save(folder / "enhanced", dataset)
