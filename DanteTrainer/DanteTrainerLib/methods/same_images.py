"""Whether a trained network that a method learns from, or begins with, knows images as this task prepares them."""

from __future__ import annotations

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder import ModelSpec

from ..settings.tasks import Task


def check_same_images(folder: str, spec: ModelSpec, task: Task) -> None:
    """Compare how a model folder and the task prepare images; grids may differ.

    Raises:
        ConfigError: the axes differ, or the normalisation of a modality that both have.
    """
    theirs, ours = spec.preprocessing, task.normalisation
    others = [m for m, rule in ours.items() if m in theirs.normalisation and theirs.normalisation[m] != rule]
    if others or theirs.orientation != task.orientation:
        what = f"the normalisation of {', '.join(others)}" if others else "orientation"
        raise ConfigError(
            f"the model folder '{folder}' knows images that are prepared in another way: it differs in {what}. Train "
            "it again with this version."
        )
