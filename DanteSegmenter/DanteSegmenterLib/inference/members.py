"""Several networks of one kind as one, whose logits are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn


class MeanOfMembers(nn.Module):
    """The mean of its members' logits, in float32, one member after the other on the same window.

    So a volume's sums are kept once whatever the number of members; what that takes more is their weights.
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
    """One network of several; of one it is that one."""
    return members[0] if len(members) == 1 else MeanOfMembers(members)
