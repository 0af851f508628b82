"""The split that a model is evaluated on: the one of its own run, never a newly drawn one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from DanteSegmenterLib.errors import InputError

from ..data.dataset import SPLIT_FILE, Dataset, Split, read_split
from ..data.patients import Patients, check_split, patients_of
from ..status import RUN_FILE
from .run_folder import read_run


def split_for(folder: Path, dataset: Dataset, file: Path | None = None) -> Split:
    """The split for evaluating the model of a run folder, or of a run's model folder, on `dataset`.

    In this order: `file`; the split that the run was trained with, if the dataset has those cases; the dataset's own
    split.json, for a model that was trained on other cases.

    An explicit file is not checked against the training: scoring training cases may be intended.

    Raises:
        InputError: the file is not a split of this dataset; the dataset's own split has a patient in two parts; some
            cases of the run are missing; the run was trained on a patient in the own split's val or test part; or it is
            unknown which cases the model has not seen.
    """
    if file is not None:
        return read_split(dataset, file)
    trained = _split_of_run(folder) or _split_of_run(folder.parent)
    own = read_split(dataset) if (dataset.folder / SPLIT_FILE).is_file() else None  # raises if it is inconsistent
    if own is not None:
        check_split(dataset, own)
    names = [name for part in (trained.train, trained.val, trained.test) for name in part] if trained else []
    missing = [name for name in names if name not in dataset.cases]
    if trained and not missing:
        return trained
    if len(missing) < len(names):
        raise InputError(
            f"'{dataset.folder}' lacks {len(missing)} of the {len(names)} cases of the run's split, e.g. "
            f"'{missing[0]}'. Give the whole dataset, or name the cases to score on in a file: --split-file."
        )
    if own is not None:
        if trained:
            _check_unseen(dataset, own, trained)
        return own
    raise InputError(
        f"nothing tells which cases of '{dataset.folder}' the model has not seen: '{folder}' is no run folder that was "
        f"trained on them, and the dataset has no {SPLIT_FILE}. Give the run folder, or --split-file."
    )


def held_out_but_seen(split: Split, models: dict[str, str], patients: Patients) -> list[str]:
    """Warnings where a model that a training learns from was itself trained on held-out patients of that training.

    Args:
        models: setting -> model folder, "" for none. A model outside its run folder cannot be checked.

    Returns:
        one sentence per affected model.
    """
    sentences = []
    for setting, folder in models.items():
        trained = _split_beside(Path(folder)) if folder else None
        pairs = _seen(split, trained, patients) if trained else []
        if pairs:
            sentences.append(
                f"{setting}: by their names, {len(pairs)} validation or test case(s) of this run, e.g. "
                f"'{pairs[0][0]}', are of patients whom the model '{folder}' was trained on. What it passes on leaks "
                "into the scores: train it on the same split."
            )
    return sentences


def _split_beside(model: Path) -> Split | None:
    """Split of the run that contains a model folder; None if there is no readable run."""
    with contextlib.suppress(InputError):
        return _split_of_run(model) or _split_of_run(model.resolve().parent)
    return None


def _seen(split: Split, trained: Split, patients: Patients) -> list[tuple[str, str]]:
    """Held-out cases of `split` whose patients are in `trained`'s training part, with the case's name there."""
    seen = {patients.patient(name): name for name in trained.train}
    held_out = [(name, patients.patient(name)) for name in (*split.val, *split.test)]
    return [(name, seen[patient]) for name, patient in held_out if patient in seen]


def _check_unseen(dataset: Dataset, split: Split, trained: Split) -> None:
    held_out = _seen(split, trained, patients_of(dataset))
    if held_out:
        raise InputError(
            f"{len(held_out)} validation or test case(s) of '{dataset.folder}' are of patients whom the model was "
            f"trained on: '{held_out[0][0]}' was '{held_out[0][1]}'. Leave them out in a file: "
            "--split-file."
        )


def _split_of_run(folder: Path) -> Split | None:
    return read_run(folder).split if (folder / RUN_FILE).is_file() else None
