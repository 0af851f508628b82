"""Ablation: train f_F alone before Stage 2, so that alignment starts with a trained teacher."""

from __future__ import annotations

from torch import nn

from DanteSegmenterLib.networks.dante_full import FullNetwork
from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Decoder

from ...data.patches import Batch
from ...loop.stage import LossTerms, Origin, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .initial_weights import MATURED, PRETRAINED, encoders_of, initialise_networks


def full_pathway(experiment: Experiment, task: Task, pretrained: bool) -> Stage:
    """L_seg(f_F) alone, for `dante.mature_teacher` times Stage 2's steps.

    Args:
        pretrained: whether E_A and E_P start from Stage 1's weights, frozen at first.
    """
    settings = experiment.dante
    encoders = encoders_of(experiment, task)
    psi, d_f = Fusion(experiment.network), Decoder(task.outputs, experiment.network)
    own = {name: encoders[name] for name in ("E_A", "E_P")}
    networks = nn.ModuleDict({**own, "psi": psi, "D_F": d_f})
    initialise_networks(networks, experiment, task)
    full = FullNetwork(own["E_A"], own["E_P"], psi, d_f)

    def loss(batch: Batch, _: StepContext) -> LossTerms:
        logits = d_f.all_logits(full.encode(batch.images))
        return LossTerms({"seg_F": Term(segmentation_loss(logits, batch.regions, task.output))})

    return Stage(
        name=MATURED,
        networks=networks,
        steps=experiment.mature_steps,
        loss=loss,
        frozen_until=dict.fromkeys(own, settings.freeze_share) if pretrained else {},
        carried={name: Origin(name, PRETRAINED) for name in own} if pretrained else {},
        predict=full,
    )
