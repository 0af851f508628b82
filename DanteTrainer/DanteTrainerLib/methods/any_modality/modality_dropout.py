"""Training with the privileged modality absent now and then, for methods that take any subset of modalities.

A method that has no other way to say so sets an absent channel to 0 at every voxel: the mean of a brain's own voxels,
or of a CT's window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.patches import Batch
from ...loop.history import WITHOUT_PRIVILEGED
from ...loop.stage import StepContext
from ...settings.tables import DroppingSettings
from ...settings.tasks import Task


def draw_present(batch: Batch, task: Task, context: StepContext, dropping: DroppingSettings) -> Tensor:
    """Which modalities each sample has, float32 [B, M]: all limited ones, and the privileged one or not, by chance."""
    samples, modalities = batch.images.shape[:2]
    present = torch.ones(samples, modalities)
    drawn = context.own(samples, lambda n: torch.rand(n, generator=context.generator))
    present[:, task.full.index(task.privileged)] = (drawn >= dropping.probability).float()
    return present.to(batch.images.device)


def without_privileged(task: Task) -> Tensor:
    """What a sample has when the privileged modality is dropped, as in deployment: float32 [1, M]."""
    return torch.tensor([[float(modality != task.privileged) for modality in task.full]])


def seen_without(present: Tensor, task: Task) -> dict[str, float]:
    """For a step's log: the share of its samples that lack the privileged modality.

    `loop.history.added_up` makes of it the steps seen without. Ask right after the drawing: later a device would be
    waited for.
    """
    return {WITHOUT_PRIVILEGED: 1 - present[:, task.full.index(task.privileged)].mean().item()}
