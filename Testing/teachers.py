"""Tests methods with a teacher without a training: a teacher for any task, and the parameters a step leaves unused."""

from __future__ import annotations

import torch
from small_trainings import small
from torch import nn

from DanteSegmenterLib.networks.unet import UNet
from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.methods.distillation.teacher import Teacher
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def unet_teacher(task) -> Teacher:
    """With weights different from any student's."""
    torch.manual_seed(7)
    return Teacher(UNet(len(task.full), task.outputs, small("lower").network))


def teacher_without_maps(task) -> Teacher:
    return Teacher(nn.Conv3d(len(task.full), task.outputs, 1))


def stage_factory(monkeypatch, module, method):
    """A function that returns a method's stage, taught by a U-Net or by a network without feature maps."""

    def make(task=BRAIN, teacher=unet_teacher, *overrides):
        monkeypatch.setattr(module, "read_teacher", lambda *_, **__: teacher(task))
        return module.stages(small(method, *overrides), task)[0]

    return make


def chest_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    regions = (torch.rand(2, len(CHEST.regions), 16, 16, 16, generator=generator) > 0.7).float()
    images = torch.randn(2, len(CHEST.full), 16, 16, 16, generator=generator)
    return Batch(images, regions, torch.ones(2, 1, 16, 16, 16, dtype=torch.bool))


def unused_parameters(stage, terms) -> list[str]:
    """The trainable parameters that the terms do not reach, except the coarsest segmentation head, which is unused."""
    stage.freeze(0.5)
    stage.networks.zero_grad(set_to_none=True)
    terms.total.backward()
    moving = [(name, parameter) for name, parameter in stage.networks.named_parameters() if parameter.requires_grad]
    return [name for name, parameter in moving if parameter.grad is None and "decoder.heads.1" not in name]
