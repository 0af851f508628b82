"""Read MetaImage files (.mha, .mhd) strictly: complete, one number per voxel, in encodings that reveal damage.

Layout: https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .grid import LPS_TO_RAS, grid_of, in_millimetres
from .raw_data import DamageError, HeaderError, note_of_extra, opened, read_packed, read_raw, volume_number

META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
# Alternative names of header fields.
DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
ORIGINS = ("Offset", "Position", "Origin")
SPACINGS = ("ElementSpacing", "ElementSize")
BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
MAX_LINES, MAX_LINE = 200, 1 << 16


def read_meta_image(path: Path, component: int | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read the array [K, J, I], the 4x4 matrix to RAS mm, and notes about the file.

    Raises:
        HeaderError: the header is invalid.
        DamageError: voxels are missing or damaged.
        InputError: it cannot be opened, or changed while it was read.
        ResourceError: it does not fit into memory.
    """
    with opened(path) as file:
        header = _header(file)
        sizes, dtype = _sizes(header), _dtype(header)
        n = volume_number(sizes[3] if len(sizes) > 3 else 1, component, sizes)
        shape = sizes[2::-1]
        matrix, notes = _matrix(header)
        matrix, said = grid_of(matrix, shape)
        data_file = header["ElementDataFile"]
        if data_file.upper().startswith("LIST") or "%" in data_file:
            raise HeaderError("its voxels lie in several files. Save it as one .mha file")
        if data_file.upper() == "LOCAL":
            array, extra = _voxels(file, header, sizes[::-1], dtype)
        else:
            with opened(path.parent / data_file) as data:
                array, extra = _voxels(data, header, sizes[::-1], dtype)
    if len(sizes) > 3:
        array = array[n].copy()
    return array, matrix, notes + said + note_of_extra(extra, shape, dtype)


def _header(file: BinaryIO) -> dict[str, str]:
    """Header lines of the form `name = value`; the last one locates the voxels."""
    header: dict[str, str] = {}
    for _ in range(MAX_LINES):
        line = file.readline(MAX_LINE).decode("utf-8", "replace")
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise HeaderError("it is no MetaImage file, or its header is cut short")
        header[name] = value
        if name == "ElementDataFile":
            return header
    raise HeaderError("it is no MetaImage file: its header has no ElementDataFile")


def _sizes(header: dict[str, str]) -> tuple[int, ...]:
    """Size along I, J, K, and the number of volumes for a series."""
    sizes = [int(size) for size in _numbers(header, ("DimSize",), ())]
    if header.get("NDims") != str(len(sizes)) or not sizes or min(sizes) < 1:
        raise HeaderError(f"the header gives {header.get('NDims')} axes of {sizes} voxels")
    if len(sizes) not in (3, 4):
        raise HeaderError(f"it has {len(sizes)} dimensions, size {sizes}; a three-dimensional volume is needed")
    channels = header.get("ElementNumberOfChannels", "1")
    if channels != "1":
        raise HeaderError(
            f"it has {channels} values per voxel (a colour or vector image); a scalar volume is needed. Convert it to "
            "grey values first"
        )
    return tuple(sizes)


def _dtype(header: dict[str, str]) -> np.dtype:
    name = header.get("ElementType", "")
    if name not in META_TYPES:
        raise HeaderError(f"its voxels are of type '{name}'; one real number per voxel is needed")
    if not _is_true(header, ("BinaryData",), True):
        raise HeaderError("its voxels are written as text, in which damage cannot be told. Save it as binary")
    line = (
        _numbers(header, ("ElementToIntensityFunctionSlope",), (1,)),
        _numbers(header, ("ElementToIntensityFunctionOffset",), (0,)),
    )
    if line != ([1.0], [0.0]):
        raise HeaderError(f"its values are to be changed by a line (slope and offset {line}), which is not done here")
    return np.dtype((">" if _is_true(header, BYTE_ORDERS, False) else "<") + META_TYPES[name])


def _matrix(header: dict[str, str]) -> tuple[np.ndarray, list[str]]:
    """The 4x4 matrix to RAS in millimetres; MetaImage has one direction per axis, in LPS."""
    axes = int(header["NDims"])
    directions = _numbers(header, DIRECTIONS, np.eye(axes).ravel())
    spacing, origin = _numbers(header, SPACINGS, ()), _numbers(header, ORIGINS, [0] * axes)
    if not spacing:
        raise HeaderError("its header gives no voxel size (ElementSpacing)")
    if (len(directions), len(spacing), len(origin)) != (axes**2, axes, axes):
        raise HeaderError(f"its header needs {axes**2} numbers of direction, {axes} of spacing and {axes} of origin")
    table = np.array(directions).reshape(axes, axes)
    if table[3:, :3].any() or table[:3, 3:].any():
        raise HeaderError("its fourth axis is turned into space")
    matrix = np.eye(4)
    matrix[:3, :3] = table[:3, :3].T * spacing[:3]
    matrix[:3, 3] = origin[:3]
    if any(size <= 0 for size in spacing):
        raise HeaderError(f"the header gives voxels of {' x '.join(f'{size:g}' for size in spacing)} mm")
    matrix, notes = in_millimetres(matrix, header.get("DistanceUnits", "mm"))
    return LPS_TO_RAS @ matrix, notes


def _numbers(header: dict[str, str], names: tuple[str, ...], otherwise: Any) -> list[float]:
    """The numbers of the first of these fields that exists."""
    for name in names:
        if name in header:
            try:
                return [float(word) for word in header[name].split()]
            except ValueError:
                raise HeaderError(f"its {name} holds no numbers ('{header[name][:60]}')") from None
    return [float(value) for value in otherwise]


def _is_true(header: dict[str, str], names: tuple[str, ...], otherwise: bool) -> bool:
    return next((header[name][:1] in ("T", "t", "1") for name in names if name in header), otherwise)


def _voxels(file: BinaryIO, header: dict[str, str], shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """The array, and the number of bytes after it."""
    if not _is_true(header, ("CompressedData",), False):
        (skip,) = _numbers(header, ("HeaderSize",), (0,)) or [0.0]
        return read_raw(file, shape, dtype, int(skip))
    (packed,) = _numbers(header, ("CompressedDataSize",), (0,)) or [0.0]
    there = os.fstat(file.fileno()).st_size - file.tell()
    if packed > there:
        raise DamageError(f"{there} bytes of compressed data are there, {packed:.0f} are needed")
    return read_packed(file, shape, dtype)
