"""What a run folder holds before its first step: `run.json`, all that `resume` needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.strict_dataclass import from_plain

from ..data.dataset import Split
from ..settings.experiment import Experiment
from ..status import RUN_FILE

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Run:
    """What `run.json` holds: all that `resume` needs."""

    experiment: Experiment
    data: str
    split: Split
    cache: str
    name: str


def read_run(folder: Path) -> Run:
    """Read `run.json`.

    Raises:
        InputError: the folder is no run folder.
    """
    path = folder / RUN_FILE
    try:
        return from_plain(Run, json.loads(path.read_text(encoding="utf-8")), RUN_FILE, InputError)
    except FileNotFoundError:
        raise InputError(f"'{folder}' is no run folder: it has no {RUN_FILE}. Start one with `train`.") from None
    except ValueError as error:
        raise InputError(f"'{path}' is damaged ({error}).") from None
