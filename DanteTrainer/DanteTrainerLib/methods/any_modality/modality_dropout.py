"""Training with the privileged modality absent now and then, for methods that take any subset of modalities.

A method that has no other way to say so sets an absent channel to 0 at every voxel: the mean of a brain's own voxels,
or of a CT's window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.patches import Batch
from ...loop.stage import StepContext
from ...settings.tasks import Task

# The paper's protocol drops only the privileged modality and does not say how often.
DROP_PROBABILITY = 0.5


def draw_present(batch: Batch, task: Task, context: StepContext) -> Tensor:
    """Which modalities each sample has, float32 [B, M]: all limited ones, and the privileged one with p = 0.5."""
    samples, modalities = batch.images.shape[:2]
    present = torch.ones(samples, modalities)
    kept = context.own(samples, lambda n: torch.rand(n, generator=context.generator)) >= DROP_PROBABILITY
    present[:, task.full.index(task.privileged)] = kept.float()
    return present.to(batch.images.device)
