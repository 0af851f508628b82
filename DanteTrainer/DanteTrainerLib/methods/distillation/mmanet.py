"""MMANet (Wei et al., CVPR 2023): a frozen full-modality teacher, margin-aware distillation, and regularisation of the
weak combination of modalities by an auxiliary decoder.

Departures, in 3D on the shared backbone: two combinations, all modalities and all without the privileged one, the
latter being the weak one by construction; distillation at the three levels before the bottleneck, pooled to at most
8^3; entropies summed over regions; similarities normalised over whole rows, not over two halves.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.unet import Decoder, UNet, initialise

from ...data.patches import Batch
from ...loop.distributed import share_of_chosen
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..any_modality.modality_dropout import draw_present, share_without_privileged, without_privileged
from ..segmentation_loss import segmentation_loss
from .losses import entropy, weighted_mean
from .similarity import pooled, pooled_size, self_similarity
from .teacher import read_teacher

# Both terms start after 10 of 300 epochs.
AUXILIARY_FROM = 10 / 300


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage; `distillation.teacher` names the model folder of a trained `upper`."""
    settings, outputs = experiment.mmanet, task.outputs
    teacher = read_teacher(experiment, task, features=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        student = UNet(len(task.full), outputs, experiment.network)
        auxiliary = Decoder(outputs, experiment.network)
        initialise(nn.ModuleList([student, auxiliary]))
    limited = task.limited_channels
    weak = without_privileged(task)[..., None, None, None]

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        present = draw_present(batch, task, context, experiment.dropping)
        logged = share_without_privileged(present, task)
        features = student.encoder(batch.images * present[..., None, None, None])
        terms = {
            "segmentation": Term(segmentation_loss(student.decoder.all_logits(features), batch.regions, task.output))
        }
        if context.share < AUXILIARY_FROM:
            return LossTerms(terms, logged)
        known, certain = teacher.features_and_logits(batch.images)
        terms["distillation"] = Term(
            margin_aware_distillation(features, known, certain, task.output), settings.kd_weight
        )
        dropped = present[:, task.full.index(task.privileged)] == 0
        share = share_of_chosen(dropped, context.world_size)
        if dropped.any():
            logits = auxiliary.all_logits([f[dropped] for f in features])
            weak = segmentation_loss(logits, batch.regions[dropped], task.output)
            terms["weak"] = Term(share * weak, settings.weak_weight)
        return LossTerms(terms, logged)

    return [
        Stage(
            "supervised",
            nn.ModuleDict({"student": student, "auxiliary": auxiliary, "teacher": teacher}),
            experiment.supervised_steps,
            loss,
            frozen_until={"teacher": 1.0},
            deployed={"limited": Deployed(lambda: without_channels(student, limited), task.limited)},
            predict=lambda images: student(images * weak.to(images.device)),
        )
    ]


def margin_aware_distillation(
    student: list[Tensor], teacher: list[Tensor], teacher_logits: Tensor, output: str
) -> Tensor:
    """MAD: match the similarities between positions, weighting uncertain positions more.

    Per level, the pooled positions p, q of all samples are compared: G = F F^T with rows of length 1. Then
    sum_q (G^s - G^t)^2_pq (at most 4) is averaged over p with weights H_p / sum H, the entropy of the teacher's pooled
    logits. Summed over the three levels before the bottleneck. In float32.
    """
    with torch.autocast(student[0].device.type, enabled=False):
        total = student[0].new_zeros((), dtype=torch.float32)
        for s, t in list(zip(student, teacher))[-4:-1]:
            squares = (_among_all(s) - _among_all(t)).square().sum(dim=1)
            answers = functional.adaptive_avg_pool3d(teacher_logits.float(), pooled_size(s))
            total = total + weighted_mean(squares, entropy(answers, output).sum(dim=1).flatten())
        return total


def _among_all(features: Tensor) -> Tensor:
    """Similarities between all pooled positions of all samples [B, C, K, J, I]: [B * places, B * places]."""
    return self_similarity(pooled(features).flatten(0, 1)[None])[0]


def without_channels(network: UNet, keep: list[int]) -> UNet:
    """A copy of the network that reads only the channels `keep`; equivalent to setting the others to zero."""
    part = copy.deepcopy(network)
    block = part.encoder.blocks()[0][0]
    first, _, _ = block.parts()
    smaller = Conv3d(len(keep), first.out_channels, first.kernel_size, first.stride, first.padding)
    with torch.no_grad():
        smaller.weight.copy_(first.weight[:, keep])
        smaller.bias.copy_(first.bias)
    block[0] = smaller
    return part
