"""ShaSpec (Wang et al., CVPR 2023, doi 10.1109/CVPR52729.2023.01524): shared and modality-specific features.

A shared encoder processes every modality separately, and one encoder per modality adds its specific features. A missing
modality is replaced by shared features of the present ones. Uses the backbone's size: the encoders have half its
features, the joined maps and the decoder all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...model_folder.architectures import FIRST_PRESENT, ShaSpecOptions
from ...model_folder.spec import NetworkSpec
from ..convolution import ONE, Conv3d
from ..part import Part
from ..unet import ConvBlock, Decoder, Encoder, narrowed


class Composition(Part):
    """f = s + conv3(s, p): shared features corrected by specific ones; all [B, features, K, J, I]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.correction = Conv3d(2 * features, features, 3, padding=1)

    def forward(self, shared: Tensor, specific: Tensor) -> Tensor:
        return shared + self.correction(torch.cat((shared, specific), dim=1))


class Joining(Part):
    """Maps of all M modalities per stage, finest first -> one map per stage with the backbone's features.

    A 1x1x1 convolution with norm and activation; at the bottleneck the convolution alone, as the decoder's first layer.
    """

    def __init__(self, modalities: int, half: NetworkSpec, spec: NetworkSpec) -> None:
        super().__init__()
        inputs = [modalities * features for features in half.features]
        self.skips = nn.ModuleList(ConvBlock(i, f, ONE, ONE) for i, f in zip(inputs[:-1], spec.features))
        self.bottleneck = Conv3d(inputs[-1], spec.features[-1], 1)

    def forward(self, levels: list[list[Tensor]]) -> list[Tensor]:
        return [layer(torch.cat(maps, dim=1)) for layer, maps in zip((*self.skips, self.bottleneck), levels)]


class ShaSpec(nn.Module):
    """Image [B, P, K, J, I], one channel per modality -> logits at full resolution.

    Args:
        modalities: M, number of modalities in training.
        present: indices of the image's modalities, in channel order.
        channels_out: number of logit channels.
        spec: size of the backbone.
        options: replacement of a missing modality.
    """

    def __init__(
        self, modalities: int, present: Sequence[int], channels_out: int, spec: NetworkSpec, options: ShaSpecOptions
    ) -> None:
        super().__init__()
        half = narrowed(spec, 2)
        self.modalities, self.present, self.options = modalities, tuple(present), options
        self.shared = Encoder(1, half)
        self.specific = nn.ModuleList(Encoder(1, half) for _ in self.present)
        self.composition = Composition(half.features[-1])
        self.joining = Joining(modalities, half, spec)
        self.decoder = Decoder(channels_out, spec)

    def shared_maps(self, image: Tensor) -> list[list[Tensor]]:
        """The shared encoder's maps for every stage, finest first, as a list over modalities."""
        modalities = image.shape[1]
        stages = self.shared(image.reshape(-1, 1, *image.shape[2:]))  # modalities are processed as samples
        return [list(maps.unflatten(0, (-1, modalities)).unbind(1)) for maps in stages]

    def specific_maps(self, image: Tensor) -> list[Tensor]:
        """Bottleneck map of each modality's own encoder."""
        return [encoder(image[:, n : n + 1])[-1] for n, encoder in enumerate(self.specific)]

    def fuse(self, shared: list[list[Tensor]], specific: list[Tensor], present: Tensor | None = None) -> list[Tensor]:
        """Joined feature maps, finest first; `present` [B, P] is 0 where a modality is dropped."""
        *skips, bottleneck = shared
        composed = self._composed(bottleneck, specific)
        own = [*skips, composed]
        return self.joining([self._slots(maps, alike, present) for maps, alike in zip(own, shared)])

    def _composed(self, shared: list[Tensor], specific: list[Tensor]) -> list[Tensor]:
        """Composed features of all modalities, in one pass."""
        together = self.composition(torch.cat(shared), torch.cat(specific))
        return list(together.unflatten(0, (len(shared), -1)).unbind())

    def _slots(self, own: list[Tensor], shared: list[Tensor], present: Tensor | None) -> list[Tensor]:
        """A map for each of the M modalities: its own, or the replacement."""
        if present is None and len(own) == self.modalities:
            return own
        stand_in = substitute(shared, present, self.options)
        slots = [stand_in] * self.modalities
        for place, n, maps in zip(range(len(own)), self.present, own):
            slots[n] = maps if present is None else torch.where(_there(present, place), maps, stand_in)
        return slots

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.fuse(self.shared_maps(image), self.specific_maps(image)))

    def restricted_to(self, keep: Sequence[int]) -> ShaSpec:
        """The network with all other modalities dropped; shares no weights with this one."""
        part = copy.deepcopy(self)
        part.present = tuple(self.present[n] for n in keep)
        part.specific = nn.ModuleList(part.specific[n] for n in keep)
        return part


def substitute(shared: list[Tensor], present: Tensor | None, options: ShaSpecOptions) -> Tensor:
    """Replacement for a missing modality: the shared features of the first present one, or their average.

    Args:
        shared: per modality [B, C, K, J, I].
        present: [B, P], 0 where dropped; at least one per sample is present.
        options: selects one of the two.
    """
    if present is None:
        return shared[0] if options.substitute == FIRST_PRESENT else torch.stack(shared).mean(dim=0)
    if options.substitute == FIRST_PRESENT:
        chosen = shared[-1]
        for n in reversed(range(len(shared) - 1)):
            chosen = torch.where(_there(present, n), shared[n], chosen)
        return chosen
    shares = (present / present.sum(dim=1, keepdim=True)).to(shared[0].dtype)
    return torch.stack([s * shares[:, n, None, None, None, None] for n, s in enumerate(shared)]).sum(dim=0)


def _there(present: Tensor, n: int) -> Tensor:
    return present[:, n, None, None, None, None] > 0
