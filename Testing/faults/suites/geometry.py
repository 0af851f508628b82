"""Files whose headers place the voxels in impossible or ambiguous ways."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from models import LPS_2MM, study
from nifti_files import nifti

from faults.doors import SHAPE, Segmenting
from faults.tally import Case

NAN, INFINITE = float("nan"), float("inf")
# A header with only a qform: a rotation of 120 degrees about (1, 1, 1), voxels of 2 mm.
QFORM = {"quaternion": [0.5, 0.5, 0.5], "pixdim": [1, 2, 2, 2, 0, 0, 0, 0], "qform_code": 1, "sform_code": 0}


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    door = Segmenting(folder)
    image = study(SHAPE)["t2"].array
    for name, fields in {**odd_fields(), **odd_matrices(), **odd_quaternions()}.items():
        for version in (1, 2):
            yield f"NIfTI-{version}: {name}", door.with_content(nifti(image, LPS_2MM, version, **fields))
    for name, matrix in wrong_places().items():
        yield name, door.with_content(nifti(image, matrix))
    yield "a series of volumes", door.with_content(nifti(np.stack([image, image]), LPS_2MM))
    yield from sheared(door, image, chance)
    yield from texts(door, image)


def odd_fields() -> dict[str, dict[str, object]]:
    sizes = list(SHAPE[::-1])
    dims = {
        "two axes": [2, *sizes],
        "eight axes": [8, *sizes],
        "two values a voxel": [5, *sizes[:2], SHAPE[0] // 2, 1, 2],
        "a negative size": [3, *sizes[:2], -1],
        "more slices than there are": [3, *sizes[:2], SHAPE[0] + 1],
        "voxels without end": [3, 30000, 30000, 30000],
    }
    found: dict[str, dict[str, object]] = {name: {"dim": (dim + [1] * 8)[:8]} for name, dim in dims.items()}
    for kind in (0, 1, 32, 128, 1536, 1792, 2304, 999):
        found[f"data of type {kind}"] = {"type": kind}
    found["a pair of files"] = {"magic": b"ni1\0"}
    found["an intercept without end"] = {"slope": 1.0, "intercept": INFINITE}
    found["a slope that makes all infinite"] = {"slope": 3e38, "intercept": 3e38}
    found["voxels before the header's end"] = {"offset": 100}
    return found


def odd_matrices() -> dict[str, dict[str, object]]:
    """The twelve numbers of an sform."""
    good = LPS_2MM[:3].ravel().tolist()
    found: dict[str, dict[str, object]] = {}
    for value in (0.0, NAN, INFINITE, 1e30):
        found[f"a matrix of {value}"] = {"rows": [value] * 12, "pixdim": [1, *[value] * 3, 0, 0, 0, 0]}
        found[f"one number of the matrix is {value}"] = {"rows": [*good[:5], value, *good[6:]]}
    found["a place that is no number"] = {"rows": [*good[:3], NAN, *good[4:]]}
    found["two axes alike"] = {"rows": [*good[:8], 0, 2, 0, 0]}
    found["nowhere"] = {"rows": [*good[:3], 1e12, *good[4:]]}
    return found


def odd_quaternions() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {"a quaternion that is no rotation": {**QFORM, "quaternion": [1, 1, 1]}}
    for value in (NAN, INFINITE):
        found[f"a quaternion of {value}"] = {**QFORM, "quaternion": [value, 0, 0]}
        found[f"a shift of {value}"] = {**QFORM, "shift": [value, 0, 0]}
    for value in (0.0, NAN, INFINITE):
        found[f"voxels of {value} mm by a qform"] = {**QFORM, "pixdim": [1, 2, value, 2, 0, 0, 0, 0]}
        found[f"voxels of {value} mm and no matrix"] = {"sform_code": 0, "pixdim": [1, 2, value, 2, 0, 0, 0, 0]}
    return found


def wrong_places() -> dict[str, np.ndarray]:
    """Positions away from the other volumes of the study."""
    elsewhere, beside = LPS_2MM.copy(), LPS_2MM.copy()
    elsewhere[:3, 3], beside[0, 3] = 900, 120
    return {"900 mm away": elsewhere, "beside the others": beside}


def sheared(door: Segmenting, image: np.ndarray, chance: random.Random) -> Iterator[Case]:
    for _ in range(6):
        matrix, (i, j) = LPS_2MM.copy(), chance.sample(range(3), 2)
        matrix[i, j] += chance.choice((-1, 1)) * chance.uniform(0.02, 1.5)
        yield f"sheared by {matrix[i, j] / 2:.2f}", door.with_content(nifti(image, matrix))


def texts(door: Segmenting, image: np.ndarray) -> Iterator[Case]:
    """Text headers: NRRD and MetaImage with one line changed."""
    written = sitk.GetImageFromArray(image)
    written.SetSpacing((2, 2, 2))
    for ending, lines in ODD_LINES.items():
        path = door.folder / f"whole{ending}"
        sitk.WriteImage(written, str(path), False)
        whole = path.read_bytes()
        for begin, values in lines.items():
            for value in values:
                yield f"{ending}: {begin} {value}", changed_line(door, whole, ending, begin, value)


ODD_LINES = {
    ".nrrd": {
        b"space directions:": [b"none none none", b"(2,0,0) (0,2,0) (0,0,nan)", b"(2,0,0) (0,2,0) (0,2,0)", b"x"],
        b"space origin:": [b"(0,0)", b"(0,0,inf)", b"here"],
        b"space:": [b"scanner-xyz", b"nowhere"],
        b"sizes:": [b"0 24 20", b"-28 24 20", b"28 24", b"28 24 21", b"99999999 99999999 99999999", b"many"],
        b"type:": [b"block", b"double", b"x"],
        b"dimension:": [b"2", b"-1", b"99", b"x"],
        b"encoding:": [b"ascii", b"bzip2", b"hex", b"gzip", b"x"],
        b"endian:": [b"", b"middle"],
    },
    ".mha": {
        b"ElementSpacing =": [b"2 2 0", b"2 2 nan", b"2 2 -2", b"2 2", b"2 2 1e30", b"x"],
        b"TransformMatrix =": [b"1 0 0 0 1 0 0 1 0", b"1 0 0 0 1 0 0 1 1", b"0 0 0 0 0 0 0 0 0", b"1 0 0", b"x"],
        b"Offset =": [b"0 0 nan", b"0 0", b"x"],
        b"DimSize =": [b"28 24 0", b"28 24 -20", b"28 24 21", b"28 24", b"99999999 99999999 99999999", b"x"],
        b"NDims =": [b"2", b"4", b"-1", b"x"],
        b"ElementType =": [b"MET_OTHER", b"MET_DOUBLE", b"MET_FLOAT_ARRAY", b""],
        b"ElementDataFile =": [b"LIST", b"gone.raw", b"/dev/zero", b"x%03d.raw 1 20 1"],
        b"CompressedData =": [b"True"],
        b"BinaryData =": [b"False"],
    },
}


def changed_line(door: Segmenting, whole: bytes, ending: str, begin: bytes, value: bytes) -> Callable[[], None]:
    start = whole.index(b"\n" + begin) + 1
    end = whole.index(b"\n", start)
    return door.with_content(whole[:start] + begin + b" " + value + whole[end:], f"odd{ending}")
