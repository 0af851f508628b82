"""Check that a model used as teacher or initialisation was trained on images prepared as in this task."""

from __future__ import annotations

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder import ModelSpec

from ..settings.tasks import Task


def check_same_images(folder: str, spec: ModelSpec, task: Task) -> None:
    """Compare image preparation in a model folder with the task's; voxel grids may differ.

    Raises:
        ConfigError: the orientation differs, or the normalisation of a shared modality.
    """
    theirs, ours = spec.preprocessing, task.normalisation
    others = [m for m, rule in ours.items() if m in theirs.normalisation and theirs.normalisation[m] != rule]
    if others or theirs.orientation != task.orientation:
        what = f"the normalisation of {', '.join(others)}" if others else "orientation"
        raise ConfigError(
            f"the model folder '{folder}' knows images that are prepared in another way: it differs in {what}. Train "
            "it again with this version."
        )
