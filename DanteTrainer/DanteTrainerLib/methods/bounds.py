"""The bounds between which every method lies: one plain U-Net, on X^L (lower) or on X^F (upper)."""

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
    """Trained and used without the privileged modality."""
    return [_supervised(experiment, task, task.limited)]


def upper(experiment: Experiment, task: Task) -> list[Stage]:
    """Trained and used with all modalities."""
    return [_supervised(experiment, task, task.full)]


def untrained(experiment: Experiment, task: Task, modalities: tuple[str, ...]) -> UNet:
    """The network of `run.seed`, before any step: a method that begins with it too can be compared in pairs."""
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
        carried={"unet": _begun(experiment, task, modalities)} if experiment.begin_with else {},
        deployed={"limited": Deployed(lambda: network, modalities)},
        predict=predict,
    )


def _begun(experiment: Experiment, task: Task, modalities: tuple[str, ...]) -> Origin:
    """The pathway of the model folder `begin_with` that reads these modalities.

    Raises:
        ConfigError: it has none that is a U-Net of them, or knows images prepared in another way.
    """
    spec = read_spec(experiment.begin_with)
    check_same_images(experiment.begin_with, spec, task)
    for name, pathway in spec.pathways.items():
        if pathway.modalities == modalities and pathway.architecture == "unet":
            return Origin(name, folder=experiment.begin_with)
    raise ConfigError(
        f"begin_with: the model folder '{experiment.begin_with}' has no U-Net that reads {', '.join(modalities)}."
    )
