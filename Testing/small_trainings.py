"""Tiny trainings of any method: settings, a run to its model folder, a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke


def small(method: str, *overrides: str) -> Experiment:
    return smoke(load_experiment("brats-2mm", overrides, method=method))


def with_teacher(experiment: Experiment, teacher: Path) -> Experiment:
    return replace(experiment, distillation=replace(experiment.distillation, teacher=str(teacher)))


def train(data: Path, folder: Path, experiment: Experiment) -> Path:
    """Train and return the model folder."""
    start_run(experiment, data, folder)
    return continue_run(folder, "cpu", quiet=True)
