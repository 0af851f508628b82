"""`segment`, `batch` and the import of a model, killed."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nrrd
from datasets import write_case
from models import study, write_brain_model

from DanteSegmenterLib.__main__ import main as segmenter
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.model_folder import check_weights_file, read_spec
from DanteSegmenterLib.model_folder.library import find_models
from faults.doors import ask
from faults.kills.killing import Attempt, Command, killed
from faults.suites.zips import packed
from faults.tally import Tally

OUTPUTS = {"--output": "o.seg.nrrd", "--probabilities": "p.nii.gz", "--report": "r.json"}


@contextmanager
def segmenting(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Segment one patient, over the results of another model."""
    model, other = write_brain_model(folder / "model"), write_brain_model(folder / "other", seed=1)
    (folder / "study").mkdir()
    inputs: list[object] = []
    for name, volume in study((60, 64, 68)).items():
        write_volume(folder / "study" / f"{name}.nii", volume)
        inputs += ["--input", f"{name}={folder / 'study' / name}.nii"]

    def with_model(which: Path, out: Path) -> list[object]:
        outputs = [part for option, name in OUTPUTS.items() for part in (option, out / name)]
        return ["-m", "DanteSegmenterLib", "segment", "--model", which, *inputs, *outputs, "--device", "cpu"]

    earlier = folder / "earlier"
    earlier.mkdir()
    ask(segmenter, with_model(other, earlier)[2:], earlier)
    command = Command(
        arguments=lambda out: with_model(model, out),
        begin=lambda out: shutil.copytree(earlier, out, dirs_exist_ok=True),
        wrong=unreadable_images,
        result=lambda out: {name: voxels(out / name) for name in ("o.seg.nrrd", "p.nii.gz")},
    )
    with killed(command, folder, tally) as attempt:
        yield attempt


def voxels(path: Path) -> str:
    """A digest of an image's voxels; its header contains the time."""
    array = nrrd.read(str(path))[0] if path.name.endswith(".nrrd") else read_volume(path, component=0).array
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def unreadable_images(out: Path) -> str:
    """The first truncated result."""
    for path in sorted(out.iterdir()):
        if path.name.endswith((".nrrd", ".nii.gz")):
            try:
                voxels(path)
            except Exception as error:  # a reader may raise any error for a truncated file
                return f"'{path.name}' is half a file: {error}"
    return ""


@contextmanager
def many_cases(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Four patients; the next run continues where the killed one stopped."""
    model = write_brain_model(folder / "model")
    for n, name in enumerate("ABCD"):
        write_case(folder / "cases" / name, seed=n, mask="")
    base = ["-m", "DanteSegmenterLib", "batch", folder / "cases", "--model", model, "--device", "cpu", "--out"]
    command = Command(
        arguments=lambda out: [*base, out],
        begin=lambda out: None,
        wrong=lambda out: unreadable_images(out) or unreadable_summary(out),
        result=rows_and_voxels,
    )
    with killed(command, folder, tally) as attempt:
        yield attempt


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def unreadable_summary(out: Path) -> str:
    if not (out / "summary.csv").exists():
        return ""
    whole = all(row["case"] and row["state"] and None not in row.values() for row in rows_of(out))
    return "" if whole else "summary.csv is cut"


def rows_and_voxels(out: Path) -> object:
    """The volumes in the table and the masks in the files; cases done in this run or before count alike."""
    rows = [{key: value for key, value in row.items() if key.endswith(("case", "ml"))} for row in rows_of(out)]
    return rows, {path.name: voxels(path) for path in sorted(out.glob("*.nrrd"))}


IMPORT = """
import sys
from pathlib import Path
from DanteSegmenterLib.model_folder.zip_file import unpack_model
unpack_model(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@contextmanager
def importing(folder: Path, tally: Tally) -> Iterator[Attempt]:
    """Import a model from a zip file, over an earlier one of its name."""
    model, other = write_brain_model(folder / "model"), write_brain_model(folder / "other", seed=1)
    archive = folder / "m.zip"
    archive.write_bytes(packed([(file.name, file.read_bytes()) for file in sorted(model.iterdir())]))
    command = Command(
        arguments=lambda out: ["-c", IMPORT, archive, out],
        begin=lambda out: shutil.copytree(other, out / "m"),
        wrong=lambda out: unusable_model(out / "m"),
        result=lambda out: contents(out / "m"),
        answers=False,  # the import is part of the window
    )
    with killed(command, folder, tally) as attempt:
        yield attempt


def unusable_model(folder: Path) -> str:
    """Why the window would not offer a model; empty if it would."""
    (entry,) = find_models([folder], embedded=folder / "none")[-1:]
    if entry.spec is None:
        return f"the model is lost: {entry.problem}"
    for member in read_spec(folder).limited.members:
        check_weights_file(folder, member)
    return ""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sorted(folder.iterdir())}
