"""The teacher: a trained full-modality network, loaded from a model folder and frozen."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.inference import load_model
from DanteSegmenterLib.networks.unet import Decoder

from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..same_images import check_same_images


class Teacher(nn.Module):
    """A frozen network on X^F; gives logits, and feature maps if its architecture has an encoder pyramid."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode: dropout would add noise to the teacher's output."""
        return super().train(False)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Images of all modalities [B, C, K, J, I] -> logits at full resolution."""
        return self.network(images)

    @torch.no_grad()
    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The feature maps that the decoder reads, finest first, and the logits at full resolution."""
        network = cast(Pyramid, self.network)
        features = network.encode(images)
        return features, network.decoder(features)

    @torch.no_grad()
    def last_map_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's map at full resolution, from which the last layer computes the logits, and those logits."""
        network = cast(Pyramid, self.network)
        last = network.decoder.decode(network.encode(images))[0]
        return last, network.decoder.heads[0](last)


@runtime_checkable
class Pyramid(Protocol):
    """A network with an encoder pyramid and the backbone's decoder."""

    decoder: Decoder

    def encode(self, image: Tensor) -> list[Tensor]: ...


def has_pyramid(network: nn.Module) -> bool:
    """Whether the network's feature maps are those that the backbone's decoder reads."""
    return isinstance(network, Pyramid) and isinstance(network.decoder, Decoder)


def read_teacher(experiment: Experiment, task: Task, features: bool = False) -> Teacher:
    """Load the full-modality network of `distillation.teacher`.

    Args:
        features: whether its feature maps are used; they must then match the experiment's backbone.

    Raises:
        ConfigError: no model folder is given, it is for another task or other modalities, its images are prepared
            differently, or its feature maps do not match.
    """
    folder = experiment.distillation.teacher
    if not folder:
        raise ConfigError(
            "this method learns from a teacher: train 'upper' first and name its model folder, "
            "--set distillation.teacher=RUN/model."
        )
    model = load_model(folder, "cpu")
    spec = model.spec
    pathway = next((p for p in spec.pathways.values() if p.modalities == task.full), None)
    if pathway is None or spec.out_channels != task.outputs:
        raise ConfigError(
            f"the teacher '{folder}' must segment {', '.join(region.id for region in task.regions)} and read "
            f"{', '.join(task.full)}."
        )
    check_same_images(folder, spec, task)
    network = model.network(pathway)
    if features and pathway.more:
        raise ConfigError(
            f"the teacher '{folder}' averages {len(pathway.members)} networks, whose feature maps have no mean; give "
            "the model folder of one seed's run."
        )
    if features and not has_pyramid(network):
        raise ConfigError(
            f"the teacher '{folder}' is a '{pathway.architecture}', which has no feature maps to learn from. Train "
            "'upper' for a teacher."
        )
    if features and spec.network != experiment.network:
        raise ConfigError(f"the teacher '{folder}' must have the experiment's network numbers, for its features match.")
    return Teacher(network)
