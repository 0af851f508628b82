"""Which series is which modality: a table of evidence, looked through in a stated order; it had rather say nothing.

`RULES` is that order. The first rule that has something to say decides what the series is; then contrast is asked for,
of T1 and of CT. docs/dicom.md has the same table for users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cases import vocabulary as words
from ..cases.modality_guess import contrast_said, guess_modality, left_open, words_of
from .header.records import Acquisition
from .series import Series

# What holds slices of a patient, by SOP Class: MR and CT, each as single frames, enhanced, and converted to enhanced.
IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
# Words of Image Type.
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
# Beginnings of manufacturers' names of sequences (Siemens).
SEQUENCE_NAMES = (
    ("tfl", "t1"), ("mprage", "t1"), ("spcir", "flair"), ("ep_b", "diffusion"), ("ep2d", "echo-planar image"),
    ("epfid", "echo-planar image"), ("epse", "echo-planar image"), ("swi", "susceptibility"), ("fi3d", "angiogram"),
    ("fi2d", "angiogram"),
)  # fmt: skip
# Fewer are a localiser, or a piece.
FEWEST_SLICES = 8
# Milliseconds. Weighting of a spin echo: a short echo is T1 (short repetition) or proton density, a long one T2; an
# inversion of some hundred ms with a short echo is T1, one of 1.5 s and more takes the fluid out.
SHORT_ECHO_MS, LONG_ECHO_MS = 35.0, 60.0
SHORT_REPETITION_MS, LONG_REPETITION_MS = 1000.0, 1800.0
T1_INVERSION_MS, FLUID_INVERSION_MS = (400.0, 1400.0), (1500.0, 3500.0)
MODALITIES = ("t1", "t1ce", "t2", "flair", "nct", "ctpa")
NO_AGENT = {"no", "none", "non", "na", "n", "a", "0", "false", "keine", "kein", "not", "given", "applicable"}


@dataclass(frozen=True)
class Taken:
    """What a series was taken for.

    Attributes:
        kind: a modality's id; "" if nothing tells; else what it is instead, e.g. "localizer".
        reasons: what was seen, in the order in which it was looked at.
    """

    kind: str
    reasons: tuple[str, ...]

    @property
    def modality(self) -> str | None:
        return self.kind if self.kind in MODALITIES else None


def take(series: Series) -> Taken:
    """What a series is, by the first rule that tells."""
    for rule in RULES:
        found = rule(series)
        if found is not None:
            return _with_contrast(series.acquisition, found)
    return Taken("", ("neither name nor parameters tell what it is",))


def _no_image(series: Series) -> Taken | None:
    """Another object: a report, a key image note, a presentation state, a segmentation, a screen capture, PET."""
    from pydicom.uid import UID

    acquisition = series.acquisition
    if IMAGE_CLASSES.get(acquisition.sop_class) and acquisition.modality in ("", IMAGE_CLASSES[acquisition.sop_class]):
        return None
    name = UID(acquisition.sop_class).name or "unknown object"
    kind = "screen capture" if "Secondary Capture" in name else "no MR or CT image"
    return Taken(kind, (f"it is {name}, modality {acquisition.modality or 'unknown'}",))


def _localizer(series: Series) -> Taken | None:
    found = sorted(LOCALIZERS & series.image_types)
    if found:
        return Taken("localizer", (f"Image Type says {found[0]}",))
    if len(series.frames) < FEWEST_SLICES:
        return Taken("localizer", (f"it has {len(series.frames)} slices, fewer than {FEWEST_SLICES}",))
    return None


def _derived(series: Series) -> Taken | None:
    types = series.image_types
    found = next((word for word in DERIVED if word in types), None)
    if found:
        return Taken(DERIVED[found], (f"Image Type says {found}",))
    if {"DERIVED", "SECONDARY"} <= types:
        return Taken("derived image", ("Image Type says DERIVED, SECONDARY",))
    return None


def _echo_planar(series: Series) -> Taken | None:
    """Diffusion, perfusion, function: by what is measured, not by names."""
    weights = [instance.acquisition.b_value for instance in series.instances]
    if any(weight is not None and weight > 0 for weight in weights):
        return Taken("diffusion", (f"b values up to {max(weight or 0 for weight in weights):g}",))
    points = series.acquisition.time_points
    if points is not None and points > 1:
        return Taken("dynamic series", (f"{points:g} time points",))
    if "EP" in series.acquisition.scanning_sequence:
        return Taken("echo-planar image", ("Scanning Sequence says EP",))
    return None


def _by_name(series: Series) -> Taken | None:
    """Series Description, then Protocol Name, then the sequence's; a name that parameters contradict tells nothing."""
    acquisition = series.acquisition
    for what, name in (("Series Description", acquisition.description), ("Protocol Name", acquisition.protocol)):
        guess = guess_modality(f"ct {name}" if acquisition.modality == "CT" else name)
        if guess is not None:
            return _unless_contradicted(acquisition, guess, f"{what} '{name}'")
        other = sorted(words.OTHER & set(words_of(name)))
        if other:
            return Taken(f"other image ({other[0]})", (f"{what} '{name}' says {other[0]}",))
        if acquisition.modality == "MR" and left_open(words_of(name)) and "t2" not in words_of(name):
            return _unless_contradicted(acquisition, "t1", f"{what} '{name}'")  # contrast is asked for next
    name = acquisition.sequence_name.lower().lstrip("*_ ")
    for beginning, kind in SEQUENCE_NAMES:
        if name.startswith(beginning):
            return _unless_contradicted(acquisition, kind, f"Sequence Name '{acquisition.sequence_name}'")
    return None


def _unless_contradicted(acquisition: Acquisition, kind: str, reason: str) -> Taken:
    measured, why = weighting(acquisition)
    named, told = (modality.removesuffix("ce") for modality in (kind, measured))
    # A FLAIR whose inversion is not written down measures as T2.
    agree = not told or named == told or (named, told) == ("flair", "t2") or named not in ("t1", "t2", "flair")
    if agree:
        return Taken(kind, (reason,))
    return Taken("", (reason, f"but {why} is {measured}"))


def _by_parameters(series: Series) -> Taken | None:
    acquisition = series.acquisition
    if acquisition.modality == "CT":
        return Taken("ct", ("modality CT",))
    kind, why = weighting(acquisition)
    return Taken(kind, (why,)) if kind else None


def weighting(acquisition: Acquisition) -> tuple[str, str]:
    """What echo, repetition and inversion time say of a spin echo or an inversion: a kind, and the figures.

    Nothing of a gradient echo without inversion: T1, an angiogram and T2* look alike there.
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


def _with_contrast(acquisition: Acquisition, found: Taken) -> Taken:
    """T1 and CT are told by contrast: what names say comes before the agent in the header.

    Some scanners keep the agent for a whole examination, and some exports empty it.
    """
    if found.kind not in ("t1", "ct"):
        return found
    with_it, without = ("t1ce", "t1") if found.kind == "t1" else ("ctpa", "nct")
    names = [acquisition.description]
    if guess_modality(acquisition.protocol) is not None:  # else it speaks of the examination, "head w/wo contrast"
        names.append(acquisition.protocol)
    for name in names:
        spoken = words_of(name)
        contrast, native = contrast_said(spoken)
        if left_open(spoken):
            agent = contrast_agent(acquisition)
            told = f"contrast agent {agent}" if agent else "no contrast agent in the header"
            open_said = f"'{name}' leaves open whether there was contrast"
            return Taken(with_it if agent else "", (*found.reasons, open_said, told))
        if contrast and native:
            return Taken("", (*found.reasons, f"'{name}' speaks of both, with and without contrast"))
        if contrast or native:
            return Taken(with_it if contrast else without, (*found.reasons, f"contrast by '{name}'"))
    agent = contrast_agent(acquisition)
    if agent:
        return Taken(with_it, (*found.reasons, f"contrast agent {agent}"))
    return Taken(without, (*found.reasons, "no contrast agent in the header"))


def contrast_agent(acquisition: Acquisition) -> str:
    """What was injected, as the header says; empty if nothing."""
    if acquisition.contrast_ml is not None and acquisition.contrast_ml > 0:
        return acquisition.contrast_agent or f"{acquisition.contrast_ml:g} mL"
    return acquisition.contrast_agent if set(words_of(acquisition.contrast_agent)) - NO_AGENT else ""


# The order of evidence.
RULES: tuple[Callable[[Series], Taken | None], ...] = (
    _no_image,
    _localizer,
    _derived,
    _echo_planar,
    _by_name,
    _by_parameters,
)
