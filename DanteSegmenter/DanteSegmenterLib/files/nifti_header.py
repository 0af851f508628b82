"""What image readers let pass in silence in NIfTI-1 files: voxels that are not there, and grids that are no grids.

ITK fills what a cut file lacks with zeros, replaces impossible voxel sizes by 1 mm and impossible offsets by the usual
one; in a patient's image each of these is a wrong result. Layout: nifti1.h (https://nifti.nimh.nih.gov).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Protocol

from ..errors import InputError

HEADER_BYTES = 348
PIECE = 1 << 24


def check_nifti(path: Path) -> None:
    """Read header and length of a .nii or .nii.gz file.

    Raises:
        InputError: it is cut short or damaged, or its header says what cannot be.
    """
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
            length = len(header) + _rest(file)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is damaged or cut short ({error}). Copy or download it again.") from None
    problem = _problem(header, length)
    if problem:
        raise InputError(f"'{path}': {problem}. Copy it again, or convert it anew from its source.")


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _rest(file: _Bytes) -> int:
    """Bytes up to the end; a compressed stream is read, for only then its checksum is."""
    length = 0
    while piece := file.read(PIECE):
        length += len(piece)
    return length


def _problem(header: bytes, length: int) -> str:
    """What is wrong with a header of a file of so many bytes; empty for nothing, and for what is not NIfTI-1."""
    order = next((o for o in "<>" if header[:4] == struct.pack(f"{o}i", HEADER_BYTES)), None)
    if order is None or len(header) < HEADER_BYTES:
        return ""  # NIfTI-2, or no NIfTI: the reader itself decides
    axes, *sizes = struct.unpack_from(f"{order}8h", header, 40)
    (bits,) = struct.unpack_from(f"{order}h", header, 72)
    pixdim = struct.unpack_from(f"{order}8f", header, 76)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    qform, sform = struct.unpack_from(f"{order}2h", header, 252)
    rows = struct.unpack_from(f"{order}12f", header, 280)
    if not 1 <= axes <= 7 or min(sizes[:axes]) < 1:
        return f"the header gives {axes} axes of {sizes[: max(0, min(7, axes))]} voxels"
    if not all(math.isfinite(size) and size > 0 for size in pixdim[1 : 1 + min(3, axes)]):
        return f"the header gives voxels of {' x '.join(f'{size:g}' for size in pixdim[1:4])} mm"
    if sform > 0 and not all(map(math.isfinite, rows)):
        return "the header's matrix (sform) holds values that are not finite"
    if sform > 0 and qform <= 0 and not any(rows[n] for n in (0, 1, 2, 4, 5, 6, 8, 9, 10)):
        return "the header's matrix (sform) is zero"
    if not math.isfinite(offset) or not (offset == 0 or HEADER_BYTES <= offset <= length):
        return f"the header says that the voxels begin at byte {offset:g} of {length}"
    wanted = int(offset) + math.prod(sizes[:axes]) * bits // 8
    if length < wanted:
        return f"it is cut short: {length} bytes are there, {wanted} are needed for {sizes[:axes]} voxels"
    return ""
