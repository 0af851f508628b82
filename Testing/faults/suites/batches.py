"""Bad cases, which must become a failed row with the reason while the other cases are done, and bad batches."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from datasets import LPS_4MM, SHAPE, write_case
from models import write_brain_model
from nifti_files import nifti, write_nifti

from DanteSegmenterLib.__main__ import main as segmenter
from DanteSegmenterLib.program import REFUSED
from faults.doors import ask
from faults.tally import Case, Refused

Spoil = Callable[[Path], object]
"""Spoils the T2 of a case folder, or the folder itself."""
IMAGE = np.random.default_rng(0).uniform(1, 2, SHAPE).astype(np.float32)


class Batch:
    """Cases A and C are good; B is spoilt by a fault."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cases, self.out = folder, folder / "cases", folder / "out"
        self.model = write_brain_model(folder / "model")
        for n, name in enumerate("ABC"):
            write_case(self.cases / name, seed=n, mask="")
        shutil.copytree(self.cases / "B", folder / "B")

    def command(self, *more: object) -> list[object]:
        return ["batch", self.cases, "--model", self.model, "--out", self.out, "--device", "cpu", *more]

    def with_(self, spoil: Spoil) -> Callable[[], None]:
        def action() -> None:
            bad = self.cases / "B"
            shutil.rmtree(self.out, ignore_errors=True)
            shutil.rmtree(bad)
            shutil.copytree(self.folder / "B", bad)
            spoil(bad)
            raise Refused(self.reason())

        return action

    def reason(self) -> str:
        """Why B failed.

        Raises:
            AssertionError: any of the three has another state, or there are unexpected files.
        """
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = segmenter([str(part) for part in self.command()])
        with open(self.out / "summary.csv", newline="", encoding="utf-8") as file:
            rows = {row["case"]: row for row in csv.DictReader(file)}
        states = {name: row["state"] for name, row in rows.items()}
        wanted = ["A.seg.nrrd", "C.seg.nrrd", "contact_sheet.png", "summary.csv"]
        if states != {"A": "done", "B": "failed", "C": "done"} or sorted(os.listdir(self.out)) != wanted:
            raise AssertionError(f"{states}, {sorted(os.listdir(self.out))}")
        if code != REFUSED or "Traceback" in errors.getvalue():
            raise AssertionError(f"exit code {code}, '{errors.getvalue()[-300:]}'")
        return rows["B"]["message"]


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    batch = Batch(folder)
    for name, spoil in {**bad_images(chance), **bad_folders()}.items():
        yield f"a case with {name}", batch.with_(spoil)
    yield from bad_batches(batch)


def bad_images(chance: random.Random) -> dict[str, Spoil]:
    def file(content: bytes) -> Spoil:
        return lambda bad: (bad / "B_t2.nii.gz").write_bytes(content)

    def image(array: np.ndarray = IMAGE, matrix: np.ndarray = LPS_4MM, **fields: object) -> Spoil:
        return lambda bad: write_nifti(bad / "B_t2.nii.gz", array, matrix, **fields)

    whole, holes, elsewhere = gzip.compress(nifti(IMAGE, LPS_4MM), 1), IMAGE.copy(), LPS_4MM.copy()
    place = chance.randrange(200, len(whole) - 8)
    holes[5, 5, 5], elsewhere[:3, 3] = np.nan, 900
    return {
        "an empty file": file(b""),
        "a text": file(b"hello"),
        "a cut file": file(whole[: chance.randrange(1, len(whole))]),
        "wrong bytes": file(whole[:place] + bytes(8) + whole[place + 8 :]),
        "NaN": image(holes),
        "nothing but 0": image(IMAGE * 0),
        "values beyond float32": image(IMAGE.astype(np.float64) * 1e300),
        "voxels of 2 m": image(matrix=np.diag([2000.0, 2000.0, 2000.0, 1.0])),
        "voxels of 150 mm": image(matrix=np.diag([150.0, 150.0, 150.0, 1.0])),
        "voxels of 1 micrometre": image(matrix=np.diag([0.001, 0.001, 0.001, 1.0])),
        "voxels of NaN": image(rows=[float("nan")] * 12),
        "a sheared grid": image(matrix=LPS_4MM + np.eye(4, k=1) * [[1], [0], [0], [0]]),
        "voxels without end": image(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
        "a series": image(np.stack([IMAGE, IMAGE])),
        "colours": image(type=128),
        "another place": image(matrix=elsewhere),
        "one slice": image(IMAGE[:1]),
    }


def bad_folders() -> dict[str, Spoil]:
    def instead(make: Callable[[Path], object]) -> Spoil:
        def spoil(bad: Path) -> None:
            (bad / "B_t2.nii.gz").unlink()
            make(bad / "B_t2.nii.gz")

        return spoil

    def twice(bad: Path) -> None:
        shutil.copy(bad / "B_t2.nii.gz", bad / "again_t2.nii.gz")

    return {
        "a missing volume": instead(lambda path: None),
        "a link to nowhere": instead(lambda path: path.symlink_to("nowhere")),
        "a link to itself": instead(lambda path: path.symlink_to(path)),
        "a link to zeros without end": instead(lambda path: path.symlink_to("/dev/zero")),
        "a pipe for a file": instead(os.mkfifo),
        "a folder for a file": instead(Path.mkdir),
        "a link to another of its volumes": instead(lambda path: path.symlink_to("B_t1.nii.gz")),
        "one scan twice": twice,
    }


def bad_batches(batch: Batch) -> Iterator[Case]:
    """Batches in which nothing can be done, and nothing must be written."""
    folder, empty, doubled = batch.folder, batch.folder / "empty", batch.folder / "doubled"
    empty.mkdir()
    for group in ("HGG", "LGG"):
        shutil.copytree(batch.cases / "A", doubled / group / "A")
    file = batch.cases / "A" / "A_t1.nii.gz"
    commands = {
        "no folder": ["batch", folder / "nowhere", *batch.command()[2:]],
        "a file for a folder": ["batch", file, *batch.command()[2:]],
        "an empty folder": ["batch", empty, *batch.command()[2:]],
        "two cases of one name": ["batch", doubled, *batch.command()[2:]],
        "no model": batch.command("--model", empty),
        "a file for the results' folder": batch.command("--out", file),
        "results below a file": batch.command("--out", file / "out"),
        "results where no folder can be": batch.command("--out", "/proc/out"),
        "no cluster": batch.command("--out", folder / "new", "--cluster", "tcp://127.0.0.1:1"),
        "a cluster's address that is none": batch.command("--out", folder / "new", "--cluster", "x://y z"),
    }

    def asking(arguments: list[object]) -> Callable[[], None]:
        def action() -> None:
            try:
                ask(segmenter, arguments, batch.cases)
            finally:
                shutil.rmtree(folder / "new", ignore_errors=True)

        return action

    for name, arguments in commands.items():
        yield name, asking(arguments)
