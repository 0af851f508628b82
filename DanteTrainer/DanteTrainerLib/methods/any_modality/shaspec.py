"""ShaSpec (Wang et al., CVPR 2023): features that all modalities share and specific ones, for any subset of them.

Our reading over the shared backbone: encoders of half its width, its decoder and deep supervision. Only the privileged
modality is ever dropped, and only after a fifth of the steps. The published code shows a missing modality to the shared
encoder as an image of zeros, for the decoder's skips and both further terms; here its skips are those that stand in for
it too, and no term looks at it.
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
from .modality_dropout import draw_present, seen_without, without_privileged


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage: segmentation, likeness of the shared features, and modalities told from the specific ones."""
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
        logged = seen_without(present, task)
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
    """How far the modalities' shared features are from each other, averaged over samples; in float32.

    Of a sample: the mean absolute differences of neighbours in the ring of its present modalities, added up. Two
    modalities are one pair of neighbours, one alone has none.

    Args:
        shared: of each modality [B, C, K, J, I].
        present: [B, M], 0 where one is dropped.
    """
    distances = []
    for sample, row in enumerate(present.tolist()):
        ring = [maps[sample].float() for maps, there in zip(shared, row) if there]
        neighbours = list(zip(ring, ring[1:] + ring[:1]))[: len(ring) if len(ring) > 2 else len(ring) - 1]
        distances += [(a - b).abs().mean() for a, b in neighbours]
    none = present.new_zeros(())
    return torch.stack([none, *distances]).sum() / len(present)


def domain_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of telling each present modality by its specific features, averaged over them, then over samples.

    Args:
        logits: [B, M, M], of every modality.
        present: [B, M], 0 where one is dropped.
    """
    samples, modalities = present.shape
    truth = torch.arange(modalities, device=logits.device).repeat(samples)
    errors = functional.cross_entropy(logits.float().flatten(0, 1), truth, reduction="none").view_as(present)
    return ((errors * present).sum(dim=1) / present.sum(dim=1)).mean()
