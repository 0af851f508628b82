"""Stage 2: train both pathways to segment, with alignment and compaction of the privileged correction (eq. 2-6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.networks.dante_full import FullNetwork
from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Decoder, UNet

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Origin, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.methods.dante import DanteSettings
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .diagnostics import by_level, gradient_ratios
from .initial_weights import ENCODERS, FULL_PATHWAY, MATURED, PRETRAINED, encoders_of, initialise_networks
from .losses import GRADIENT, Reduction, alignment_infonce, alignment_l1, alignment_l2, channel_normalised, compaction

# Logged every few steps only: magnitudes read every feature map again, gradient ratios need extra backward passes.
MAGNITUDES_EVERY, RATIOS_EVERY = 20, 100


def both_pathways(experiment: Experiment, task: Task, before: Sequence[str] = ()) -> Stage:
    """L_seg(f_F) + L_seg(f_L) + lambda_1 L_PIB + lambda_2 L_Align (eq. 6).

    Args:
        before: names of this training's earlier stages, whose weights are carried over; all others are initialised
            anew.

    Raises:
        ConfigError: `align_levels` names a level that the network does not have.
    """
    settings, outputs = experiment.dante, task.outputs
    limited = task.limited_channels
    encoders, psi = encoders_of(experiment, task), Fusion(experiment.network)
    d_l, d_f = (Decoder(outputs, experiment.network) for _ in range(2))
    networks = nn.ModuleDict({**encoders, "psi": psi, "D_L": d_l, "D_F": d_f})
    initialise_networks(networks, experiment, task)
    aligned = _levels(settings, len(experiment.network.features))
    # A compiled network does not support a second backward pass.
    ratios_every = 0 if experiment.run.compile else RATIOS_EVERY

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        z_l = encoders["E_L"](batch.images[:, limited])
        z_a, z_p = encoders["E_A"](batch.images), encoders["E_P"](batch.images)
        fused, corrections = psi(z_a, z_p)
        terms = {
            "seg_L": Term(segmentation_loss(d_l.all_logits(z_l), batch.regions, task.output)),
            "seg_F": Term(segmentation_loss(d_f.all_logits(fused), batch.regions, task.output)),
        }
        logged = by_level(z_a, z_l, corrections) if context.step % MAGNITUDES_EVERY == 0 else {}
        if context.share >= settings.auxiliary_from:
            ramp = _ramp(context.share, settings)
            terms["pib"] = Term(compaction(corrections, _reduction(settings)), ramp * settings.compaction_weight)
            sides = [z_a[n - 1] for n in aligned], [z_l[n - 1] for n in aligned]
            terms["align"] = Term(_alignment(*sides, batch, context, settings), ramp * settings.align_weight)
            if ratios_every and context.step % ratios_every == 0 and z_l[0].requires_grad:
                logged |= gradient_ratios(z_l, terms["seg_L"], terms["align"])
        return LossTerms(terms, logged)

    full = FullNetwork(encoders["E_A"], encoders["E_P"], psi, d_f)
    f_l = UNet.of(encoders["E_L"], {"D_L": d_l, "D_F": d_f}[settings.limited_decoder])
    return Stage(
        name="stage-2",
        networks=networks,
        steps=experiment.run.steps,
        loss=loss,
        frozen_until=_frozen_at_first(before, settings),
        carried=_carried(before, settings),
        deployed={
            "limited": Deployed(lambda: f_l, task.limited),
            "full": Deployed(lambda: full, task.full, "dante_full"),
        },
        predict=lambda images: f_l(images[:, limited]),
        # Decoding either side of the alignment with D_F alone shows how much of f_F could be transferred, and how much
        # was.
        also_predict={
            "f_F": full,
            "D_F(Z_A)": lambda images: d_f(encoders["E_A"](images)),
            "D_F(Z_L)": lambda images: d_f(encoders["E_L"](images[:, limited])),
        },
    )


def _frozen_at_first(before: Sequence[str], settings: DanteSettings) -> dict[str, float]:
    """Encoders that are frozen at first: those pre-trained by Stage 1 and not trained since."""
    if PRETRAINED not in before:
        return {}
    frozen = ("E_L",) if MATURED in before else ENCODERS
    return dict.fromkeys(frozen, settings.freeze_share)


def _carried(before: Sequence[str], settings: DanteSettings) -> dict[str, Origin]:
    carried: dict[str, Origin] = {}
    if PRETRAINED in before:
        carried = {name: Origin(name, PRETRAINED) for name in ENCODERS}
        if settings.carry_fusion and not settings.naive:
            carried["psi"] = Origin("psi_1", PRETRAINED)
    if MATURED in before:
        carried |= {name: Origin(name, MATURED) for name in FULL_PATHWAY}
    return carried


def _ramp(share: float, settings: DanteSettings) -> float:
    """Ramp factor of lambda_1 and lambda_2 at this share of Stage 2."""
    if settings.align_ramp == 0.0:
        return 1.0
    return min(1.0, (share - settings.auxiliary_from) / settings.align_ramp)


def _reduction(settings: DanteSettings) -> Reduction:
    return Reduction(settings.reduction, settings.level_reduction)


def _levels(settings: DanteSettings, levels: int) -> tuple[int, ...]:
    """Levels to align, 1 is the finest."""
    wanted = settings.align_levels or tuple(range(1, levels + 1))
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(1, levels + 1)):
        raise ConfigError(
            f"dante.align_levels must name levels from 1 to {levels}, none twice, got {list(wanted)}. Without any, all "
            "are aligned."
        )
    return wanted


def _alignment(
    anchor: list[Tensor], limited: list[Tensor], batch: Batch, context: StepContext, settings: DanteSettings
) -> Tensor:
    """L_Align (eq. 4 or 5) with gradient routing and normalisation as in the settings."""
    with torch.autocast(anchor[0].device.type, enabled=False):
        anchor, limited = GRADIENT[settings.align_grad](anchor, limited)
        if settings.align_norm == "channel_l2":
            anchor, limited = channel_normalised(anchor), channel_normalised(limited)
        if settings.align == "infonce":
            return alignment_infonce(
                anchor,
                limited,
                batch.foreground,
                context.generator,
                settings.anchors,
                settings.temperature,
                settings.infonce_both_ways,
            )
        return {"l1": alignment_l1, "l2": alignment_l2}[settings.align](anchor, limited, _reduction(settings))
