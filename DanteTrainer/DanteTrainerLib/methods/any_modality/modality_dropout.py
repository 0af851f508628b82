"""Random dropping of the privileged modality in training, for methods that accept any subset of modalities.

Methods without their own missing-modality mechanism set a dropped channel to 0: the mean of a brain's own voxels, or
of a CT's window.
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
    """Draw each sample's present modalities, float32 [B, M]: all limited ones, the privileged one at random."""
    samples, modalities = batch.images.shape[:2]
    present = torch.ones(samples, modalities)
    drawn = context.own(samples, lambda n: torch.rand(n, generator=context.generator))
    present[:, task.full.index(task.privileged)] = (drawn >= dropping.probability).float()
    return present.to(batch.images.device)


def without_privileged(task: Task) -> Tensor:
    """Presence flags without the privileged modality, as in deployment: float32 [1, M]."""
    return torch.tensor([[float(modality != task.privileged) for modality in task.full]])


def share_without_privileged(present: Tensor, task: Task) -> dict[str, float]:
    """Share of samples that lack the privileged modality, to be logged.

    `loop.history.sum_over_steps` turns it into a number of steps. Call it right after drawing: later it would wait for
    the device.
    """
    return {WITHOUT_PRIVILEGED: 1 - present[:, task.full.index(task.privileged)].mean().item()}
