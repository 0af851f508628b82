"""Image files that are truncated, damaged, or of another kind than their name says."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DanteSegmenterLib.files import read_volume
from faults.doors import SHAPE, Segmenting
from faults.tally import Case

CUTS = [0, 1, 4, 40, 100, 200, 300, 347, 348, 351, 352, 353, 400, 1000]
# Offset and format of header fields of NIfTI-1.
FIELDS = {"dim0": (40, "h"), "dim1": (42, "h"), "dim3": (46, "h"), "datatype": (70, "h"), "vox_offset": (108, "f")}
FORMATS = [(ending, packed) for ending in (".nrrd", ".mha", ".nhdr", ".mhd") for packed in (True, False)]
FORMATS += [(".nii", False), (".nii.gz", True)]


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    door = Segmenting(folder)
    yield from headers(door)
    yield from other_kinds(door, chance)
    yield from no_files(door)
    yield from useless_voxels(door)
    for ending, packed in FORMATS:
        yield from damaged(folder / f"format{ending}{packed}", ending, packed, chance)


def headers(door: Segmenting) -> Iterator[Case]:
    """A NIfTI file truncated within every part, or with impossible numbers in its header."""
    whole = door.paths["t2"].read_bytes()
    for cut in [*CUTS, len(whole) // 2, len(whole) - 1]:
        yield f"cut to {cut} bytes", door.with_content(whole[:cut])
    for name, (offset, kind) in FIELDS.items():
        for value in (-1, 0, 32767) if kind == "h" else (-1.0, float("nan"), 1e30):
            damaged = bytearray(whole)
            struct.pack_into(f"<{kind}", damaged, offset, value)
            yield f"{name} = {value}", door.with_content(bytes(damaged))


def other_kinds(door: Segmenting, chance: random.Random) -> Iterator[Case]:
    """Other content under an image's name."""
    contents = {
        "text": b"hello",
        "html": b"<html>",
        "json": b"{}",
        "zip": b"PK\3\4" + bytes(500),
        "gzip of nothing": gzip.compress(b""),
        "gzip of noise": gzip.compress(chance.randbytes(5000)),
        "pickle": pickle.dumps([1]),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(300),
        "zeros": bytes(5000),
        "noise": chance.randbytes(5000),
    }
    for name, content in contents.items():
        for ending in (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"):
            yield f"{name} as {ending}", door.with_content(content, f"x{ending}")
    whole = door.paths["t2"].read_bytes()
    for name in ("x.jpg", "x.dcm", "x.img", "x.hdr", "x.mgz", "x", "x.nii.zip", "x.npy"):
        yield f"an image named {name}", door.with_content(whole, name)


def no_files(door: Segmenting) -> Iterator[Case]:
    """Paths that do not lead to an image file."""
    yield "a missing file", door.with_("t2", door.folder / "none.nii")
    yield "a folder", door.with_("t2", door.folder)
    yield "a name too long", door.with_("t2", door.folder / f"{'x' * 300}.nii")
    yield "a name that no file can have", door.with_("t2", door.folder / "x\0.nii")
    places = {"to nowhere": "nowhere.nii", "to itself": "link to itself.nii", "to a folder": door.folder}
    places |= {"to zeros without end": "/dev/zero", "to a device of nothing": "/dev/null"}
    for name, target in places.items():
        link = door.folder / f"link {name}.nii"
        link.symlink_to(target)
        yield f"a link {name}", door.with_("t2", link)
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha"):
        os.mkfifo(door.folder / f"pipe{ending}")
        yield f"a pipe as {ending}", door.with_("t2", door.folder / f"pipe{ending}")


def useless_voxels(door: Segmenting) -> Iterator[Case]:
    """Images in which nothing can be found."""
    for name, array in bad_arrays().items():
        yield f"voxels: {name}", door.with_array(array)


def bad_arrays() -> dict[str, np.ndarray]:
    """Voxels that no network can read, by problem."""
    ones = np.ones(SHAPE, np.float32)
    one_nan, one_infinite, one_huge = ones.copy(), ones.copy(), ones.copy()
    one_nan[3, 3, 3], one_infinite[3, 3, 3], one_huge[3, 3, 3] = np.nan, np.inf, 1e30
    return {
        "all zero": np.zeros(SHAPE, np.float32),
        "constant": ones,
        "one NaN": one_nan,
        "all NaN": ones * np.nan,
        "infinite": one_infinite,
        "minus infinite": -one_infinite,
        "beyond all numbers of scanners": one_huge,
        "one slice": np.ones((1, *SHAPE[1:]), np.float32),
        "one row": np.ones((1, 1, SHAPE[2]), np.float32),
        "one voxel": np.ones((1, 1, 1), np.float32),
    }


def damaged(folder: Path, ending: str, packed: bool, chance: random.Random) -> Iterator[Case]:
    """Noise in a given format, truncated and with corrupt bytes; only damage that a byte reader also detects."""
    folder.mkdir(parents=True)
    path = folder / f"x{ending}"
    rng = np.random.default_rng(chance.randrange(1 << 32))
    sitk.WriteImage(sitk.GetImageFromArray(rng.normal(100, 20, (12, 14, 16)).astype(np.float32)), str(path), packed)
    voxels = next((other for other in folder.iterdir() if other != path), path)
    whole, kind = voxels.read_bytes(), f"{ending}, {'packed' if packed else 'raw'}"

    def read(content: bytes) -> None:
        voxels.write_bytes(content)
        read_volume(path)

    for _ in range(6):
        cut = chance.randrange(len(whole))
        yield f"{kind}: cut to {cut} bytes", partial(read, whole[:cut])
    wanted = unpacked(whole)
    for _ in range(40 if packed else 0):
        content = spoiled(whole, chance)
        if content != whole and unpacked(content) != wanted:
            yield f"{kind}: wrong bytes", partial(read, content)


def spoiled(whole: bytes, chance: random.Random) -> bytes:
    """Replace one to eight consecutive bytes after the header of any format."""
    start, count = chance.randrange(len(whole) // 5, len(whole)), chance.choice((1, 1, 2, 8))
    return whole[:start] + chance.randbytes(count) + whole[start + count :]


def unpacked(content: bytes) -> bytes | None:
    """The voxels of a compressed file, read with Python's own library; None if they are damaged."""
    for begin in (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        start = content.find(begin)
        if start >= 0:
            try:
                reader = zlib.decompressobj(47)  # gzip or zlib
                result = reader.decompress(content[start:]) + reader.flush()
                return result if reader.eof else None
            except zlib.error:
                return None
    return None
