"""NIfTI files with arbitrary headers, with the fields of nifti1.h and nifti2.h."""

import gzip
import struct
from pathlib import Path

import numpy as np

NIFTI_1 = [
    ("length", "i"), (None, "10s"), (None, "18s"), (None, "i"), (None, "h"), (None, "c"), (None, "c"), ("dim", "8h"),
    (None, "3f"), ("intent", "h"), ("type", "h"), ("bits", "h"), (None, "h"), ("pixdim", "8f"), ("offset", "f"),
    ("slope", "f"), ("intercept", "f"), (None, "h"), (None, "c"), ("units", "B"), (None, "4f"), (None, "2i"),
    (None, "80s"), (None, "24s"), ("qform_code", "h"), ("sform_code", "h"), ("quaternion", "3f"), ("shift", "3f"),
    ("rows", "12f"), (None, "16s"), ("magic", "4s"),
]  # fmt: skip
NIFTI_2 = [
    ("length", "i"), ("magic", "8s"), ("type", "h"), ("bits", "h"), ("dim", "8q"), (None, "3d"), ("pixdim", "8d"),
    ("offset", "q"), ("slope", "d"), ("intercept", "d"), (None, "4d"), (None, "2q"), (None, "80s"), (None, "24s"),
    ("qform_code", "i"), ("sform_code", "i"), ("quaternion", "3d"), ("shift", "3d"), ("rows", "12d"), (None, "i"),
    ("units", "i"), ("intent", "i"), (None, "16s"), (None, "c"), (None, "15s"),
]  # fmt: skip
TYPES = {
    "u1": 2,
    "i2": 4,
    "i4": 8,
    "f4": 16,
    "f8": 64,
    "i1": 256,
    "u2": 512,
    "u4": 768,
    "i8": 1024,
    "u8": 1280,
}


def nifti(array, matrix=None, version=1, order="<", **fields):
    """Bytes of a file with array [T, K, J, I] or [K, J, I]; `matrix` becomes its sform, without a qform.

    `fields` override header fields by the names above.
    """
    sizes = array.shape[::-1]
    matrix = np.diag([1.0, 1.0, 1.0, 1.0]) if matrix is None else np.asarray(matrix, float)
    offset = 352 if version == 1 else 544
    values = {
        "length": 348 if version == 1 else 540,
        "dim": [len(sizes), *sizes, *[1] * (7 - len(sizes))],
        "type": TYPES[array.dtype.str[1:]],
        "bits": 8 * array.dtype.itemsize,
        "pixdim": [1, *np.linalg.norm(matrix[:3, :3], axis=0), 1, 0, 0, 0],
        "offset": offset,
        "units": 2,
        "sform_code": 1,
        "rows": matrix[:3].ravel().tolist(),
        "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n",
        **fields,
    }
    content = b""
    for name, kind in NIFTI_1 if version == 1 else NIFTI_2:
        zeros = struct.unpack(order + kind, bytes(struct.calcsize(order + kind)))
        given = values.get(name, zeros)
        content += struct.pack(order + kind, *(given if isinstance(given, (list, tuple)) else (given,)))
    return content + bytes(offset - len(content)) + array.astype(array.dtype.newbyteorder(order)).tobytes()


def write_nifti(path: Path, array, matrix=None, **fields):
    """Write a .nii or .nii.gz file."""
    content = nifti(array, matrix, **fields)
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path
