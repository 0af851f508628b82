"""CPMN (Bai et al. 2024): mutual learning of two networks, with feature alignment and lesion-background separation.

Only the abstract (arXiv 2407.11529) was available; the equations are ours. Two plain U-Nets, on X^L and X^F, are
initialised as the seed's lower and upper bound and learn from each other, without stop-gradients. Inter-feature
alignment (IFA) compares self-similarities (spatial contiguity) and the features at each position (mutual learning);
intra-feature discrepancy (IFD) separates lesion from background features. The original also classifies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.networks.unet import UNet

from ...data.patches import Batch
from ...loop.distributed import share_of_chosen
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..bounds import untrained
from ..segmentation_loss import segmentation_loss
from .similarity import cosine, pooled, self_similarity

# The bottleneck and the two encoder levels before it.
ALIGNED_LEVELS = 3


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage: both segmentation losses, IFA, and IFD of both networks."""
    settings, limited = experiment.cpmn, task.limited_channels
    f_l, f_f = untrained(experiment, task, task.limited), untrained(experiment, task, task.full)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        features_l, decoded_l = _maps(f_l, batch.images[:, limited])
        features_f, decoded_f = _maps(f_f, batch.images)
        terms = {
            "seg_L": Term(segmentation_loss(f_l.decoder.logits_of(decoded_l), batch.regions, task.output)),
            "seg_F": Term(segmentation_loss(f_f.decoder.logits_of(decoded_f), batch.regions, task.output)),
            "ifa": Term(inter_feature_alignment(features_l, features_f), settings.alignment_weight),
        }
        lesion = batch.regions.amax(dim=1, keepdim=True)
        # IFD's prototypes need samples with both lesion and background voxels.
        both = (lesion.amax(dim=(1, 2, 3, 4)) > 0) & (lesion.amin(dim=(1, 2, 3, 4)) == 0)
        share = share_of_chosen(both, context.world_size)
        if both.any():
            alike = [intra_feature_discrepancy(maps[0][both], lesion[both]) for maps in (decoded_l, decoded_f)]
            terms["ifd"] = Term(share * torch.stack(alike).sum(), settings.discrepancy_weight)
        return LossTerms(terms)

    def predict(images: Tensor) -> Tensor:
        return f_l(images[:, limited])

    return [
        Stage(
            "supervised",
            nn.ModuleDict({"f_L": f_l, "f_F": f_f}),
            experiment.supervised_steps,
            loss,
            deployed={"limited": Deployed(lambda: f_l, task.limited), "full": Deployed(lambda: f_f, task.full)},
            predict=predict,
            also_predict={"f_F": f_f},
        )
    ]


def _maps(network: UNet, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The encoder's and the decoder's feature maps, finest first."""
    features = network.encode(images)
    return features, network.decoder.decode(features)


def inter_feature_alignment(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """IFA of two encoder pyramids: mean over the last levels of mean |G - G'| + mean (1 - cos(f, f')).

    G holds the row-normalised similarities among at most 512 pooled positions; f and f' are both networks' features at
    one position. In float32.
    """
    levels = list(zip(first, second))[-ALIGNED_LEVELS:]
    with torch.autocast(first[0].device.type, enabled=False):
        apart = []
        for a, b in levels:
            f, g = pooled(a), pooled(b)
            contiguity = (self_similarity(f) - self_similarity(g)).abs().mean()
            apart.append(contiguity + 1 - cosine(f, g).mean())
        return torch.stack(apart).mean()


def intra_feature_discrepancy(features: Tensor, lesion: Tensor) -> Tensor:
    """IFD: mean over samples of relu(cos(p, q)), where p and q are the mean features inside and outside all regions.

    Args:
        features: [B, C, K, J, I].
        lesion: 0/1 [B, 1, ...] at image resolution; each sample must contain both values.
    """
    with torch.autocast(features.device.type, enabled=False):
        size = features.shape[2:]
        inside = functional.interpolate(lesion, size=size, mode="nearest-exact").flatten(2)
        weights = torch.cat((inside, 1 - inside), dim=1)
        weights = weights / weights.sum(dim=2, keepdim=True).clamp_min(1)
        prototypes = weights @ features.float().flatten(2).transpose(1, 2)  # [B, 2, C]
        return cosine(prototypes[:, 0], prototypes[:, 1]).relu().mean()
