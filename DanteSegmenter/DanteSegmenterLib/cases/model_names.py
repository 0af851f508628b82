"""A model's names for images that the vocabulary does not know: "CT" and "PET" of nnU-Net models. No torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..model_folder.spec import Modality
from .modality_guess import guess_modality

BRAIN_IMAGES, CHEST_IMAGES = ("t1", "t1ce", "t2", "flair"), ("nct", "ctpa")


@dataclass(frozen=True)
class ModelNames:
    """Names for images, in addition to the vocabulary's.

    Attributes:
        modalities: of the model that cases are searched for; empty for training, which uses only the vocabulary.
    """

    modalities: tuple[Modality, ...] = ()

    @property
    def own(self) -> tuple[Modality, ...]:
        """The model's modalities that the vocabulary does not know."""
        return tuple(modality for modality in self.modalities if modality.id not in (*BRAIN_IMAGES, *CHEST_IMAGES))

    @property
    def listed(self) -> str:
        """Ids of `own`, for a message."""
        return ", ".join(modality.id for modality in self.own)

    def of_channel(self, channel: str, number: int) -> str | None:
        """Modality id of a channel in dataset.json; None if neither model nor vocabulary knows it.

        Args:
            number: of the channel; imported models use it to distinguish channels with the same name.
        """
        return self._called(channel) or self._called(f"{channel} {number}") or guess_modality(channel)

    def of_file(self, stem: str) -> str | None:
        """The modality of `own` that a file name (without extension) ends in; the longest if several match."""
        said, fitting = (stem.casefold(), _plain(stem)), {}
        for modality in self.own:
            ways = zip(said, (modality.id.casefold(), _loosely(modality.id)))
            fitting[modality.id] = max(len(id) if _ends_in(text, id) else 0 for text, id in ways)
        longest = max(fitting.values(), default=0)
        return _only(id for id, length in fitting.items() if length == longest > 0)

    def wanted(self, found: Iterable[str]) -> tuple[str, ...]:
        """Ids that images of one folder may have: the model's, or those of brain MR or chest CT, whichever are more."""
        ids, claimed = {modality.id for modality in self.modalities}, set(found)
        # For a model of brains or chests alone, other images are reported as they are without a model.
        usual = any(ids <= set(kind) for kind in (BRAIN_IMAGES, CHEST_IMAGES))
        if not usual and ids & claimed:
            return tuple(modality.id for modality in self.modalities)
        return max((BRAIN_IMAGES, CHEST_IMAGES), key=lambda kind: len(set(kind) & claimed))

    def _called(self, name: str) -> str | None:
        """Find a modality by id or label, exactly or in a similar spelling."""
        ways: tuple[Callable[[Modality], bool], ...] = (
            lambda modality: modality.id == name,
            lambda modality: modality.label == name,
            lambda modality: _loosely(modality.id) == _loosely(name) != "",
            lambda modality: _loosely(modality.label) == _loosely(name) != "",
        )
        found = (_only(modality.id for modality in self.own if way(modality)) for way in ways)
        return next((id for id in found if id), None)


# No particular model: only the vocabulary, as in training.
ANY_MODEL = ModelNames()


def _only(ids: Iterable[str]) -> str | None:
    found = list(ids)
    return found[0] if len(found) == 1 else None


def _ends_in(text: str, id: str) -> bool:
    return bool(id and re.search(rf"(?<![^\W_]){re.escape(id)}$", text))


def _plain(name: str) -> str:
    """ "PET _SUV_", "pet-suv" -> "pet suv"; "+" is kept, since it may be all that indicates contrast."""
    return " ".join(re.split(r"(?:[^\w+]|_)+", unicodedata.normalize("NFKC", name).casefold())).strip()


def _loosely(name: str) -> str:
    """Like `_plain`, but empty if the vocabulary would then recognise it: "T2*" must not become "t2"."""
    return "" if guess_modality(_plain(name)) else _plain(name)
