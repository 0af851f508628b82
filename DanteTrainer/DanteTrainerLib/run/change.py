"""Changes to a stopped run before it is resumed: the dataset's location, and some settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.errors import InputError

from ..locks import holding
from ..settings.loading import changed_experiment
from .dataset_changes import dataset_of
from .run_folder import Run, read_run, write_run


def change_run(folder: Path, data: Path | None = None, overrides: Sequence[str] = ()) -> Run:
    """Write changes to `run.json`, where they apply to this and all later resumptions.

    Args:
        data: new location of the dataset folder.
        overrides: "key=value", for settings that do not affect the networks.

    Raises:
        InputError: not a run folder, or the dataset folder lacks the run's cases.
        ConfigError: a setting is unknown, invalid, or cannot change within a run.
        ResourceError: another process is working on the run, or it cannot be written.
    """
    run = read_run(folder)
    if data is None and not overrides:
        return run
    with holding(folder):
        changed = replace(run, experiment=changed_experiment(run.experiment, overrides))
        if data is not None:
            if not data.is_dir():
                raise InputError(f"the dataset folder '{data}' does not exist. Check the path.")
            changed = replace(changed, data=str(data.resolve()))
            dataset_of(changed)
        write_run(folder, changed)
    return changed
