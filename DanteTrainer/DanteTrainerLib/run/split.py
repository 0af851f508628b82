"""Which cases a model is scored on: those that its own run kept apart, never a split drawn anew."""

from __future__ import annotations

from pathlib import Path

from DanteSegmenterLib.errors import InputError

from ..data.dataset import SPLIT_FILE, Dataset, Split, read_split
from ..status import RUN_FILE
from .run_folder import read_run


def split_for(folder: Path, dataset: Dataset, file: Path | None = None) -> Split:
    """The split by which the model in a run folder, or in a run's model folder, may be scored on `dataset`.

    In this order: `file`; the split that the run trained with, if the dataset holds those cases; the dataset's own
    split.json, for a model that was trained on other cases.

    Raises:
        InputError: the file is no split of this dataset; some cases of the run are missing; or nothing tells which
            cases the model has not seen.
    """
    if file is not None:
        return read_split(dataset, file)
    trained = _split_of_run(folder) or _split_of_run(folder.parent)
    names = [name for part in (trained.train, trained.val, trained.test) for name in part] if trained else []
    missing = [name for name in names if name not in dataset.cases]
    if trained and not missing:
        return trained
    if len(missing) < len(names):
        raise InputError(
            f"'{dataset.folder}' lacks {len(missing)} of the {len(names)} cases of the run's split, e.g. "
            f"'{missing[0]}'. Give the whole dataset, or name the cases to score on in a file: --split-file."
        )
    if (dataset.folder / SPLIT_FILE).is_file():
        return read_split(dataset)
    raise InputError(
        f"nothing tells which cases of '{dataset.folder}' the model has not seen: '{folder}' is no run folder that was "
        f"trained on them, and the dataset has no {SPLIT_FILE}. Give the run folder, or --split-file."
    )


def _split_of_run(folder: Path) -> Split | None:
    return read_run(folder).split if (folder / RUN_FILE).is_file() else None
