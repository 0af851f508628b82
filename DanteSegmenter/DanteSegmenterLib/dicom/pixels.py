"""Decode a stack's voxels to the scanner's units, by pydicom with any installed decoders for compressed forms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, ResourceError, lacks_memory
from ..files.raw_data import HeaderError, check_size
from ..guard.plain_text import SHORT, one_line
from ..memory import available_bytes
from ..volume import Volume
from .header.packages import quiet
from .header.records import Frame
from .stack import Stack

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_PIXELS = [
    "BitsAllocated", "BitsStored", "HighBit", "Columns", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "NumberOfFrames", "PhotometricInterpretation", "PixelData", "PixelRepresentation", "PlanarConfiguration", "Rows",
    "SamplesPerPixel",
]  # fmt: skip
RLE = "1.2.840.10008.1.2.5"
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC, SIZ
_START_OF_IMAGE = b"\xff\xd8"  # JPEG, JPEG-LS
# Markers of frame headers in JPEG and JPEG-LS; C4, C8 and CC are not.
_START_OF_FRAME = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def read_stack(stack: Stack) -> Volume:
    """Decode a stack's slices.

    Returns:
        int32 if the headers scale by integers only, otherwise float32.

    Raises:
        InputError: a file is truncated, damaged, changed meanwhile, or has an unsupported compression.
        ResourceError: it does not fit into memory.
    """
    whole = all(frame.slope == 1 and frame.intercept == round(frame.intercept) for frame in stack.frames)
    dtype = np.dtype(np.int32 if whole else np.float32)
    try:
        check_size(stack.shape, dtype)
        array = np.empty(stack.shape, dtype)
        for path, places in _by_file(stack).items():
            _decode(path, places, stack, array)
    except HeaderError as error:
        raise InputError(f"{stack.series.label}: {error}.") from None
    name = " ".join(filter(None, (f"{stack.series.number}:" if stack.series.number else "", stack.series.description)))
    name = name or "series"
    return Volume(array, stack.ijk_to_ras, name, tuple(f"'{name}': {note}" for note in stack.notes))


def _by_file(stack: Stack) -> dict[Path, list[tuple[int, Frame]]]:
    """The slices of each file, with their index along K."""
    found: dict[Path, list[tuple[int, Frame]]] = {}
    for k, frame in enumerate(stack.frames):
        found.setdefault(frame.path, []).append((k, frame))
    return found


def _decode(path: Path, places: list[tuple[int, Frame]], stack: Stack, array: np.ndarray) -> None:
    """Fill in the slices of `array` that a file contains.

    Raises:
        HeaderError: the file cannot be decoded.
        ResourceError: it is larger than the free memory.
    """
    from pydicom import dcmread

    free, size = available_bytes(), path.stat().st_size
    if free is not None and size > free:
        raise ResourceError(f"'{path.name}' has {size / 1e6:.0f} MB; {free / 1e6:.0f} MB of memory are free.")
    try:
        with quiet():
            dataset = dcmread(path, specific_tags=list(_PIXELS))
            _check_decoder(dataset)
            for k, frame in places:
                raw = _slice(dataset, frame.index)
                array[k] = _scaled(raw, frame, array.dtype)
    except (HeaderError, ResourceError):
        raise
    except Exception as error:  # decoders raise any kind of error
        if lacks_memory(error):
            raise
        raise HeaderError(
            f"'{path.name}' is damaged or cut short ({one_line(error, SHORT)}). Export it again"
        ) from None


def _slice(dataset: FileDataset, index: int) -> np.ndarray:
    """Stored values [J, I] of one frame.

    Raises:
        HeaderError: their size differs from the header's.
    """
    from pydicom.pixels import pixel_array  # type: ignore[attr-defined]  # documented there

    rows, columns = int(dataset.Rows), int(dataset.Columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RLE:
        _check_codestream(dataset, index, (rows, columns))
    raw = pixel_array(dataset, index=index, raw=True)
    if raw.shape != (rows, columns):
        raise HeaderError(f"a slice has {' x '.join(map(str, raw.shape))} values instead of {rows} x {columns}")
    return _without_overlay(raw, dataset)


def _without_overlay(raw: np.ndarray, dataset: FileDataset) -> np.ndarray:
    """Remove overlay bits, which old scanners stored above the bits of the value."""
    unused = 8 * raw.dtype.itemsize - int(dataset.BitsStored)
    if unused <= 0 or int(dataset.HighBit) != int(dataset.BitsStored) - 1:
        return raw
    return (raw << unused) >> unused  # preserves the sign


def _scaled(raw: np.ndarray, frame: Frame, dtype: np.dtype) -> np.ndarray:
    if raw.shape != (frame.rows, frame.columns):
        raise HeaderError(f"'{frame.path.name}' was changed while it was read. Wait until it is copied, then try again")
    if dtype.kind == "i":
        return raw.astype(dtype) + int(frame.intercept)
    return (raw * frame.slope + frame.intercept).astype(dtype)


def _check_decoder(dataset: FileDataset) -> None:
    """Check that the transfer syntax can be decoded.

    Raises:
        HeaderError: no installed decoder supports it.
    """
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # documented there

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    try:
        known, available = True, get_decoder(syntax).is_available
    except NotImplementedError:
        known = available = False
    if not available:
        remedy = 'pip install "slicer-dante[dicom]", or export' if known else "Export"
        raise HeaderError(f"it is compressed as {syntax.name}, which cannot be decoded here. {remedy} it uncompressed")


def _check_codestream(dataset: FileDataset, index: int, size: tuple[int, int]) -> None:
    """Compare the codestream's size with the header before decoding: decoders allocate what the codestream claims.

    Raises:
        HeaderError: the sizes differ, or it is not a codestream.
    """
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    declared = declared_size(get_frame(dataset.PixelData, index, number_of_frames=frames))
    if declared != size:
        shown = "no image" if declared is None else f"{declared[0]} x {declared[1]} values"
        raise HeaderError(f"a compressed slice holds {shown} instead of {size[0]} x {size[1]}. Export it again")


def declared_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns declared by a JPEG, JPEG-LS or JPEG 2000 codestream; None if it is none of them."""
    start = stream.find(_START_OF_CODESTREAM, 0, 4096)  # a JP2 file has boxes before it
    if start >= 0 and len(stream) >= start + 24:
        right, bottom, left, top = (int.from_bytes(stream[start + n : start + n + 4], "big") for n in (8, 12, 16, 20))
        return bottom - top, right - left
    return _size_in_jpeg(stream) if stream.startswith(_START_OF_IMAGE) else None


def _size_in_jpeg(stream: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker in _START_OF_FRAME:
            rows, columns = (int.from_bytes(stream[place + n : place + n + 2], "big") for n in (5, 7))
            return rows, columns
        place += 1 if marker == 0xFF else 2 + length  # markers may be padded
    return None
