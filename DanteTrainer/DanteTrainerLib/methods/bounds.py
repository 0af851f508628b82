"""Lower and upper bound of every method: a plain U-Net on X^L (lower) or X^F (upper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.networks.unet import UNet, initialise

from ..data.patches import Batch
from ..loop.stage import Deployed, LossTerms, Origin, Stage, StepContext, Term
from ..settings.experiment import Experiment
from ..settings.tasks import Task
from .same_images import check_same_images
from .segmentation_loss import segmentation_loss


def lower(experiment: Experiment, task: Task) -> list[Stage]:
    """Train and deploy without the privileged modality."""
    return [_supervised(experiment, task, task.limited)]


def upper(experiment: Experiment, task: Task) -> list[Stage]:
    """Train and deploy with all modalities."""
    return [_supervised(experiment, task, task.full)]


def untrained(experiment: Experiment, task: Task, modalities: tuple[str, ...]) -> UNet:
    """The network as initialised by `experiment.seed`; methods that start from it can be compared in pairs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        network = UNet(len(modalities), task.outputs, experiment.network)
        initialise(network)
    return network


def _supervised(experiment: Experiment, task: Task, modalities: tuple[str, ...]) -> Stage:
    channels = [task.full.index(modality) for modality in modalities]
    network = untrained(experiment, task, modalities)

    def loss(batch: Batch, _: StepContext) -> LossTerms:
        logits = network.all_logits(batch.images[:, channels])
        return LossTerms({"segmentation": Term(segmentation_loss(logits, batch.regions, task.output))})

    def predict(images: Tensor) -> Tensor:
        return network(images[:, channels])

    return Stage(
        name="supervised",
        networks=nn.ModuleDict({"unet": network}),
        steps=experiment.run.steps,
        loss=loss,
        carried={"unet": _initial_weights(experiment, task, modalities)} if experiment.begin_with else {},
        deployed={"limited": Deployed(lambda: network, modalities)},
        predict=predict,
    )


def _initial_weights(experiment: Experiment, task: Task, modalities: tuple[str, ...]) -> Origin:
    """Where `begin_with` has initial weights: its U-Net that reads exactly these modalities.

    Raises:
        ConfigError: the model folder has no such U-Net, or its images are prepared differently.
    """
    spec = read_spec(experiment.begin_with)
    check_same_images(experiment.begin_with, spec, task)
    for name, pathway in spec.pathways.items():
        if pathway.modalities == modalities and pathway.architecture == "unet":
            return Origin(name, folder=experiment.begin_with)
    raise ConfigError(
        f"begin_with: the model folder '{experiment.begin_with}' has no U-Net that reads {', '.join(modalities)}."
    )
