"""Read nnU-Net's results folder: which files exist, and its two descriptions, with a size limit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..guard.plain_text import one_line

PLANS_FILE, DATASET_FILE = "plans.json", "dataset.json"
MAX_JSON_BYTES = 64 << 20
FOLD = re.compile(r"fold_(\d{1,3}|all)")
CHECKPOINTS = ("final", "best")


@dataclass(frozen=True)
class ResultsFolder:
    """Content of a results folder.

    Attributes:
        folder: its path.
        plans, dataset: the two descriptions.
        checkpoints: by fold, "0", "1", ... or "all", in this order.
    """

    folder: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    checkpoints: dict[str, Path]


def is_results_folder(folder: Path) -> bool:
    """Whether this looks like a folder written by nnU-Net's trainer."""
    try:
        return (folder / PLANS_FILE).is_file() and (folder / DATASET_FILE).is_file()
    except OSError:
        return False


def read_results_folder(folder: Path, folds: Iterable[str] = (), checkpoint: str = CHECKPOINTS[0]) -> ResultsFolder:
    """Read the descriptions and find the checkpoints.

    Args:
        folder: such as `nnUNetTrainer__nnUNetPlans__3d_fullres`.
        folds: folds to use; empty for all existing ones, except "all" if there are others.
        checkpoint: "final" or "best".

    Raises:
        ModelError: not a results folder, or a checkpoint is missing.
    """
    if not is_results_folder(folder):
        raise ModelError(f"'{folder}' is no results folder of nnU-Net: {_what_is_missing(folder)}")
    found = sorted(
        (path for path in folder.iterdir() if FOLD.fullmatch(path.name) and path.is_dir()),
        key=lambda path: (path.name == "fold_all", len(path.name), path.name),
    )
    files = {path.name.removeprefix("fold_"): path / f"checkpoint_{checkpoint}.pth" for path in found}
    there = {fold: file for fold, file in files.items() if file.is_file()}
    wanted = list(dict.fromkeys(folds)) or [fold for fold in there if fold != "all"] or list(there)
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        said = f"fold {', '.join(missing)}" if missing else "any fold"
        raise ModelError(
            f"'{folder}' has no checkpoint_{checkpoint}.pth of {said}; folds with one: {', '.join(there) or 'none'}. "
            "Choose other folds, or the other checkpoint (final, best)."
        )
    return ResultsFolder(
        folder,
        read_json(folder / PLANS_FILE),
        read_json(folder / DATASET_FILE),
        {fold: there[fold] for fold in wanted},
    )


def _what_is_missing(folder: Path) -> str:
    """For an error message: what to choose instead."""
    try:
        below = sorted(path.name for path in folder.iterdir() if path.is_dir() and is_results_folder(path))
    except OSError as error:
        return f"it cannot be read ({error.strerror or error}). Check the path."
    if below:
        return f"its folders {', '.join(below)} are. Choose one of them."
    return f"it has no {PLANS_FILE} and {DATASET_FILE}. Choose TRAINER__PLANS__CONFIGURATION among nnU-Net's results."


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: it cannot be read, or is not an object.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES} bytes")
        plain = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read ({one_line(error)}). Copy it again.") from None
    if not isinstance(plain, dict):
        raise ModelError(f"'{path}' is no table of keys. Copy it again.")
    return plain
