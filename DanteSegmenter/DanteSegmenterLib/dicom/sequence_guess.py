"""Guess the modality of a series by rules in a fixed order; makes no guess in case of doubt.

The first rule in `RULES` with an answer decides; for T1 and CT, contrast is decided afterwards. docs/dicom.md has the
same table for users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cases import vocabulary as words
from ..cases.modality_guess import contrast_mentioned, guess_modality, left_open, words_of
from .header.records import Acquisition
from .series import Series

# SOP Classes of image slices, MR and CT: single-frame, enhanced, and legacy converted enhanced.
IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
# Values of Image Type.
LOCALIZERS = {"LOCALIZER", "SCOUT"}
DERIVED = {
    "ADC": "diffusion", "TRACEW": "diffusion", "TRACE": "diffusion", "DIFFUSION": "diffusion", "FA": "diffusion",
    "EXP": "diffusion", "TENSOR": "diffusion", "CBF": "perfusion", "RCBF": "perfusion", "CBV": "perfusion",
    "RCBV": "perfusion", "MTT": "perfusion", "TTP": "perfusion", "TMAX": "perfusion", "PERFUSION": "perfusion",
    "ASL": "perfusion", "SWI": "susceptibility", "MNIP": "projection", "MIP": "projection", "MINIP": "projection",
    "MAX_IP": "projection", "MIN_IP": "projection", "PROJECTION IMAGE": "projection", "SUBTRACTION": "subtraction",
    "SUBTRACT": "subtraction", "SUB": "subtraction", "MPR": "reformat", "REFORMATTED": "reformat",
    "CSA MPR": "reformat", "CSA RESAMPLED": "reformat", "RESAMPLED": "reformat", "PHASE MAP": "phase image",
    "PHASE": "phase image", "P": "phase image", "FLOW": "flow image", "VELOCITY": "flow image",
    "SCREEN SAVE": "screen capture", "SCREENSHOT": "screen capture", "T1 MAP": "map", "T2 MAP": "map",
}  # fmt: skip
# Prefixes of Sequence Name (Siemens).
SEQUENCE_NAMES = (
    ("tfl", "t1"), ("mprage", "t1"), ("spcir", "flair"), ("ep_b", "diffusion"), ("ep2d", "echo-planar image"),
    ("epfid", "echo-planar image"), ("epse", "echo-planar image"), ("swi", "susceptibility"), ("fi3d", "angiogram"),
    ("fi2d", "angiogram"),
)  # fmt: skip
# A series with fewer slices is a localiser, or incomplete.
FEWEST_SLICES = 8
# In ms. A spin echo with a short echo time is T1 (short repetition time) or proton density, with a long one T2; an
# inversion of a few hundred ms with a short echo time is T1, one of 1.5 s and more suppresses fluid.
SHORT_ECHO_MS, LONG_ECHO_MS = 35.0, 60.0
SHORT_REPETITION_MS, LONG_REPETITION_MS = 1000.0, 1800.0
T1_INVERSION_MS, FLUID_INVERSION_MS = (400.0, 1400.0), (1500.0, 3500.0)
MODALITIES = ("t1", "t1ce", "t2", "flair", "nct", "ctpa")
NO_AGENT = {"no", "none", "non", "na", "n", "a", "0", "false", "keine", "kein", "not", "given", "applicable"}


@dataclass(frozen=True)
class SeriesGuess:
    """What a series is, as far as its header shows.

    Attributes:
        kind: a modality's id; "" if no rule applies; otherwise what it is instead, e.g. "localizer".
        reasons: the evidence, in the order in which it was found.
    """

    kind: str
    reasons: tuple[str, ...]

    @property
    def modality(self) -> str | None:
        return self.kind if self.kind in MODALITIES else None


def guess_series(series: Series) -> SeriesGuess:
    """Classify a series by the first rule with an answer."""
    for rule in RULES:
        found = rule(series)
        if found is not None:
            return _with_contrast(series.acquisition, found)
    return SeriesGuess("", ("neither name nor parameters tell what it is",))


def _no_image(series: Series) -> SeriesGuess | None:
    """Objects other than MR or CT images: reports, presentation states, segmentations, screen captures, PET."""
    from pydicom.uid import UID

    acquisition = series.acquisition
    if IMAGE_CLASSES.get(acquisition.sop_class) and acquisition.modality in ("", IMAGE_CLASSES[acquisition.sop_class]):
        return None
    name = UID(acquisition.sop_class).name or "unknown object"
    kind = "screen capture" if "Secondary Capture" in name else "no MR or CT image"
    return SeriesGuess(kind, (f"it is {name}, modality {acquisition.modality or 'unknown'}",))


def _localizer(series: Series) -> SeriesGuess | None:
    found = sorted(LOCALIZERS & series.image_types)
    if found:
        return SeriesGuess("localizer", (f"Image Type says {found[0]}",))
    if len(series.frames) < FEWEST_SLICES:
        return SeriesGuess("localizer", (f"it has {len(series.frames)} slices, fewer than {FEWEST_SLICES}",))
    return None


def _derived(series: Series) -> SeriesGuess | None:
    types = series.image_types
    found = next((word for word in DERIVED if word in types), None)
    if found:
        return SeriesGuess(DERIVED[found], (f"Image Type says {found}",))
    if {"DERIVED", "SECONDARY"} <= types:
        return SeriesGuess("derived image", ("Image Type says DERIVED, SECONDARY",))
    return None


def _echo_planar(series: Series) -> SeriesGuess | None:
    """Diffusion, perfusion and functional images, recognised by acquisition parameters instead of names."""
    weights = [instance.acquisition.b_value for instance in series.instances]
    if any(weight is not None and weight > 0 for weight in weights):
        return SeriesGuess("diffusion", (f"b values up to {max(weight or 0 for weight in weights):g}",))
    points = series.acquisition.time_points
    if points is not None and points > 1:
        return SeriesGuess("dynamic series", (f"{points:g} time points",))
    if "EP" in series.acquisition.scanning_sequence:
        return SeriesGuess("echo-planar image", ("Scanning Sequence says EP",))
    return None


def _by_name(series: Series) -> SeriesGuess | None:
    """By Series Description, Protocol Name, then Sequence Name; ignores a name that the parameters contradict."""
    acquisition = series.acquisition
    for what, name in (("Series Description", acquisition.description), ("Protocol Name", acquisition.protocol)):
        guess = guess_modality(f"ct {name}" if acquisition.modality == "CT" else name)
        if guess is not None:
            return _unless_contradicted(acquisition, guess, f"{what} '{name}'")
        other = sorted(words.OTHER & set(words_of(name)))
        if other:
            return SeriesGuess(f"other image ({other[0]})", (f"{what} '{name}' says {other[0]}",))
        if acquisition.modality == "MR" and left_open(words_of(name)) and "t2" not in words_of(name):
            return _unless_contradicted(acquisition, "t1", f"{what} '{name}'")  # contrast is decided next
    name = acquisition.sequence_name.lower().lstrip("*_ ")
    for beginning, kind in SEQUENCE_NAMES:
        if name.startswith(beginning):
            return _unless_contradicted(acquisition, kind, f"Sequence Name '{acquisition.sequence_name}'")
    return None


def _unless_contradicted(acquisition: Acquisition, kind: str, reason: str) -> SeriesGuess:
    measured, why = weighting(acquisition)
    named, weighted = (modality.removesuffix("ce") for modality in (kind, measured))
    # Without an inversion time in its header, a FLAIR's parameters are those of T2.
    known = weighted and named in ("t1", "t2", "flair")
    if not known or named == weighted or (named, weighted) == ("flair", "t2"):
        return SeriesGuess(kind, (reason,))
    return SeriesGuess("", (reason, f"but {why} is {measured}"))


def _by_parameters(series: Series) -> SeriesGuess | None:
    acquisition = series.acquisition
    if acquisition.modality == "CT":
        return SeriesGuess("ct", ("modality CT",))
    kind, why = weighting(acquisition)
    return SeriesGuess(kind, (why,)) if kind else None


def weighting(acquisition: Acquisition) -> tuple[str, str]:
    """The weighting by echo, repetition and inversion time, and these as text; "" if they are not conclusive.

    They are not for a gradient echo without inversion: T1, angiograms and T2* have similar times.
    """
    echo, repetition, inversion = acquisition.echo_ms, acquisition.repetition_ms, acquisition.inversion_ms
    figures = [("TE", echo), ("TR", repetition), ("TI", inversion)]
    why = ", ".join(f"{name} {value:g} ms" for name, value in figures if value)
    if acquisition.modality != "MR" or not echo:
        return "", why
    if inversion:
        if _within(inversion, T1_INVERSION_MS) and echo <= SHORT_ECHO_MS:
            return "t1", why
        if _within(inversion, FLUID_INVERSION_MS) and echo >= LONG_ECHO_MS:
            return "flair", why
        return ("short inversion", why) if inversion < T1_INVERSION_MS[0] and echo >= SHORT_ECHO_MS else ("", why)
    if "GR" in acquisition.scanning_sequence or not repetition:
        return "", why
    if echo <= SHORT_ECHO_MS:
        if repetition <= SHORT_REPETITION_MS and "SE" in acquisition.scanning_sequence:
            return "t1", why
        return ("proton density", why) if repetition >= LONG_REPETITION_MS else ("", why)
    return ("t2", why) if echo >= LONG_ECHO_MS and repetition >= LONG_REPETITION_MS else ("", why)


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _with_contrast(acquisition: Acquisition, found: SeriesGuess) -> SeriesGuess:
    """Decide between T1 and T1ce, or CT without and with contrast: by names first, then by the contrast agent.

    Some scanners keep the agent in the header for a whole examination, and some exports remove it.
    """
    if found.kind not in ("t1", "ct"):
        return found
    with_it, without = ("t1ce", "t1") if found.kind == "t1" else ("ctpa", "nct")
    names = [acquisition.description]
    if guess_modality(acquisition.protocol) is not None:  # otherwise it describes the examination: "head w/wo contrast"
        names.append(acquisition.protocol)
    for name in names:
        contrast, native = contrast_mentioned(words_of(name))
        if left_open(words_of(name)):
            agent = contrast_agent(acquisition)
            header = f"contrast agent {agent}" if agent else "no contrast agent in the header"
            unclear = f"'{name}' leaves open whether there was contrast"
            return SeriesGuess(with_it if agent else "", (*found.reasons, unclear, header))
        if contrast and native:
            return SeriesGuess("", (*found.reasons, f"'{name}' speaks of both, with and without contrast"))
        if contrast or native:
            return SeriesGuess(with_it if contrast else without, (*found.reasons, f"contrast by '{name}'"))
    agent = contrast_agent(acquisition)
    if agent:
        return SeriesGuess(with_it, (*found.reasons, f"contrast agent {agent}"))
    return SeriesGuess(without, (*found.reasons, "no contrast agent in the header"))


def contrast_agent(acquisition: Acquisition) -> str:
    """The contrast agent according to the header; empty if none was given."""
    if acquisition.contrast_ml is not None and acquisition.contrast_ml > 0:
        return acquisition.contrast_agent or f"{acquisition.contrast_ml:g} mL"
    return acquisition.contrast_agent if set(words_of(acquisition.contrast_agent)) - NO_AGENT else ""


# In order of priority.
RULES: tuple[Callable[[Series], SeriesGuess | None], ...] = (
    _no_image,
    _localizer,
    _derived,
    _echo_planar,
    _by_name,
    _by_parameters,
)
