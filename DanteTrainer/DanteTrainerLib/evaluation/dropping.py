"""Robustness: scores of a model when an input scan is missing, without retraining.

The missing channel is filled with the network's background value: 0 for MR, which is also the mean of a brain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model
from DanteSegmenterLib.model_folder import Pathway
from DanteSegmenterLib.preprocess import background_of

from .evaluated_model import with_one_network


class FilledNetwork(nn.Module):
    """A network with some input channels fixed to constants: [B, given, K, J, I] -> output for [B, C, K, J, I].

    Args:
        network: reads C channels.
        fill: C entries: the constant of a channel that is not given, None for one that is.
    """

    def __init__(self, network: nn.Module, fill: Sequence[float | None]) -> None:
        super().__init__()
        self.network, self.fill = network, tuple(fill)

    def forward(self, given: Tensor) -> Tensor:
        rest = iter(given.unbind(dim=1))
        channels = [next(rest) if value is None else torch.full_like(given[:, 0], value) for value in self.fill]
        return self.network(torch.stack(channels, dim=1).contiguous(memory_format=torch.channels_last_3d))


def without(model: Model, pathway: Pathway, dropped: Sequence[str]) -> Model:
    """The model restricted to a pathway's modalities without the dropped ones.

    Dropped scans are never passed to it: they affect neither the result's grid, the foreground box nor the computed
    windows, and cases that lack them can be scored.

    Args:
        dropped: modality ids.

    Raises:
        InputError: the pathway does not read one of them, or none would be left.
    """
    reads = ", ".join(pathway.modalities)
    strangers = [modality for modality in dropped if modality not in pathway.modalities]
    if strangers:
        raise InputError(
            f"'{', '.join(strangers)}' cannot be dropped: this network of '{model.spec.name}' reads {reads}."
        )
    kept = tuple(modality for modality in pathway.modalities if modality not in dropped)
    if not kept:
        raise InputError(f"all that '{model.spec.name}' reads ({reads}) would be dropped; leave it one scan.")
    nothing = background_of(model.spec.preprocessing, pathway.modalities).values
    fill = [None if modality in kept else value for modality, value in zip(pathway.modalities, nothing)]
    network = FilledNetwork(model.network(pathway), fill).eval()
    return with_one_network(model, replace(pathway, modalities=kept), network)
