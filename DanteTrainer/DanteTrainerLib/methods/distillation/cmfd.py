"""CMFD (Rahimpour et al., IEEE TBME 2022): a U-Net on X^L is distilled from logits and features of one on X^F.

Neither code nor full text was available, so the numbers are our choice: KL of logits at temperature 2, per region;
features of the deepest three levels, average-pooled by 2, compared through 1x1x1 convolutions that are only used in
training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.unet import initialise

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..bounds import untrained
from ..segmentation_loss import segmentation_loss
from .losses import halved, soft_divergence
from .teacher import read_teacher

DEEPEST = 3


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage; `distillation.teacher` names the model folder of a trained `upper`."""
    settings, limited = experiment.cmfd, task.limited_channels
    teacher = read_teacher(experiment, task, features=settings.feature_weight > 0)
    student = untrained(experiment, task, task.limited)
    networks = nn.ModuleDict({"student": student, "teacher": teacher})
    projection = _projection(experiment)
    if settings.feature_weight:
        networks["projection"] = projection

    def loss(batch: Batch, _: StepContext) -> LossTerms:
        features = student.encode(batch.images[:, limited])
        logits = student.decoder.all_logits(features)
        terms = {"segmentation": Term(segmentation_loss(logits, batch.regions, task.output))}
        if settings.feature_weight:
            known, answer = teacher.features_and_logits(batch.images)
            terms["features"] = Term(projection(features, known), settings.feature_weight)
        else:
            answer = teacher.logits(batch.images)
        if settings.kd_weight:
            divergence = soft_divergence(logits[0], answer, settings.temperature, task.output)
            terms["distillation"] = Term(divergence, settings.kd_weight)
        return LossTerms(terms)

    return [
        Stage(
            "supervised",
            networks,
            experiment.run.steps,
            loss,
            frozen_until={"teacher": 1.0},
            deployed={"limited": Deployed(lambda: student, task.limited)},
            predict=lambda images: student(images[:, limited]),
        )
    ]


class Projection(nn.Module):
    """phi: a 1x1x1 convolution per level from the student's features to the teacher's, and the remaining distance."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Conv3d(features, features, 1) for features in spec.features[-DEEPEST:])

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Mean squared difference of phi(F^s) and F^t, both pooled by 2, averaged over the deepest levels.

        phi is linear, so pooling before it gives the same result at an eighth of the cost.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            pairs = zip(self.layers, student[-DEEPEST:], teacher[-DEEPEST:])
            return torch.stack([(phi(halved(s)) - halved(t)).square().mean() for phi, s, t in pairs]).mean()


def _projection(experiment: Experiment) -> Projection:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        projection = Projection(experiment.network)
        initialise(projection)
    return projection
