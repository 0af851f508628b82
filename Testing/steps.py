"""A batch and a step context, to test losses and methods without a training."""

from __future__ import annotations

import torch

from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.loop.stage import StepContext


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    regions = (torch.rand(2, 3, 16, 16, 16, generator=generator) > 0.7).float()
    images = torch.randn(2, 4, 16, 16, 16, generator=generator)
    return Batch(images, regions, (images != 0).any(dim=1, keepdim=True))


def context(step, steps=100):
    return StepContext(step, steps, torch.Generator().manual_seed(0))
