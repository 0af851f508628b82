"""Functional groups of multi-frame files: per-frame ones take precedence over shared ones (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attributes import items, number_of, numbers_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def groups_of(dataset: Dataset) -> tuple[list[Dataset], list[Dataset]]:
    """Functional groups: one per frame, and the shared one."""
    return items(dataset, "PerFrameFunctionalGroupsSequence"), items(dataset, "SharedFunctionalGroupsSequence")[:1]


class Groups:
    """The attributes of one frame: from its own functional group, the shared one, or the dataset itself."""

    def __init__(self, dataset: Dataset, groups: list[Dataset]) -> None:
        self.dataset, self._groups = dataset, groups

    def _holder(self, sequence: str, name: str) -> Dataset:
        for group in self._groups:
            for item in items(group, sequence)[:1]:
                if name in item:
                    return item
        return self.dataset

    def number(self, sequence: str, name: str) -> float | None:
        """The first number of an attribute."""
        return number_of(self._holder(sequence, name), name)

    def numbers(self, sequence: str, name: str, count: int) -> tuple[float, ...] | None:
        """Exactly `count` finite numbers, or None."""
        found = numbers_of(self._holder(sequence, name), name)
        return found if len(found) == count else None
