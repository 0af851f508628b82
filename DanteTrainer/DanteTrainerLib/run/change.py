"""Changes to a stopped run before it is resumed: the dataset's location, and some settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.errors import InputError

from ..locks import holding
from ..settings.experiment import Experiment
from ..settings.loading import changed_experiment
from .dataset_changes import dataset_of
from .run_folder import Run, read_run, write_run


def change_run(
    folder: Path, data: Path | None = None, overrides: Sequence[str] = (), models: Sequence[Path] = ()
) -> Run:
    """Write changes to `run.json`, where they apply to this and all later resumptions.

    Args:
        data: new location of the dataset folder.
        overrides: "key=value", for settings that do not affect the networks.
        models: where model folders that the settings name lie now (see `relocated`).

    Raises:
        InputError: not a run folder, or the dataset folder lacks the run's cases.
        ConfigError: a setting is unknown, invalid, or cannot change within a run.
        ResourceError: another process is working on the run, or it cannot be written.
    """
    run = read_run(folder)
    if data is None and not overrides and not models:
        return run
    with holding(folder):
        changed = replace(run, experiment=relocated(changed_experiment(run.experiment, overrides), models))
        if data is not None:
            if not data.is_dir():
                raise InputError(f"the dataset folder '{data}' does not exist. Check the path.")
            changed = replace(changed, data=str(data.resolve()))
            dataset_of(changed)
        write_run(folder, changed)
    return changed


def relocated(experiment: Experiment, models: Sequence[Path]) -> Experiment:
    """The settings with the models that they name where these lie now.

    Args:
        models: RUNS/RUN/model folders; each replaces a path that ends in the same three names.
    """
    places = {model.parts[-3:]: str(model.resolve()) for model in models}

    def here(path: str) -> str:
        return places.get(Path(path).parts[-3:], path)

    teacher = here(experiment.distillation.teacher)
    return replace(
        experiment,
        begin_with=here(experiment.begin_with),
        distillation=replace(experiment.distillation, teacher=teacher),
    )
