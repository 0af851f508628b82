"""`run.json`, written before a run's first step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from DanteSegmenterLib.errors import ConfigError, InputError, reason
from DanteSegmenterLib.model_folder import Normalisation
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from ..data.dataset import Split
from ..settings.experiment import Experiment, upgraded
from ..settings.tasks import TASKS
from ..status import RUN_FILE
from ..whole_files import write_text_whole

MODEL_FOLDER, DEFAULT_CACHE = "model", "cache"


@dataclass(frozen=True)
class Run:
    """Contents of `run.json`: everything that `resume` needs.

    Attributes:
        experiment, split: settings and cases.
        data: dataset folder.
        cache: folder of prepared cases, relative to the run folder; may be absolute, to share it between runs.
        name: name of the model.
        id: random id, also stored in the run's checkpoints; "" in runs of older versions.
        files: case -> digest of its files' names and sizes at the start.
        normalisation: the task's normalisation at the start, by modality; empty in runs of older versions.
    """

    experiment: Experiment
    data: str
    split: Split
    cache: str
    name: str
    id: str = ""
    files: dict[str, str] = field(default_factory=dict)
    normalisation: dict[str, Normalisation] = field(default_factory=dict)

    def check_normalisation(self) -> None:
        """Check that this version normalises images as the one that started the run.

        Raises:
            ConfigError: it does not: the rest of the training would see different images.
        """
        now = TASKS[self.experiment.task].normalisation
        # Only CT normalisation has changed since versions that did not record it.
        unknown = not self.normalisation and any(rule.hounsfield for rule in now.values())
        if unknown or (self.normalisation and self.normalisation != now):
            raise ConfigError(
                "the run was begun by another version of SlicerDANTE, which normalised images in another way. Go on "
                "with that version, or start a new run."
            )


def read_run(folder: Path) -> Run:
    """Read `run.json`.

    Raises:
        InputError: not a run folder, or the file cannot be read.
    """
    path = folder / RUN_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(plain, dict) and "experiment" in plain:
            plain["experiment"] = upgraded(plain["experiment"])
        return from_plain(Run, plain, RUN_FILE, InputError)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"'{folder}' is no run folder: it has no {RUN_FILE}. Start one with `train`.") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError, ConfigError) as error:
        raise InputError(f"'{path}' is damaged ({error}).") from None


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json`.

    Raises:
        ResourceError: no space left or not writable; the existing file is kept.
    """
    write_text_whole(folder / RUN_FILE, json.dumps(to_plain(run), indent=1) + "\n", sync=False)


def cache_of(folder: Path, run: Run) -> Path:
    """Absolute path of the run's cache."""
    return (folder / run.cache).resolve()
