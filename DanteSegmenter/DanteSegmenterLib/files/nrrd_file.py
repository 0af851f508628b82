"""Read NRRD files strictly: only encodings that reveal damage, and axes with a direction.

Layout: https://teem.sourceforge.net/nrrd/format.html; the header's lines are parsed by pynrrd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .grid import LPS_TO_RAS, grid_of, in_millimetres
from .raw_data import HeaderError, note_of_extra, opened, read_packed, read_raw, volume_number

NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
SPACES = {
    "left-posterior-superior": LPS_TO_RAS,
    "right-anterior-superior": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
}
SPACES |= {"".join(part[0] for part in name.split("-")): to_ras for name, to_ras in SPACES.items()}  # "lps"
MAX_HEADER_LINE = 1 << 16


def read_nrrd(path: Path, component: int | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read the array [K, J, I], the 4x4 matrix to RAS mm, and notes about the file.

    Raises:
        HeaderError: the header is invalid.
        DamageError: voxels are missing or damaged.
        InputError: it cannot be opened, or changed while it was read.
        ResourceError: it does not fit into memory.
    """
    with opened(path) as file:
        if not file.readline(MAX_HEADER_LINE).startswith(b"NRRD"):
            raise HeaderError("it is no NRRD file")
        file.seek(0)
        header = _header(file)
        sizes, series, dtype = *_sizes(header), _dtype(header)
        n = _volume_number(sizes, series, component)
        shape = tuple(size for axis, size in enumerate(sizes) if axis != series)[::-1]
        matrix, notes = _matrix(header, series)
        matrix, said = grid_of(matrix, shape)
        detached = header.get("data file", header.get("datafile"))
        if detached is None:
            array, extra = _voxels(file, header, sizes[::-1], dtype)
        else:
            with opened(_beside(path, detached)) as data:
                array, extra = _voxels(data, header, sizes[::-1], dtype)
    if series is not None:
        array = np.ascontiguousarray(np.take(array, n, axis=len(sizes) - 1 - series))
    return array, matrix, notes + said + note_of_extra(extra, shape, dtype)


def _header(file: Any) -> dict[str, Any]:
    import nrrd

    try:
        return dict(nrrd.read_header(file))
    except Exception as error:  # pynrrd raises whatever its parsing raises
        raise HeaderError(f"its header cannot be understood ({error})") from None


def _sizes(header: dict[str, Any]) -> tuple[tuple[int, ...], int | None]:
    """Sizes of all axes, fastest first, and the index of a fourth, non-spatial axis: segments, colours or volumes."""
    sizes = tuple(int(size) for size in header.get("sizes", ()))
    if header.get("dimension") != len(sizes) or not sizes or min(sizes) < 1:
        raise HeaderError(f"the header gives {header.get('dimension')} axes of {list(sizes)} voxels")
    rows = _directions(header)
    others = [axis for axis, row in enumerate(rows) if np.isnan(row).all()]
    if not others and len(sizes) == 4 and all(row.shape == (4,) for row in rows):  # ITK's series: time is like space
        table = np.array(rows)
        others = [] if table[:3, 3].any() or table[3, :3].any() else [3]
    if len(sizes) - len(others) != 3 or len(others) > 1:
        raise HeaderError(f"it has {len(sizes) - len(others)} axes with a direction, size {sizes}; three are needed")
    return sizes, others[0] if others else None


def _directions(header: dict[str, Any]) -> list[np.ndarray]:
    """One direction per axis, NaN for an axis without; an image without directions has only spatial axes."""
    directions = header.get("space directions")
    if directions is None:
        return [np.zeros(3)] * int(header["dimension"])
    if len(directions) != header["dimension"]:
        raise HeaderError(f"{len(directions)} directions are given for {header['dimension']} axes")
    return [np.array([np.nan]) if row is None else np.asarray(row, np.float64) for row in directions]


def _volume_number(sizes: tuple[int, ...], series: int | None, component: int | None) -> int:
    volumes = 1 if series is None else sizes[series]
    if component is None and series == 0 and volumes > 1:
        raise HeaderError(
            f"it has {volumes} values per voxel (a colour or vector image, or several segments); a scalar volume is "
            "needed. Convert it to grey values first"
        )
    return volume_number(volumes, component, sizes)


def _dtype(header: dict[str, Any]) -> np.dtype:
    name = str(header.get("type", "")).strip().lower()
    code = next((code for code, names in NRRD_TYPES.items() if name in names), None)
    if code is None:
        raise HeaderError(f"its voxels are of type '{name}'; one real number per voxel is needed")
    endian = str(header.get("endian", "")).lower()
    if code[1] != "1" and endian not in ("little", "big"):
        raise HeaderError("its header does not say the byte order (endian)")
    return np.dtype((">" if endian == "big" else "<") + code)


def _matrix(header: dict[str, Any], series: int | None) -> tuple[np.ndarray, list[str]]:
    """The 4x4 matrix to RAS in millimetres."""
    notes = []
    space = str(header.get("space", "")).strip().lower()
    if space and space not in SPACES:
        raise HeaderError(f"its space is '{space}', which does not say where left is; left-posterior-superior does")
    if not space:
        notes.append("WARNING: its header does not say which side is left (no space); LPS was assumed.")
    matrix = np.eye(4)
    if header.get("space directions") is not None:
        rows = [row[:3] for axis, row in enumerate(_directions(header)) if axis != series]
        if any(row.shape != (3,) for row in rows):
            raise HeaderError(f"its directions have {rows[0].size} numbers each, 3 are needed")
        matrix[:3, :3] = np.array(rows).T
    elif "spacings" in header:
        sizes = np.asarray(header["spacings"], np.float64)
        matrix[:3, :3] = np.diag(sizes[-3:])
    else:
        raise HeaderError("its header gives no voxel size (neither space directions nor spacings)")
    origin = header.get("space origin")
    if origin is not None:
        if len(origin) not in (3, 4):
            raise HeaderError(f"its space origin has {len(origin)} numbers, 3 are needed")
        matrix[:3, 3] = np.asarray(origin, np.float64)[:3]
    units = {str(unit).strip().strip('"').lower() for unit in header.get("space units", ())} - {"", "???"}
    if len(units) > 1:
        raise HeaderError(f"its axes are in different units ({', '.join(sorted(units))})")
    matrix, said = in_millimetres(matrix, units.pop() if units else "mm")
    return SPACES.get(space, LPS_TO_RAS) @ matrix, notes + said


def _beside(path: Path, detached: str) -> Path:
    if detached.upper().startswith("LIST") or "%" in detached:
        raise HeaderError("its voxels lie in several files. Save it as one .nrrd file")
    return path.parent / detached


def _voxels(file: Any, header: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """The array, and the number of bytes after it."""
    encoding = str(header.get("encoding", "")).lower()
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    for _ in range(max(0, lines)):
        file.readline(MAX_HEADER_LINE)
    if encoding in ("gzip", "gz"):
        return read_packed(file, shape, dtype, skip)
    if encoding == "raw":
        return read_raw(file, shape, dtype, skip)
    raise HeaderError(f"its encoding is '{encoding}', in which damage cannot be told. Save it as gzip or raw")
