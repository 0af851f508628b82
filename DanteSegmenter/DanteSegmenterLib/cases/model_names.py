"""What a model calls its images, where the vocabulary knows none of them: "CT" and "PET" of an nnU-Net. No torch."""

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
    """Names for images, beside those that the vocabulary knows.

    Attributes:
        modalities: of the model that cases are looked for; empty for a training, which knows the vocabulary's alone.
    """

    modalities: tuple[Modality, ...] = ()

    @property
    def own(self) -> tuple[Modality, ...]:
        """Those that only the model knows."""
        return tuple(modality for modality in self.modalities if modality.id not in (*BRAIN_IMAGES, *CHEST_IMAGES))

    @property
    def listed(self) -> str:
        """Ids of `own`, for a sentence."""
        return ", ".join(modality.id for modality in self.own)

    def of_channel(self, channel: str, number: int) -> str | None:
        """The modality's id of a channel in dataset.json; None where neither model nor vocabulary knows it.

        Args:
            number: of the channel, by which an imported model tells two of one name apart.
        """
        return self._called(channel) or self._called(f"{channel} {number}") or guess_modality(channel)

    def of_file(self, stem: str) -> str | None:
        """Which of `own` a file's name, without its ending, ends in; the longest where several fit."""
        said, fitting = (stem.casefold(), _plain(stem)), {}
        for modality in self.own:
            ways = zip(said, (modality.id.casefold(), _loosely(modality.id)))
            fitting[modality.id] = max(len(id) if _ends_in(text, id) else 0 for text, id in ways)
        longest = max(fitting.values(), default=0)
        return _only(id for id, length in fitting.items() if length == longest > 0)

    def wanted(self, found: Iterable[str]) -> tuple[str, ...]:
        """Ids that images of one folder may have: the model's, or those of a brain or a chest, whichever has more."""
        ids, claimed = {modality.id for modality in self.modalities}, set(found)
        # A model of brains or of chests alone is told what else is there, as without a model.
        usual = any(ids <= set(kind) for kind in (BRAIN_IMAGES, CHEST_IMAGES))
        if not usual and ids & claimed:
            return tuple(modality.id for modality in self.modalities)
        return max((BRAIN_IMAGES, CHEST_IMAGES), key=lambda kind: len(set(kind) & claimed))

    def _called(self, name: str) -> str | None:
        """By id or label, in their spelling or nearly so."""
        ways: tuple[Callable[[Modality], bool], ...] = (
            lambda modality: modality.id == name,
            lambda modality: modality.label == name,
            lambda modality: _loosely(modality.id) == _loosely(name) != "",
            lambda modality: _loosely(modality.label) == _loosely(name) != "",
        )
        found = (_only(modality.id for modality in self.own if way(modality)) for way in ways)
        return next((id for id in found if id), None)


# No model in particular: what the vocabulary knows, as for a training.
ANY_MODEL = ModelNames()


def _only(ids: Iterable[str]) -> str | None:
    found = list(ids)
    return found[0] if len(found) == 1 else None


def _ends_in(text: str, id: str) -> bool:
    return bool(id and re.search(rf"(?<![^\W_]){re.escape(id)}$", text))


def _plain(name: str) -> str:
    """ "PET _SUV_", "pet-suv" -> "pet suv"; a "+" may be all that tells contrast, and stays."""
    return " ".join(re.split(r"(?:[^\w+]|_)+", unicodedata.normalize("NFKC", name).casefold())).strip()


def _loosely(name: str) -> str:
    """As `_plain`; nothing of what the vocabulary would understand then: "T2*" is no "t2"."""
    return "" if guess_modality(_plain(name)) else _plain(name)
