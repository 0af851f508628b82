"""mmFormer (Zhang et al., MICCAI 2022): transformers over the tokens of each modality, then across modalities.

Departures, to use the shared backbone's convolutions, norms and decoder: encoders of half its width down to 1/16
resolution, with the stages below after the fusion; unweighted Dice and cross-entropy; auxiliary heads upsample logits,
not probabilities. Only the privileged modality is dropped. The published code reads the inter-modal tokens back in an
order that permutes their positions; here each position keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.networks.baselines.mmformer import MmFormer, encoder_spec
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.unet import Decoder, initialise

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .modality_dropout import draw_present, share_without_privileged, without_privileged


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage: segmentation from all present modalities, from each alone, and at coarser resolutions."""
    settings, spec, modalities = experiment.mmformer, experiment.network, len(task.full)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        network = MmFormer(modalities, range(modalities), task.outputs, spec, experiment.data.patch, settings.options)
        # One decoder for all single modalities; as published, only its finest head is used.
        separate = Decoder(task.outputs, encoder_spec(spec, settings.options))
        separate.heads = separate.heads[:1]
        networks = nn.ModuleDict({"segmentation": network, "separate": separate})
        if network.below is None:  # the token map has no head in the decoder
            networks["deepest"] = Conv3d(spec.features[-1], task.outputs, 1)
        initialise(networks)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        present = draw_present(batch, task, context, experiment.dropping)
        logged = share_without_privileged(present, task)
        pyramids = network.pyramids(batch.images)
        # Dropout draws from PyTorch's global generator, which the loop seeds for every step.
        fused = network.fuse(pyramids, present, settings.dropout)
        fine, *coarse = network.decoder.all_logits(fused)
        if "deepest" in networks:
            coarse.append(networks["deepest"](fused[-1]))
        return LossTerms(
            {
                "segmentation": Term(full_resolution_loss([fine], batch, task)),
                # Dropped modalities are included.
                "separate": Term(full_resolution_loss(map(separate, pyramids), batch, task), settings.separate_weight),
                "coarse": Term(full_resolution_loss(coarse, batch, task), settings.coarse_weight),
            },
            logged,
        )

    limited = task.limited_channels
    without = without_privileged(task)

    def predict(all_images: Tensor) -> Tensor:
        return network.decoder(network.fuse(network.pyramids(all_images), without.to(all_images.device)))

    def deployed() -> nn.Module:
        return network.restricted_to(limited)

    return [
        Stage(
            "supervised",
            networks,
            experiment.supervised_steps,
            loss,
            deployed={"limited": Deployed(deployed, task.limited, "mmformer", settings.options)},
            predict=predict,
        )
    ]


def full_resolution_loss(all_logits: Iterable[Tensor], batch: Batch, task: Task) -> Tensor:
    """Dice and cross-entropy of each logits tensor, [B, O, K, J, I], upsampled to the images' resolution; summed."""
    size = batch.images.shape[2:]
    losses = []
    for logits in all_logits:
        if logits.shape[2:] != size:
            logits = functional.interpolate(logits.float(), size=size, mode="trilinear")
        losses.append(segmentation_loss([logits], batch.regions, task.output))
    return torch.stack(losses).sum()
