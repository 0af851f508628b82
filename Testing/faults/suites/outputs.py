"""Output paths that are inputs, impossible or missing; nothing may be computed for them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from DanteSegmenterLib.__main__ import main as segmenter
from faults.doors import Segmenting, ask
from faults.tally import Case

ENDINGS = ("x", "x.docx", "x.jpg", "x.json", "x.nii.GZ", "X.NRRD", ".nii.gz", ".nrrd", "x.seg.nrrd.txt", "x.hdr")


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    door = Segmenting(folder)
    yield from replacing(door)
    yield from impossible(door)
    yield from of_other_verbs(door)


def replacing(door: Segmenting) -> Iterator[Case]:
    """An output that is an input, or another output."""
    own, paths, out = door.paths["t1"], door.paths, door.out
    link, hard = door.folder / "link.nii", door.folder / "hard.nii"
    link.symlink_to(own)
    os.link(own, hard)
    around = out / ".." / own.name
    for name, path in {"itself": own, "a link": link, "a hard link": hard, "another way": around}.items():
        yield f"an input, {name}", lambda path=path: door.segment(paths, output=path)
        yield f"probabilities, {name}", lambda path=path: door.segment(paths, "--probabilities", path)
    both = out / "both.nrrd"
    yield "two outputs in one", lambda: door.segment(paths, "--probabilities", both, output=both)
    yield "a report in a model", lambda: door.segment(paths, "--report", door.model / "model.json")
    masked = ("--prepare", "--brain-mask", paths["t2"])
    yield "the brain mask", lambda: door.segment(paths, *masked, "--probabilities", paths["t2"])


def impossible(door: Segmenting) -> Iterator[Case]:
    paths, out = door.paths, door.out
    for name in ENDINGS:
        yield f"an ending: {name}", lambda name=name: door.segment(paths, output=out / name)
    for name in ("p.json", "p.seg", "p"):
        yield f"probabilities: {name}", lambda name=name: door.segment(paths, "--probabilities", out / name)
    for name in ("r.txt", "r.nii", ".json", "r"):
        yield f"a report: {name}", lambda name=name: door.segment(paths, "--report", out / name)
    places = {
        "a missing folder": door.folder / "none" / "o.nrrd",
        "a file for a folder": paths["t1"] / "o.nrrd",
        "a name too long": out / f"{'x' * 300}.nrrd",
        "a name that no file can have": out / "x\0.nrrd",
        "where no file can be": Path("/proc/o.nrrd"),
        "a folder in many missing ones": out.joinpath(*["x" * 200] * 7, "o.nrrd"),
    }
    for name, path in places.items():
        yield name, lambda path=path: door.segment(paths, output=path)
    (door.folder / "folder.nrrd").mkdir()
    yield "a folder", lambda: door.segment(paths, output=door.folder / "folder.nrrd")


def of_other_verbs(door: Segmenting) -> Iterator[Case]:
    """`sample` and `info`; `batch` has a suite of its own."""
    commands = {
        "a sample in a missing folder": ["sample", door.folder / "none" / "patient"],
        "a sample in a file": ["sample", door.paths["t1"]],
        "a sample without a size": ["sample", door.out / "s", "--spacing-mm", "0"],
        "a sample of a nonsensical size": ["sample", door.out / "s", "--spacing-mm", "nan"],
        "a sample of a micrometre": ["sample", door.out / "s", "--spacing-mm", "0.001"],
        "a sample of a negative size": ["sample", door.out / "s", "--spacing-mm", "-1", "2", "2", "--kind", "chest"],
        "a sample of one voxel": ["sample", door.out / "s", "--kind", "chest", "--shape", "1", "1", "1"],
        "a dataset of less than nobody": ["sample", door.out / "s", "--cases", "-3"],
        "a model that is none": ["info", door.folder],
    }
    for name, arguments in commands.items():
        yield name, lambda arguments=arguments: ask(segmenter, arguments, door.folder)
