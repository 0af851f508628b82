"""Datasets with contradictory labels, patients or files: refused by training and evaluation alike."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from datasets import BRATS_2023, write_case, write_dataset
from models import write_brain_model

from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.__main__ import main as trainer
from faults.doors import ask
from faults.tally import Case

Spoil = Callable[[Path], object]
"""Spoils a dataset folder with cases A to E: A, B and C for training, D for validation, E for testing."""
TRAIN, EVALUATE = "train", "evaluate"
BOTH = (TRAIN, EVALUATE)


class Training:
    """A good dataset and model; a bad dataset must leave no output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.out = folder, folder / "data", folder / "results" / "out"
        self.model = write_brain_model(folder / "model")
        self.good = write_dataset(folder / "good")
        self.out.parent.mkdir()

    def with_(self, verb: str, spoil: Spoil) -> Callable[[], None]:
        def action() -> None:
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.copytree(self.good, self.data)
            spoil(self.data)
            self.ask(verb, "--data", self.data)

        return action

    def ask(self, verb: str, *more: object) -> None:
        first = [TRAIN, "lower", "--smoke"] if verb == TRAIN else [EVALUATE, self.model]
        try:
            ask(trainer, [*first, "--out", self.out, "--device", "cpu", "--quiet", *more], self.folder, self.out)
        finally:
            shutil.rmtree(self.out, ignore_errors=True)


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    training = Training(folder)
    for name, (verbs, spoil) in {**labels(chance), **splits(), **patients(), **files()}.items():
        for verb in verbs:
            yield f"{verb}: {name}", training.with_(verb, spoil)
    yield from commands(training)


def labels(chance: random.Random) -> dict[str, tuple[tuple[str, ...], Spoil]]:
    """Masks with labels unknown to their naming."""

    def changed(old: int, new: float, names: str = "ABCDE") -> Spoil:
        def spoil(data: Path) -> None:
            for name in names:
                path = data / name / f"{name}_seg.nii.gz"
                mask = read_volume(path)
                array = mask.array.astype(np.float32)
                write_volume(path, mask.with_array(np.where(array == old, np.float32(new), array)))

        return spoil

    def elsewhere(data: Path) -> None:
        for name in "ABCDE":
            path = data / name / f"{name}_seg.nii.gz"
            mask = read_volume(path)
            write_volume(path, Volume(mask.array[1:], mask.ijk_to_ras))

    def of_children(data: Path) -> None:
        for name in "ABCDE":
            shutil.rmtree(data / name)
        names = [f"BraTS-PED-0000{n}-000" for n in range(5)]
        for n, name in enumerate(names):
            write_case(data / name, n, BRATS_2023, joint="-")
        (data / "split.json").write_text(json.dumps({"train": names[:3], "val": names[3:4], "test": names[4:]}))

    other = chance.randrange(5, 250)
    found = {f"{old} is {new:g}": (BOTH, changed(old, new)) for old, new in ((4, 3), (1, other), (2, 0.5), (1, -1))}
    found["one test case has a label of its own"] = ((EVALUATE,), changed(4, 3, "E"))
    found["one training case has a label of its own"] = ((TRAIN,), changed(4, 3, "B"))
    found["masks on another grid"] = (BOTH, elsewhere)
    found["labels that are not told by names"] = (BOTH, of_children)
    for text in ('{"WT": [1]}', '{"WT": [1], "TC": [0], "ET": [1]}', '{"WT"'):
        found[f"labels.json of {text}"] = (BOTH, lambda data, text=text: (data / "labels.json").write_text(text))
    return found


def splits() -> dict[str, tuple[tuple[str, ...], Spoil]]:
    """Invalid split.json files."""

    def of(text: object) -> Spoil:
        written = text if isinstance(text, str) else json.dumps(text)
        return lambda data: (data / "split.json").write_text(written)

    def parts(train: str, val: str, test: str) -> Spoil:
        return of({"train": list(train), "val": list(val), "test": list(test)})

    return {
        "a case in two parts": (BOTH, parts("ABC", "D", "CE")),
        "a case twice in one part": (BOTH, parts("ABB", "D", "EE")),
        "a case that is not there": (BOTH, parts("ABX", "D", "EY")),
        "no cases": (BOTH, parts("", "", "")),
        "a split of another kind": (BOTH, of([1, 2])),
        "a part that is no list": (BOTH, of({"train": "ABC", "val": ["D"], "test": "E"})),
        "names that are numbers": (BOTH, of({"train": [1], "val": [], "test": [2]})),
        "a split without a test": ((EVALUATE,), of({"train": ["A"]})),
        "a cut split": (BOTH, of('{"train": ["A"')),
        "an empty split": (BOTH, of("")),
    }


def patients() -> dict[str, tuple[tuple[str, ...], Spoil]]:
    """One patient in two parts of a split, as far as names show it."""

    def renamed(**names: str) -> Spoil:
        def spoil(data: Path) -> None:
            split = json.loads((data / "split.json").read_text())
            for old, new in names.items():
                (data / old).rename(data / new)
                for file in list((data / new).iterdir()):
                    file.rename(file.with_name(file.name.replace(old, new, 1)))
            changed = {part: [names.get(name, name) for name in own] for part, own in split.items()}
            (data / "split.json").write_text(json.dumps(changed))

        return spoil

    def mapped(data: Path) -> None:
        renamed(A="BraTS20_Training_001", E="BraTS2021_00001")(data)
        text = "BraTS2021,BraTS2020\nBraTS2021_00001,BraTS20_Training_001\n"
        (data / "BraTS21-17_Mapping.csv").write_text(text)

    pairs = {
        "weeks": ("P1_week-000", "P1_week-044"),
        "days": ("TCGA-02-0006_1996.08.23", "TCGA-02-0006_1997-01-02"),
        "before and after": ("Smith_preop", "Smith_postop"),
        "sessions": ("sub-01_ses-01", "sub-01_ses-02"),
    }
    found = {f"time points in two parts: {kind}": (BOTH, renamed(A=a, E=e)) for kind, (a, e) in pairs.items()}
    found["one patient by a table of names"] = (BOTH, mapped)
    return found


def files() -> dict[str, tuple[tuple[str, ...], Spoil]]:
    """Files that are missing, duplicate or damaged."""

    def without(what: str) -> Spoil:
        def spoil(data: Path) -> None:
            for name in "ABCDE":
                (data / name / f"{name}_{what}.nii.gz").unlink()

        return spoil

    def twice(data: Path) -> None:
        for name in "ABCDE":
            shutil.copy(data / name / f"{name}_t1.nii.gz", data / name / "again_t1.nii.gz")

    def second_mask(data: Path) -> None:
        for name in "ABCDE":
            shutil.copy(data / name / f"{name}_seg.nii.gz", data / name / "other_seg.nii.gz")

    def cut(data: Path) -> None:
        for name in "ABCDE":
            path = data / name / f"{name}_seg.nii.gz"
            path.write_bytes(path.read_bytes()[:-20])

    def nothing(data: Path) -> None:
        for name in "ABCDE":
            shutil.rmtree(data / name)

    return {
        "no t2": (BOTH, without("t2")),
        "no masks": (BOTH, without("seg")),
        "one scan twice": (BOTH, twice),
        "two masks": (BOTH, second_mask),
        "masks that are cut": (BOTH, cut),
        "no cases at all": (BOTH, nothing),
    }


def commands(training: Training) -> Iterator[Case]:
    """Errors in the command rather than the dataset."""
    good, out, file = training.good, training.out, training.folder / "file"
    file.write_text("precious")
    for verb in BOTH:
        yield f"{verb}: no dataset", partial(training.ask, verb, "--data", training.folder / "nowhere")
        yield f"{verb}: a file", partial(training.ask, verb, "--data", file)
        yield f"{verb}: results in a file", partial(training.ask, verb, "--data", good, "--out", file / "x")
        odd = ("--data", good, "--device", "abacus")
        yield f"{verb}: an unknown device", partial(training.ask, verb, *odd)
    yield "train: results in the dataset", lambda: training.ask(TRAIN, "--data", good, "--out", good)
    yield "evaluate: an unknown part", lambda: training.ask(EVALUATE, "--data", good, "--split", "trial")
    yield "evaluate: no full network", lambda: training.ask(EVALUATE, "--data", good, "--full")
    for setting in ("stepz=1", "run.steps=many", "learning_rate=nan", "data.batch_size=0", "x", "="):
        yield f"train: {setting}", lambda setting=setting: training.ask(TRAIN, "--data", good, "--set", setting)
    for name in ("nowhere", "good", "file"):
        path = training.folder / name
        yield f"resume: {name}", lambda path=path: ask(trainer, ["resume", path, "--quiet"], training.folder)
        publish = ["publish", path, "--card", file, "--to", out]
        yield f"publish: {name}", lambda publish=publish: ask(trainer, publish, training.folder)
