"""PMKL (Chen et al., IEEE TMI 2022): a U-Net on X^L learns from a teacher on X^F where it is better, with contrast.

Departures: the teacher is a trained `upper` instead of a gated network; probabilities and the teacher's correctness are
per region; the contrastive maps are pooled to 8^3 instead of averaged over sliding windows of half the patch; class
weights and the L2 penalty of 1e-5 are replaced by the lower bound's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.volume import triple

from ...data.patches import Batch
from ...loop.distributed import share_of_chosen
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..bounds import untrained
from ..segmentation_loss import segmentation_loss
from .losses import contrast, soft_cross_entropy, teacher_advantage, weighted_mean
from .teacher import read_teacher

EMBEDDING_POOLED = 8
EMBEDDING_HIDDEN, EMBEDDING = 32, 16


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage; `distillation.teacher` names the model folder of a trained `upper`."""
    settings, limited = experiment.pmkl, task.limited_channels
    teacher = read_teacher(experiment, task, features=settings.contrast_weight > 0)
    student = untrained(experiment, task, task.limited)
    networks = nn.ModuleDict({"student": student, "teacher": teacher})
    heads = _heads(experiment)
    if settings.contrast_weight:  # the teacher's head is trained too; only its network is frozen
        networks["heads"] = heads

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        decoded = student.decoder.decode(student.encode(batch.images[:, limited]))
        logits = student.decoder.logits_of(decoded)
        terms = {"segmentation": Term(segmentation_loss(logits, batch.regions, task.output))}
        if settings.contrast_weight:
            last, answer = teacher.last_map_and_logits(batch.images)
            apart = contrast(heads["student"](decoded[0]), heads["teacher"](last), settings.margin)
            terms["contrast"] = Term(apart, settings.contrast_weight)
        else:
            answer = teacher.logits(batch.images)
        if settings.kd_weight:
            weights = teacher_advantage(logits[0], answer, batch.regions, task.output)
            values = soft_cross_entropy(logits[0], answer, settings.temperature, task.output)
            share = share_of_chosen(weights, context.world_size)
            terms["distillation"] = Term(share * weighted_mean(values, weights), settings.kd_weight)
        return LossTerms(terms)

    return [
        Stage(
            "supervised",
            networks,
            experiment.run.steps,
            loss,
            frozen_until={"teacher": 1.0},
            rates={"heads": settings.head_rate},
            deployed={"limited": Deployed(lambda: student, task.limited)},
            predict=lambda images: student(images[:, limited]),
        )
    ]


class Embedding(nn.Module):
    """A decoder's last feature map [B, C, K, J, I] -> unit-length embedding of the image, [B, 16] in float32."""

    def __init__(self, channels: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = triple(min(EMBEDDING_POOLED, n) for n in patch)
        places = self.size[0] * self.size[1] * self.size[2]
        self.hidden, self.last = nn.Linear(channels * places, EMBEDDING_HIDDEN), nn.Linear(EMBEDDING_HIDDEN, EMBEDDING)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            pooled = functional.adaptive_avg_pool3d(features.float(), self.size).flatten(1)
            return functional.normalize(self.last(self.hidden(pooled).relu()), dim=1)


def _heads(experiment: Experiment) -> nn.ModuleDict:
    """Heads of student and teacher, initialised differently."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        channels, patch = experiment.network.features[0], experiment.data.patch
        return nn.ModuleDict({name: Embedding(channels, patch) for name in ("student", "teacher")})
