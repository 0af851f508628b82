"""What may change in a run between a stop and its resumption: where the dataset lies, and how it goes on."""

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
    """Write the changes into `run.json`, where they hold for this and every later resumption.

    Args:
        data: the dataset folder, where it lies now.
        overrides: "key=value"; settings that say how the run goes on, not what its networks are.

    Raises:
        InputError: no run folder; the folder does not hold the run's cases.
        ConfigError: a setting is unknown, wrong, or cannot change within a run.
        ResourceError: another process works on the run, or nothing can be written.
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
