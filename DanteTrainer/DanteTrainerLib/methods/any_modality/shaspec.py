"""ShaSpec (Wang et al., CVPR 2023): shared and modality-specific features, for any subset of modalities.

Departures, to use the shared backbone: encoders of half its width, its decoder and deep supervision. Only the
privileged modality is dropped, and by default only after a fifth of the steps. The published code feeds a missing
modality to the shared encoder as zeros for the decoder's skips and both auxiliary terms; here its skips are the
substituted features as well, and the auxiliary terms ignore it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.networks.baselines.shaspec import ShaSpec
from DanteSegmenterLib.networks.unet import initialise, narrowed

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .modality_dropout import draw_present, share_without_privileged, without_privileged


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage: segmentation, similarity of the shared features, classification of the specific ones."""
    settings, spec, modalities = experiment.shaspec, experiment.network, len(task.full)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        network = ShaSpec(modalities, range(modalities), task.outputs, spec, settings.options)
        classifier = nn.Linear(narrowed(spec, 2).features[-1], modalities)
        networks = nn.ModuleDict({"segmentation": network, "classifier": classifier})
        initialise(networks)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        present = draw_present(batch, task, context, experiment.dropping)
        if context.share < settings.drop_from:
            present = torch.ones_like(present)
        logged = share_without_privileged(present, task)
        shared, specific = network.shared_maps(batch.images), network.specific_maps(batch.images)
        logits = network.decoder.all_logits(network.fuse(shared, specific, present))
        domains = torch.stack([classifier(p.float().mean(dim=(2, 3, 4))) for p in specific], dim=1)
        return LossTerms(
            {
                "segmentation": Term(segmentation_loss(logits, batch.regions, task.output)),
                "similarity": Term(ring_distance(shared[-1], present), settings.similarity_weight),
                "domain": Term(domain_loss(domains, present), settings.domain_weight),
            },
            logged,
        )

    limited = task.limited_channels
    without = without_privileged(task)

    def predict(all_images: Tensor) -> Tensor:
        shared, specific = network.shared_maps(all_images), network.specific_maps(all_images)
        present = without.to(all_images.device).expand(len(all_images), -1)
        return network.decoder(network.fuse(shared, specific, present))

    def deployed() -> nn.Module:
        return network.restricted_to(limited)

    return [
        Stage(
            "supervised",
            networks,
            experiment.supervised_steps,
            loss,
            deployed={"limited": Deployed(deployed, task.limited, "shaspec", settings.options)},
            predict=predict,
        )
    ]


def ring_distance(shared: list[Tensor], present: Tensor) -> Tensor:
    """Distance between the modalities' shared features, averaged over samples; in float32.

    Per sample: the sum of mean absolute differences between neighbours in the ring of present modalities. Two
    modalities form a single pair, one alone none.

    Args:
        shared: per modality [B, C, K, J, I].
        present: [B, M], 0 where dropped.
    """
    distances = []
    for sample, row in enumerate(present.tolist()):
        ring = [maps[sample].float() for maps, there in zip(shared, row) if there]
        neighbours = list(zip(ring, ring[1:] + ring[:1]))[: len(ring) if len(ring) > 2 else len(ring) - 1]
        distances += [(a - b).abs().mean() for a, b in neighbours]
    none = present.new_zeros(())
    return torch.stack([none, *distances]).sum() / len(present)


def domain_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of classifying each present modality, averaged over a sample's modalities, then over samples.

    Args:
        logits: [B, M, M], one row per modality.
        present: [B, M], 0 where dropped.
    """
    samples, modalities = present.shape
    truth = torch.arange(modalities, device=logits.device).repeat(samples)
    errors = functional.cross_entropy(logits.float().flatten(0, 1), truth, reduction="none").view_as(present)
    return ((errors * present).sum(dim=1) / present.sum(dim=1)).mean()
