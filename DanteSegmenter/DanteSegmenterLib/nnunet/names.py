"""Map channel and label names of an nnU-Net dataset to modalities, and to regions with colours and codes.

Names in nnU-Net's dataset.json are free text. Known ones get this project's ids and SNOMED CT codes, others keep their
names and are coded as tissue.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cases.modality_guess import guess_modality
from ..errors import InputError, ModelError
from ..guard.plain_text import one_line
from ..model_folder.spec import Modality, Region
from ..model_folder.terminology import Code, Terminology

MODALITY_LABELS = {
    "t1": "T1", "t1ce": "T1 contrast", "t2": "T2", "flair": "FLAIR", "nct": "CT", "ctpa": "CT with contrast",
}  # fmt: skip
BACKGROUND_NAME, IGNORED_NAME = "background", "ignore"
GOLDEN_RATIO = 0.618034


def _sct(value: str, meaning: str) -> Code:
    return Code("SCT", value, meaning)


ABNORMAL = _sct("49755003", "Morphologically Altered Structure")
ORGAN = _sct("123037004", "Anatomical Structure")
TISSUE = _sct("85756007", "Tissue")
ANYWHERE = _sct("123037004", "Body structure")
IN_BRAIN = _sct("12738006", "Brain")
IN_PULMONARY_ARTERY = _sct("81040000", "Pulmonary artery")


@dataclass(frozen=True)
class Meaning:
    """Meaning of a name.

    Attributes:
        words: pattern to search for in the lower-case name.
        type: code of the type.
        anatomy: code of the location.
        color: usual colour, or None.
        id: id of this project's own region, or empty.
        category: code of the type's category.
    """

    words: str
    type: Code
    anatomy: Code = ANYWHERE
    color: tuple[float, float, float] | None = None
    id: str = ""
    category: Code = ABNORMAL


def _organ(words: str, code: str, meaning: str, *color: float) -> Meaning:
    red, green, blue = color
    return Meaning(words, _sct(code, meaning), color=(red, green, blue), category=ORGAN)


# The first match counts; specific ones come before general ones.
KNOWN_NAMES = (
    Meaning(r"\bwhole tumou?r\b|^wt$", _sct("108369006", "Neoplasm"), IN_BRAIN, (0.30, 0.69, 0.31), "WT"),
    Meaning(r"\btumou?r core\b|^tc$", _sct("86049000", "Neoplasm, Primary"), IN_BRAIN, (1.0, 0.76, 0.03), "TC"),
    Meaning(r"\bnon[- ]?enhanc|^net$|^ncr$", _sct("86049000", "Neoplasm, Primary"), IN_BRAIN, (0.55, 0.35, 0.75)),
    Meaning(r"\benhanc|^et$", _sct("86049000", "Neoplasm, Primary"), IN_BRAIN, (0.90, 0.22, 0.21), "ET"),
    Meaning(r"o?edema|^ed$|^snfh$", _sct("79654002", "Edema"), color=(0.30, 0.69, 0.31)),
    Meaning(r"necro", _sct("6574001", "Necrosis"), color=(1.0, 0.76, 0.03)),
    Meaning(r"embol|^pe$", _sct("55584005", "Embolus"), IN_PULMONARY_ARTERY, (0.90, 0.22, 0.21), "PE"),
    Meaning(r"tumou?r|cancer|carcinoma|metasta|glioma", _sct("108369006", "Neoplasm"), color=(0.90, 0.40, 0.20)),
    Meaning(r"\bcyst", _sct("367643001", "Cyst"), color=(0.80, 0.80, 0.35)),
    Meaning(r"lesion|plaque", _sct("52988006", "Lesion"), color=(0.95, 0.60, 0.20)),
    _organ(r"\bliver\b|^hepar$", "10200004", "Liver", 0.87, 0.51, 0.40),
    _organ(r"\bkidney", "64033007", "Kidney", 0.73, 0.40, 0.33),
    _organ(r"\bspleen\b", "78961009", "Spleen", 0.62, 0.42, 0.48),
    _organ(r"\bpancreas\b", "15776009", "Pancreas", 0.98, 0.71, 0.51),
    _organ(r"\bgall ?bladder\b", "28231008", "Gallbladder", 0.55, 0.60, 0.29),
    _organ(r"\bbladder\b", "89837001", "Urinary bladder", 0.87, 0.75, 0.47),
    _organ(r"\bstomach\b", "69695003", "Stomach", 0.85, 0.52, 0.49),
    _organ(r"\boesophagus\b|\besophagus\b", "32849002", "Esophagus", 0.83, 0.68, 0.62),
    _organ(r"\baorta\b", "15825003", "Aorta", 0.88, 0.38, 0.30),
    _organ(r"\bprostate\b", "41216001", "Prostate", 0.90, 0.62, 0.44),
    _organ(r"\blung", "39607008", "Lung", 0.77, 0.64, 0.65),
    _organ(r"\bheart\b", "80891009", "Heart", 0.81, 0.43, 0.42),
    _organ(r"\bbrain\b", "12738006", "Brain", 0.98, 0.98, 0.86),
)  # fmt: skip


def modalities_of(dataset: Mapping[str, Any], chosen: Mapping[int, str], where: str) -> tuple[Modality, ...]:
    """The channels of dataset.json in their order.

    Args:
        chosen: ids by channel, as specified by the user.

    Raises:
        InputError: a chosen channel does not exist.
        ModelError: the channels are not named.
    """
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or sorted(channels) != sorted(str(n) for n in range(len(channels))):
        raise ModelError(f"{where}: channel_names must name the channels 0, 1, ..., got {one_line(channels)}.")
    unknown = [number for number in chosen if str(number) not in channels]
    if unknown:
        raise InputError(f"there is no channel {unknown[0]}; the model reads {_listed(channels)}.")
    own = [one_line(channels[str(n)]) or f"channel {n}" for n in range(len(channels))]
    guessed = [guess_modality(name) or name for name in own]
    ids = []
    for n, (name, guess) in enumerate(zip(own, guessed)):
        free = guess if guessed.count(guess) == 1 else name if own.count(name) == 1 else f"{name} {n}"
        ids.append(chosen.get(n, as_id(free)))
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise InputError(f"two channels would be '{twice}'; say which is which: {_listed(channels)}.")
    return tuple(Modality(id, MODALITY_LABELS.get(id, id if n in chosen else own[n])) for n, id in enumerate(ids))


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {one_line(value)}" for key, value in names.items())


def as_id(name: str) -> str:
    """Replace characters that an id may not have."""
    letters = "".join(letter if re.match(r"[\w +.-]", letter) else "_" for letter in one_line(name))
    return letters.lstrip(" +.-")[:64].strip() or "_"


def regions_of(dataset: Mapping[str, Any], chosen: Mapping[str, str], where: str) -> tuple[str, tuple[Region, ...]]:
    """ "regions" or "labels", and the network's outputs in their order.

    Args:
        chosen: names by label (its number, or its name in dataset.json), as specified by the user.

    Raises:
        InputError: a chosen label does not exist.
        ModelError: the labels cannot be interpreted.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or labels.get(BACKGROUND_NAME) != 0:
        raise ModelError(f"{where}: labels must be names with numbers, background 0, got {one_line(labels)}.")
    found = {
        one_line(name): _numbers(value, where)
        for name, value in labels.items()
        if name not in (BACKGROUND_NAME, IGNORED_NAME)
    }
    overlapping = any(
        isinstance(labels[name], list) and len(labels[name]) > 1 for name in labels if name != IGNORED_NAME
    )
    values = _values(found, dataset.get("regions_class_order"), overlapping, where)
    keys = {str(value): name for name, value in zip(found, values)} | {name: name for name in found}
    unknown = [key for key in chosen if key not in keys]
    if unknown:
        raise InputError(f"there is no label '{unknown[0]}'; the model knows {', '.join(found)}.")
    names = {keys[key]: one_line(name) for key, name in chosen.items()}
    ids: list[str] = []
    regions = []
    for n, (own, numbers) in enumerate(found.items()):
        region = _region(n, names.get(own, own), numbers, values[n], ids)
        ids.append(region.id)
        regions.append(region)
    return ("regions" if overlapping else "labels"), tuple(regions)


def _numbers(value: Any, where: str) -> tuple[int, ...]:
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        raise ModelError(f"{where}: a label is {one_line(value)}, wanted is a number or a list of them.")
    return tuple(numbers)


def _values(found: Mapping[str, tuple[int, ...]], order: Any, overlapping: bool, where: str) -> list[int]:
    """Value of each output in a label map."""
    if overlapping:
        if not isinstance(order, list) or len(order) != len(found) or not all(type(value) is int for value in order):
            raise ModelError(f"{where}: regions_class_order must be a number for each of {len(found)} regions.")
        return list(order)
    values = [numbers[0] for numbers in found.values()]
    if sorted(values) != list(range(1, len(values) + 1)):
        raise ModelError(f"{where}: labels must be 1, 2, 3, ... without gaps, got {sorted(values)}.")
    if values != sorted(values):
        raise ModelError(f"{where}: labels must stand in the order of their numbers, got {values}.")
    return values


def _region(n: int, name: str, labels: tuple[int, ...], value: int, taken: list[str]) -> Region:
    spoken = re.sub(r"[_\s]+", " ", name).strip()
    meaning = next((meaning for meaning in KNOWN_NAMES if re.search(meaning.words, spoken.lower())), None)
    terminology = Terminology(TISSUE, TISSUE, ANYWHERE)
    color = None
    id = as_id(name)
    if meaning is not None:
        terminology, color = Terminology(meaning.category, meaning.type, meaning.anatomy), meaning.color
        id = meaning.id if meaning.id and meaning.id not in taken else id
    id = id if id not in taken else f"{id[:58]} {value}"
    shown = spoken[:1].upper() + spoken[1:] or id
    return Region(id, shown, color or _color(n), terminology, labels, value)


def _color(n: int) -> tuple[float, float, float]:
    """A sequence of distinct colours of any length."""
    red, green, blue = colorsys.hsv_to_rgb((0.05 + n * GOLDEN_RATIO) % 1, 0.55 + 0.3 * (n % 2), 0.9)
    return round(red, 3), round(green, 3), round(blue, 3)
