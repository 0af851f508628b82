"""What several verbs share: words for a stop, and what is scored on which cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.dataset import Dataset, Split


def begin(options: argparse.Namespace, stopped: str) -> None:
    """Have the command end in these words when it is stopped and has nothing to save."""
    if options.stop is not None:
        options.stop.message = stopped


def opened(options: argparse.Namespace) -> tuple[Path, Dataset, Split]:
    """The model's folder, the dataset, and the split that its scores are of."""
    from ..data.dataset import read_dataset
    from ..run.split import split_for

    dataset = read_dataset(options.data)
    return model_folder(options.model), dataset, split_for(options.model, dataset, options.split_file)


def model_folder(path: Path) -> Path:
    """A run folder stands for the model it ended in."""
    from ..status import RUN_FILE

    return path / "model" if (path / RUN_FILE).is_file() else path
