"""DANTE: Disentangling for Transfer (AAAI 2026, doi 10.1609/aaai.v40i15.38305).

Stage 1 pre-trains three encoders by cross-modal masked reconstruction (eq. 7-9). Stage 2 trains both pathways,
f_L = D_L(E_L(X^L)) and f_F = D_F(psi(E_A(X^F), E_P(X^F))), with mutual alignment of Z^A and Z^L and compaction
of the privileged correction (eq. 2-6). E_L and D_L are deployed; f_F is the model's full pathway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from DanteSegmenterLib.networks.dante_full import FullNetwork
from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Decoder, Encoder, UNet, initialise

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Origin, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.methods.dante import DanteSettings
from ...settings.tasks import Task
from ..bounds import untrained
from ..segmentation_loss import segmentation_loss
from .losses import (
    GRADIENT,
    alignment_infonce,
    alignment_l1,
    alignment_l2,
    channel_normalised,
    compaction,
    magnitudes,
    masked_reconstruction,
)
from .masking import ReconstructionDecoder, block_size, draw_mask, encode_visible, mask_at

ENCODERS = ("E_L", "E_A", "E_P")
# Magnitudes read every feature map once more: now and then is enough for a curve.
MAGNITUDES_EVERY = 20


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """Two stages; Stage 2 alone where `run.pretrain_steps` is 0 (the ablation without Stage 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if not experiment.run.pretrain_steps:
            return [_stage_2(experiment, task, pretrained=False)]
        first = _naive_stage_1(experiment, task) if experiment.dante.naive else _stage_1(experiment, task)
        return [first, _stage_2(experiment, task, pretrained=True)]


def _encoders(experiment: Experiment, task: Task) -> dict[str, Encoder]:
    """E_L reads X^L; E_A and E_P both read the full X^F."""
    channels = {"E_L": len(task.limited), "E_A": len(task.full), "E_P": len(task.full)}
    return {name: Encoder(channels[name], experiment.network) for name in ENCODERS}


def _initialise(networks: nn.ModuleDict, experiment: Experiment, task: Task) -> None:
    """Random; E_L and D_L begin as the lower bound of the same seed, with `common_start` E_A and D_F do as well."""
    initialise(networks)
    start, common = untrained(experiment, task, task.limited), experiment.dante.common_start
    networks["E_L"].load_state_dict(start.encoder.state_dict())
    if common:
        _begin_as(networks["E_L"], networks["E_A"], task.limited_channels)
    for name in ("D_L", "D_F") if common else ("D_L",):
        if name in networks:  # Stage 1 has no decoder of these
            networks[name].load_state_dict(start.decoder.state_dict())
    _scale_fusions(networks, experiment.dante.fusion_init)


def _scale_fusions(networks: nn.ModuleDict, factor: float) -> None:
    """Let the privileged corrections begin smaller than He's initialisation makes them."""
    for fusion in networks.values():
        if isinstance(fusion, Fusion) and factor != 1.0:
            for projection in fusion.parameters():
                projection.data.mul_(factor)


def _begin_as(limited: nn.Module, full: nn.Module, limited_channels: list[int]) -> None:
    """Copies all weights; those that read the privileged channel are 0, so that both see the same at first."""
    weights = full.state_dict()
    for name, theirs in limited.state_dict().items():
        if theirs.shape == weights[name].shape:
            weights[name] = theirs
        else:  # the first convolution, the only one that reads channels of the image
            weights[name].zero_()[:, limited_channels] = theirs
    full.load_state_dict(weights)


def _stage_1(experiment: Experiment, task: Task) -> Stage:
    """L -> L, A+P -> F and L+P -> F, weight 1 each, on hidden voxels (eq. 7-9)."""
    spec, limited = experiment.network, task.limited_channels
    encoders = _encoders(experiment, task)
    psi_1, psi_2 = Fusion(spec), Fusion(spec)
    rec_l = ReconstructionDecoder(len(task.limited), spec)
    rec_f = ReconstructionDecoder(len(task.full), spec)  # one for both eq. 8 and eq. 9
    networks = nn.ModuleDict({**encoders, "psi_1": psi_1, "psi_2": psi_2, "rec_L": rec_l, "rec_F": rec_f})
    _initialise(networks, experiment, task)
    masked = _Masked(experiment)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        x_f, x_l = batch.images, batch.images[:, limited]
        mask = masked.draw(x_f, context)
        z_l = masked.encode(encoders["E_L"], x_l, mask[:, limited] if mask.shape[1] > 1 else mask)
        z_a, z_p = (masked.encode(encoders[name], x_f, mask) for name in ("E_A", "E_P"))
        visible = masked.visible(z_l, mask)
        from_ap, _ = psi_1(z_a, z_p, visible)
        from_lp, _ = psi_2(z_l, z_p, visible)
        return LossTerms(
            {
                "L_from_L": Term(masked.error(rec_l, z_l, x_l, mask, limited)),
                "F_from_AP": Term(masked.error(rec_f, from_ap, x_f, mask)),
                "F_from_LP": Term(masked.error(rec_f, from_lp, x_f, mask)),
            }
        )

    return _pretraining(experiment, networks, loss)


def _naive_stage_1(experiment: Experiment, task: Task) -> Stage:
    """Ablation: each encoder is a masked autoencoder of its own input, with its own decoder."""
    encoders = _encoders(experiment, task)
    channels_of = zip(ENCODERS, (len(task.limited), len(task.full), len(task.full)))
    decoders = {name: ReconstructionDecoder(channels, experiment.network) for name, channels in channels_of}
    networks = nn.ModuleDict({**encoders, **{f"rec_{name}": decoder for name, decoder in decoders.items()}})
    _initialise(networks, experiment, task)
    masked = _Masked(experiment)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        mask = masked.draw(batch.images, context)
        terms = {}
        for name in ENCODERS:
            channels = task.limited_channels if name == "E_L" else list(range(len(task.full)))
            image = batch.images[:, channels]
            features = masked.encode(encoders[name], image, mask[:, channels] if mask.shape[1] > 1 else mask)
            terms[name] = Term(masked.error(decoders[name], features, image, mask, channels))
        return LossTerms(terms)

    return _pretraining(experiment, networks, loss)


def _pretraining(
    experiment: Experiment, networks: nn.ModuleDict, loss: Callable[[Batch, StepContext], LossTerms]
) -> Stage:
    steps = experiment.run.pretrain_steps
    own = experiment.pretrain_optimiser
    return Stage("stage-1", networks, steps, loss, optimiser=own, augmentation="spatial", labelled_only=False)


class _Masked:
    """Stage 1's masks and what is done with them, sparse or dense."""

    def __init__(self, experiment: Experiment) -> None:
        self._settings, self._block = experiment.dante, block_size(experiment.network)
        self._sparse = self._settings.masking == "sparse"

    def draw(self, images: Tensor, context: StepContext) -> Tensor:
        """One mask for all channels and objectives [B, 1, ...]; in the ablation one a channel [B, C, ...]."""
        batch, channels = images.shape[:2]
        many = channels if self._settings.per_modality_masks else 1

        def draw(samples: int) -> Tensor:
            ratio = self._settings.mask_ratio
            mask = draw_mask(samples * many, images.shape[2:], self._block, ratio, context.generator)
            return mask.reshape(samples, many, *mask.shape[2:])

        return context.own(batch, draw).to(images.device)

    def encode(self, encoder: Encoder, image: Tensor, mask: Tensor) -> list[Tensor]:
        if self._sparse:
            return encode_visible(encoder, image, mask)
        return encoder(image * mask_at(mask, image.shape[2:]))

    def visible(self, features: list[Tensor], mask: Tensor) -> list[Tensor] | None:
        """The mask at every level, for the fusion to keep hidden positions at 0."""
        return [mask_at(mask, x.shape[2:]) for x in features] if self._sparse else None

    def error(
        self,
        decoder: ReconstructionDecoder,
        features: list[Tensor],
        target: Tensor,
        mask: Tensor,
        channels: list[int] | None = None,
    ) -> Tensor:
        prediction = decoder(features, mask if self._sparse else None)
        if mask.shape[1] > 1 and channels is not None:
            mask = mask[:, channels]
        return masked_reconstruction(prediction, target, mask)


def _stage_2(experiment: Experiment, task: Task, pretrained: bool) -> Stage:
    """L_seg(f_F) + L_seg(f_L) + lambda_1 L_PIB + lambda_2 L_Align (eq. 6); decoders and psi are new."""
    settings, outputs = experiment.dante, task.outputs
    limited = task.limited_channels
    encoders, psi = _encoders(experiment, task), Fusion(experiment.network)
    d_l, d_f = (Decoder(outputs, experiment.network) for _ in range(2))
    networks = nn.ModuleDict({**encoders, "psi": psi, "D_L": d_l, "D_F": d_f})
    _initialise(networks, experiment, task)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        z_l = encoders["E_L"](batch.images[:, limited])
        z_a, z_p = encoders["E_A"](batch.images), encoders["E_P"](batch.images)
        fused, corrections = psi(z_a, z_p)
        terms = {
            "seg_L": Term(segmentation_loss(d_l.all_logits(z_l), batch.regions, task.output)),
            "seg_F": Term(segmentation_loss(d_f.all_logits(fused), batch.regions, task.output)),
        }
        if context.share >= settings.auxiliary_from:
            risen = _risen(context.share, settings)
            terms["pib"] = Term(compaction(corrections), risen * settings.compaction_weight)
            terms["align"] = Term(_alignment(z_a, z_l, batch, context, settings), risen * settings.align_weight)
        due = context.step % MAGNITUDES_EVERY == 0
        return LossTerms(terms, _by_level(z_a, z_l, corrections) if due else {})

    # Frozen encoders make sense only where they have learned something.
    frozen = dict.fromkeys(ENCODERS, settings.freeze_share) if pretrained else {}
    carried = {name: Origin(name) for name in ENCODERS} if pretrained else {}
    if pretrained and settings.carry_fusion and not settings.naive:
        carried["psi"] = Origin("psi_1")
    full = FullNetwork(encoders["E_A"], encoders["E_P"], psi, d_f)
    f_l = UNet.of(encoders["E_L"], d_l)
    return Stage(
        name="stage-2",
        networks=networks,
        steps=experiment.run.steps,
        loss=loss,
        frozen_until=frozen,
        carried=carried,
        deployed={
            "limited": Deployed(lambda: f_l, task.limited),
            "full": Deployed(lambda: full, task.full, "dante_full"),
        },
        predict=lambda images: f_l(images[:, limited]),
    )


def _risen(share: float, settings: DanteSettings) -> float:
    """The part of lambda_1 and lambda_2 that counts at this share of Stage 2."""
    if settings.align_ramp == 0.0:
        return 1.0
    return min(1.0, (share - settings.auxiliary_from) / settings.align_ramp)


def _alignment(
    anchor: list[Tensor], limited: list[Tensor], batch: Batch, context: StepContext, settings: DanteSettings
) -> Tensor:
    """L_Align (eq. 4 or 5) with the gradient and normalisation of the settings."""
    with torch.autocast(anchor[0].device.type, enabled=False):
        anchor, limited = GRADIENT[settings.align_grad](anchor, limited)
        if settings.align_norm == "channel_l2":
            anchor, limited = channel_normalised(anchor), channel_normalised(limited)
        if settings.align == "infonce":
            foreground = (batch.images != 0).any(dim=1, keepdim=True)
            return alignment_infonce(
                anchor, limited, foreground, context.generator, settings.anchors, settings.temperature
            )
        return {"l1": alignment_l1, "l2": alignment_l2}[settings.align](anchor, limited)


def _by_level(anchor: list[Tensor], limited: list[Tensor], corrections: list[Tensor]) -> dict[str, float]:
    """`gap_1` and so on: each magnitude of each level, finest first."""
    levels = enumerate(magnitudes(anchor, limited, corrections), start=1)
    return {f"{name}_{n}": value for n, level in levels for name, value in asdict(level).items()}
