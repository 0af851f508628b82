"""Read NIfTI-1 and NIfTI-2 files strictly: no missing voxels, and no grid that the header does not define.

Other readers fill the missing part of a truncated file with zeros, replace NaN by 0, combine voxel size and direction
from different header fields, and choose one of its two matrices silently; for a patient's image each of these gives a
wrong result. Layout: nifti1.h and nifti2.h (https://nifti.nimh.nih.gov). If a file has both matrices, the sform is
used, as in FSL, SPM and nibabel.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .grid import grid_of, in_millimetres
from .raw_data import (
    GZIP,
    Bytes,
    DamageError,
    HeaderError,
    Unpacked,
    bytes_left,
    check_length,
    check_size,
    note_of_extra,
    opened,
    read_voxels,
    volume_number,
)

# Offset and type of each field, by the header's length, which is its first field.
LAYOUTS: dict[int, dict[str, tuple[int, str]]] = {
    348: {
        "dim": (40, "8h"), "type": (70, "h"), "pixdim": (76, "8f"), "offset": (108, "f"), "slope": (112, "f"),
        "intercept": (116, "f"), "units": (123, "B"), "qform": (252, "h"), "sform": (254, "h"),
        "quaternion": (256, "3f"), "shift": (268, "3f"), "rows": (280, "12f"), "magic": (344, "3s"),
    },
    540: {
        "dim": (16, "8q"), "type": (12, "h"), "pixdim": (104, "8d"), "offset": (168, "q"), "slope": (176, "d"),
        "intercept": (184, "d"), "units": (500, "i"), "qform": (344, "i"), "sform": (348, "i"),
        "quaternion": (352, "3d"), "shift": (376, "3d"), "rows": (400, "12d"), "magic": (4, "3s"),
    },
}  # fmt: skip
NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
OTHER_TYPES = {32: "complex numbers", 1792: "complex numbers", 2048: "complex numbers", 128: "colours", 2304: "colours"}
UNITS = {1: "m", 2: "mm", 3: "um"}
# Matrices that place a corner further apart than this are different.
SAME_PLACE_MM = 0.1
SAME_SIZE = 0.01  # relative to the voxel size


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        sizes: voxels along I, J, K, and along further axes except trailing ones of size 1.
        fields: by the names in `LAYOUTS`; numbers or tuples of numbers.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    offset: int
    fields: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one volume, K, J, I."""
        return self.sizes[2::-1]


def read_nifti(path: Path, component: int | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read the array [K, J, I], the 4x4 matrix to RAS mm, and notes about the file.

    Raises:
        HeaderError: the header is invalid.
        DamageError: voxels are missing or damaged.
        InputError: it cannot be opened, or changed while it was read.
        ResourceError: it does not fit into memory.
    """
    with opened(path) as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        source: Bytes = Unpacked(file) if packed else file
        start = bytes(source.read(540))
        header = parse(start)
        volumes = header.sizes[3] if len(header.sizes) > 3 else 1
        n = volume_number(volumes, component, header.sizes)
        matrix, notes = geometry(header)
        one = math.prod(header.shape) * header.dtype.itemsize
        check_size(header.shape, header.dtype)
        if not packed:
            check_length(os.fstat(file.fileno()).st_size, header.offset, one * volumes)
        rest = _Joined(start[header.offset :], source)
        gap = max(0, header.offset - len(start))
        array = read_voxels(rest, header.shape, header.dtype, gap + one * n, one * (volumes - 1 - n))
        if isinstance(source, Unpacked):
            extra = bytes_left(source)
            notes += ["bytes behind the end of the compressed data were passed over."] if source.garbage else []
        else:
            extra = os.fstat(file.fileno()).st_size - header.offset - one * volumes
        notes += note_of_extra(extra, header.shape, header.dtype)
    array, said = _scaled(array, header.fields["slope"], header.fields["intercept"])
    return array, matrix, notes + said


class _Joined:
    """Bytes that were already read, followed by the rest."""

    def __init__(self, first: bytes, then: Bytes) -> None:
        self._first, self._then = first, then

    def read(self, size: int, /) -> bytes | bytearray:
        first, self._first = self._first[:size], self._first[size:]
        return first + self._then.read(size - len(first)) if len(first) < size else first


def parse(start: bytes) -> Header:
    """Parse the header from the first 540 bytes of a file (fewer if it is shorter).

    Raises:
        HeaderError: not NIfTI, or voxels are not single numbers, or sizes are invalid.
        DamageError: shorter than a header.
    """
    found = [(o, n) for o in "<>" for n in LAYOUTS if start[:4] == struct.pack(f"{o}i", n)]
    if not found:
        raise HeaderError("it is no NIfTI file: no header of 348 or 540 bytes begins it")
    order, length = found[0]
    if len(start) < length:
        raise DamageError(f"{len(start)} bytes are there, the header alone has {length}")
    fields: dict[str, Any] = {}
    for name, (place, kind) in LAYOUTS[length].items():
        values = struct.unpack_from(order + kind, start, place)
        fields[name] = values if len(values) > 1 else values[0]
    _check_magic(fields["magic"])
    offset = fields["offset"]
    least = length + 4 if offset == 0 else offset
    if not math.isfinite(least) or least < length or least > 1 << 40:
        raise HeaderError(f"the header says that the voxels begin at byte {offset:g}")
    return Header(_sizes(fields["dim"]), _dtype(fields["type"], order), int(least), fields)


def _check_magic(magic: bytes) -> None:
    if magic in (b"ni1", b"ni2"):
        raise HeaderError("it is the header of a pair of files (.hdr and .img). Save it as one .nii or .nii.gz file")
    if magic not in (b"n+1", b"n+2"):
        raise HeaderError("it is an Analyze 7.5 file, which does not say which side is left. Convert it to NIfTI")


def _sizes(dim: tuple[int, ...]) -> tuple[int, ...]:
    axes = dim[0]
    sizes = list(dim[1 : 1 + max(0, min(7, axes))])
    if not 1 <= axes <= 7 or min(sizes) < 1:
        raise HeaderError(f"the header gives {axes} axes of {sizes} voxels")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4 and sizes[3] == 1:
        raise HeaderError(f"it has {math.prod(sizes[4:])} values per voxel (a vector image); a scalar volume is needed")
    if not 3 <= len(sizes) <= 4:
        raise HeaderError(f"it has {len(sizes)} dimensions, size {tuple(sizes)}; a three-dimensional volume is needed")
    return tuple(sizes)


def _dtype(code: int, order: str) -> np.dtype:
    if code in OTHER_TYPES:
        raise HeaderError(f"its voxels are {OTHER_TYPES[code]} (type {code}); one real number per voxel is needed")
    if code not in NIFTI_TYPES:
        raise HeaderError(f"its voxels are of type {code}, which is not read; convert it to float32")
    return np.dtype(order + NIFTI_TYPES[code])


def geometry(header: Header) -> tuple[np.ndarray, list[str]]:
    """4x4 matrix from (i, j, k, 1) to RAS mm, and notes on how it was determined.

    Raises:
        HeaderError: neither matrix can be used.
    """
    fields, notes = header.fields, []
    sizes = np.array(fields["pixdim"][1:4], np.float64)
    usable = bool(np.isfinite(sizes).all() and (sizes != 0).all())
    quaternion = _from_quaternion(fields, np.abs(sizes)) if fields["qform"] > 0 and usable else None
    rows = np.vstack([np.reshape(fields["rows"], (3, 4)), [0, 0, 0, 1]])
    if fields["sform"] > 0 and not np.isfinite(rows).all():
        raise HeaderError("the header's matrix (sform) holds values that are not finite")
    if fields["sform"] > 0 and (rows[:3, :3].any() or quaternion is None):
        matrix = rows
        if fields["qform"] > 0 and quaternion is not None:
            notes += _disagreement(rows, quaternion, header)
        if not notes:
            notes += _other_sizes(np.linalg.norm(rows[:3, :3], axis=0), sizes)
    elif quaternion is not None:
        matrix = quaternion
        notes += ["its header gives negative voxel sizes; their amount was taken."] if (sizes < 0).any() else []
    elif usable and fields["qform"] <= 0:
        matrix = np.diag([*np.abs(sizes), 1.0])
        notes.append(
            "WARNING: its header does not say how it lies in space (qform_code and sform_code are 0): left and right "
            "may be exchanged."
        )
    else:
        given = " x ".join(f"{size:g}" for size in sizes)
        raise HeaderError(f"the header gives voxels of {given} mm, or a rotation (qform) that is none")
    matrix, units = in_millimetres(matrix, UNITS.get(fields["units"] & 7, "mm"))
    matrix, lean = grid_of(matrix, header.shape)
    return matrix, notes + units + lean


def _from_quaternion(fields: dict[str, Any], sizes: np.ndarray) -> np.ndarray | None:
    """The matrix of a qform (nifti1.h, method 2); None if its numbers are not a rotation."""
    b, c, d = (float(value) for value in fields["quaternion"])
    rest = 1.0 - (b * b + c * c + d * d)
    if not (math.isfinite(rest) and rest > -1e-3 and np.isfinite(fields["shift"]).all()):
        return None
    a = math.sqrt(max(0.0, rest))
    if a < 1e-7:  # half a turn: renormalise after rounding
        b, c, d = np.array([b, c, d]) / math.sqrt(b * b + c * c + d * d)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = -1.0 if fields["pixdim"][0] < 0 else 1.0
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (sizes * [1, 1, handed])
    matrix[:3, 3] = fields["shift"]
    return matrix


def _disagreement(sform: np.ndarray, qform: np.ndarray, header: Header) -> list[str]:
    """A note if the header's two matrices place the image differently."""
    corners = np.array(np.meshgrid(*([0, size - 1] for size in header.sizes[:3]), [1])).reshape(4, -1)
    apart = float(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max())
    if apart <= SAME_PLACE_MM:
        return []
    return [
        f"WARNING: the header's two matrices (sform and qform) lie up to {apart:.1f} mm apart; the sform was taken, as "
        "FSL, SPM and nibabel do. Look whether the volumes lie on each other."
    ]


def _other_sizes(of_matrix: np.ndarray, given: np.ndarray) -> list[str]:
    """A note if the header's voxel sizes differ from those of its matrix."""
    with np.errstate(invalid="ignore"):
        same = np.abs(given - of_matrix) <= SAME_SIZE * of_matrix
    if same.all():
        return []
    wrong, taken = (" x ".join(f"{size:.4g}" for size in sizes) for sizes in (given, of_matrix))
    return [
        f"WARNING: its header gives voxels of {wrong} mm, its matrix (sform) of {taken} mm; the matrix was taken. "
        "Look whether the volumes lie on each other."
    ]


def _scaled(array: np.ndarray, slope: float, intercept: float) -> tuple[np.ndarray, list[str]]:
    """Apply the header's slope and intercept to stored numbers; a slope of 0 means none."""
    if not math.isfinite(slope):
        return array, [f"its header gives a slope of {slope}; the stored values were taken."]
    if slope == 0:
        odd = intercept != 0
        return array, [f"its header gives an intercept of {intercept:g} without a slope; it was not used."] * odd
    if not math.isfinite(intercept):
        raise HeaderError(f"its header gives an intercept of {intercept}: the values cannot be known")
    if (slope, intercept) == (1, 0):
        return array, []
    wide = array.dtype.kind == "f" and array.dtype.itemsize == 8
    notes = ["its header turns bright to dark (a negative slope)."] if slope < 0 else []
    with np.errstate(over="ignore"):  # infinite values are counted and refused when images are checked
        values = array * np.float64(slope) + np.float64(intercept)
        return values if wide else values.astype(np.float32), notes
