"""A vision transformer with and without masked pre-training (SelfMedMAE, Zhou et al., ISBI 2023): UNETR on X^L.

Departures: AdamW without layer-wise learning-rate decay and without stochastic depth; no class token, which UNETR does
not read; the shared segmentation loss at full resolution only, as this decoder has no other logits.
`run.pretrain_steps = 0` gives the variant without pre-training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from DanteSegmenterLib.errors import ConfigError, ModelError
from DanteSegmenterLib.networks.baselines.unetr import Unetr
from DanteSegmenterLib.networks.baselines.vision_transformer import initialise_transformers
from DanteSegmenterLib.networks.unet import initialise

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Origin, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tables import OptimiserSettings
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .mae import Reconstruction, draw_order, reconstruction_error, visible_tokens

TUNING_BETAS, MAE_BETAS = (0.9, 0.98), (0.9, 0.95)


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """UNETR on X^L, preceded by masked pre-training of its encoder if `run.pretrain_steps` > 0.

    Raises:
        ConfigError: the patch is not a whole number of tokens, or the mask ratio leaves all tokens visible or none.
    """
    try:
        if not experiment.run.pretrain_steps:
            return [_supervised(experiment, task, pretrained=False)]
        return [_pretraining(experiment, task), _supervised(experiment, task, pretrained=True)]
    except ModelError as error:
        raise ConfigError(f"vit.token and data.patch do not fit: {error}") from None


def _pretraining(experiment: Experiment, task: Task) -> Stage:
    settings, limited = experiment.vit, task.limited_channels
    with torch.random.fork_rng(devices=[]):
        encoder = _untrained(experiment, task).encoder
        decoder = Reconstruction(encoder, settings.mae_options)
        initialise_transformers(decoder)
    tokens = math.prod(encoder.grid)
    seen = visible_tokens(tokens, settings.mask_ratio)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        order = draw_order(len(batch.images), tokens, context).to(batch.images.device)
        error, unlearned = reconstruction_error(encoder, decoder, batch.images[:, limited], order, seen)
        return LossTerms({"reconstruction": Term(error)}, {"means_alone": unlearned.item()})

    rising = OptimiserSettings(
        kind="adamw",
        learning_rate=settings.mae_rate,
        betas=MAE_BETAS,
        weight_decay=settings.weight_decay,
        warm_up=settings.mae_warm_up,
        schedule="cosine",
        clip_norm=settings.clip_norm,
    )
    return Stage(
        "mae",
        nn.ModuleDict({"encoder": encoder, "reconstruction": decoder}),
        experiment.run.pretrain_steps,
        loss,
        optimiser=experiment.pretrain_optimiser or rising,
        rate_setting="pretrain_optimiser.learning_rate" if experiment.pretrain_optimiser else "vit.mae_rate",
        augmentation="spatial",
        labelled_only=False,
    )


def _supervised(experiment: Experiment, task: Task, pretrained: bool) -> Stage:
    settings, limited = experiment.vit, task.limited_channels
    with torch.random.fork_rng(devices=[]):
        network = _untrained(experiment, task)

    def loss(batch: Batch, _: StepContext) -> LossTerms:
        logits = network(batch.images[:, limited])
        return LossTerms({"segmentation": Term(segmentation_loss([logits], batch.regions, task.output))})

    def predict(images: Tensor) -> Tensor:
        return network(images[:, limited])

    return Stage(
        "supervised",
        nn.ModuleDict({"encoder": network.encoder, "decoder": network.decoder}),
        experiment.run.steps,
        loss,
        carried={"encoder": Origin("encoder")} if pretrained else {},
        optimiser=OptimiserSettings(
            kind="adamw",
            learning_rate=settings.tuning_rate if pretrained else settings.learning_rate,
            betas=TUNING_BETAS,
            weight_decay=settings.weight_decay,
            warm_up=settings.warm_up,
            clip_norm=settings.clip_norm,
        ),
        rate_setting="vit.tuning_rate" if pretrained else "vit.learning_rate",
        deployed={"limited": Deployed(lambda: network, task.limited, "unetr", settings.options)},
        predict=predict,
    )


def _untrained(experiment: Experiment, task: Task) -> Unetr:
    """The network as initialised by `experiment.seed`: the same with and without pre-training."""
    torch.manual_seed(experiment.seed)
    network = Unetr(len(task.limited), task.outputs, experiment.data.patch, experiment.vit.options)
    initialise_transformers(network)
    initialise(network)
    return network
