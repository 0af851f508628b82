"""Studies that can be read, but cannot be intended."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from models import LIMITED, study

from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.volume import Volume
from faults.doors import SHAPE, Segmenting
from faults.tally import Case


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    door = Segmenting(folder)
    yield from absurd_sizes(door, chance)
    yield from one_file_twice(door)
    yield from values_that_cannot_be(door, chance)
    yield from incomplete(door)


def absurd_sizes(door: Segmenting, chance: random.Random) -> Iterator[Case]:
    """Metres, micrometres and other units than millimetres, along all axes or one."""
    sizes = [0.0002, 0.001, 0.002, 50.0, 150.0, 2000.0, 1e6, 10 ** chance.uniform(2, 7), 10 ** chance.uniform(-6, -3)]
    for mm in sizes:
        for axes in ((0, 1, 2), (chance.randrange(3),)):
            matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
            for axis in axes:
                matrix[axis, axis] = mm
            yield f"voxels of {mm:g} mm along {len(axes)} axes", whole_study(door, matrix)


def whole_study(door: Segmenting, matrix: np.ndarray) -> object:
    def action() -> None:
        paths = {name: door.folder / f"sized {name}.nii" for name in LIMITED}
        for name, volume in study(SHAPE, matrix).items():
            write_volume(paths[name], volume)
        door.segment(paths)

    return action


def one_file_twice(door: Segmenting) -> Iterator[Case]:
    """One file in two slots, under several names."""
    own = door.paths["t1"]
    link, hard = door.folder / "link.nii", door.folder / "hard.nii"
    link.symlink_to(own)
    os.link(own, hard)
    other_way = door.folder / "out" / ".." / own.name
    for name, path in {"itself": own, "a link": link, "a hard link": hard, "another way to it": other_way}.items():
        for modality in ("t2", "flair"):
            yield f"t1 as {modality}, {name}", door.with_(modality, path)


def values_that_cannot_be(door: Segmenting, chance: random.Random) -> Iterator[Case]:
    """Some voxels of a good image are not finite, or too large for finite results."""
    for value in (np.nan, np.inf, -np.inf, 1e19, -1e25, 1e300, 2**63 - 1, -(2**63)):
        array = study(SHAPE)["t2"].array.astype(np.int64 if isinstance(value, int) else np.float64)
        for _ in range(chance.choice((1, 5))):
            array[tuple(chance.randrange(4, n - 4) for n in SHAPE)] = value
        for modality in LIMITED:
            yield f"{value:g} in {modality}", door.with_array(array, modality=modality)


def incomplete(door: Segmenting) -> Iterator[Case]:
    """A study that lacks what the model needs, or with unknown modalities."""
    paths = door.paths
    for missing in LIMITED:
        rest = {name: path for name, path in paths.items() if name != missing}
        yield f"without {missing}", lambda rest=rest: door.segment(rest)
    yield "an unknown modality", lambda: door.segment({**paths, "pet": paths["t1"]})
    yield "no modality", lambda: door.segment({**paths, "": paths["t1"]})
    yield "one modality twice", lambda: door.segment(paths, "--input", f"t1={paths['t2']}")
    yield "an input without a name", lambda: door.segment(paths, "--input", paths["t2"])
    for device in ("abacus", "cuda:99", "cuda:x", "", "mps:3"):
        yield f"the device '{device}'", lambda device=device: door.segment(paths, "--device", device)
    mask = door.folder / "mask.nii"
    shutil.copy(paths["t1"], mask)
    yield "a brain mask that nobody uses", lambda: door.segment(paths, "--brain-mask", mask)
    empty = door.folder / "empty.nii"
    write_volume(empty, Volume(np.zeros(SHAPE, np.uint8), np.diag([-2.0, -2.0, 2.0, 1.0])))
    yield "an empty brain mask", lambda: door.segment(paths, "--prepare", "--brain-mask", empty)
    yield "a missing brain mask", lambda: door.segment(paths, "--prepare", "--brain-mask", door.folder / "none.nii")
