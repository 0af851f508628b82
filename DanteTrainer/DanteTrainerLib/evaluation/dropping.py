"""Robustness: a model's scores where a scan that it reads is missing, without training again.

The network gets its own value of background in the place of the scan: 0 for MR, which is also the mean of a brain.
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

from .subject import with_one_network


class FilledNetwork(nn.Module):
    """A network behind channels of one value each: [B, given, K, J, I] -> what it says of [B, C, K, J, I].

    Args:
        network: reads C channels.
        fill: C entries; the value of a channel that is not given, None for one that is.
    """

    def __init__(self, network: nn.Module, fill: Sequence[float | None]) -> None:
        super().__init__()
        self.network, self.fill = network, tuple(fill)

    def forward(self, given: Tensor) -> Tensor:
        rest = iter(given.unbind(dim=1))
        channels = [next(rest) if value is None else torch.full_like(given[:, 0], value) for value in self.fill]
        return self.network(torch.stack(channels, dim=1).contiguous(memory_format=torch.channels_last_3d))


def without(model: Model, pathway: Pathway, dropped: Sequence[str]) -> Model:
    """The model that reads all modalities of a pathway but the dropped ones.

    It is never given them: neither the grid of the result nor the box around the foreground nor the windows that are
    computed keep a trace of a dropped scan, and cases that lack it can be scored.

    Args:
        dropped: modality ids.

    Raises:
        InputError: the pathway does not read one of them, or nothing is left.
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
