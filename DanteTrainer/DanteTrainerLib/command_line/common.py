"""Helpers shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.dataset import Dataset, Split


def set_stop_message(options: argparse.Namespace, stopped: str) -> None:
    """Set the message for a command that is stopped and has nothing to save."""
    if options.stop is not None:
        options.stop.message = stopped


def opened(options: argparse.Namespace) -> tuple[Path, Dataset, Split]:
    """The model folder, the dataset, and the split for scoring the model."""
    from ..data.dataset import read_dataset
    from ..run.split import split_for

    dataset = read_dataset(options.data)
    return model_folder(options.model), dataset, split_for(options.model, dataset, options.split_file)


def model_folder(path: Path) -> Path:
    """The model folder of a run folder; any other path is returned as is."""
    from ..status import RUN_FILE

    return path / "model" if (path / RUN_FILE).is_file() else path
