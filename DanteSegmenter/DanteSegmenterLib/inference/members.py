"""Combine several networks into one that averages their logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn


class MeanOfMembers(nn.Module):
    """Mean of its members' logits in float32, evaluated one after the other on the same window.

    The sums of a whole volume are therefore stored once; additional members only need memory for their weights.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, K, J, I] -> logits of the members' own shape."""
        first, *others = self.members
        total = cast(Tensor, first(images)).float()
        for member in others:
            total = total + member(images)
        return total / len(self.members)


def together(members: Sequence[nn.Module]) -> nn.Module:
    """One network made of several; a single one is returned as is."""
    return members[0] if len(members) == 1 else MeanOfMembers(members)
