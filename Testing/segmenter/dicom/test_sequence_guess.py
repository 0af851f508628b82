"""Recognition of a series' sequence, rule by rule and in the order of the rules."""

from pathlib import Path

import pytest

from DanteSegmenterLib.dicom.header.records import Acquisition, Frame, Instance
from DanteSegmenterLib.dicom.sequence_guess import RULES, SeriesGuess, guess_series, weighting
from DanteSegmenterLib.dicom.series import Series

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
SEG, CAPTURE, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.22"


def series(description="", slices=20, b_values=(None,), **values):
    values = {"modality": "MR", "sop_class": MR, "image_type": ("ORIGINAL", "PRIMARY", "M")} | values
    frames = tuple(Frame(Path("x"), n, 2, 2, None, None, None, 1, 0, ()) for n in range(slices))
    instances = tuple(
        Instance(
            *(Path("x"), "", "1", "2", "3", "", "", 1, "", True, False, False, frames if n == 0 else ()),
            Acquisition(description=description, b_value=b, **values),
        )
        for n, b in enumerate(b_values)
    )
    return Series("2", instances)


def kind(*args, **values):
    return guess_series(series(*args, **values)).kind


SE, IR, GR, EP = ("SE",), ("SE", "IR"), ("GR",), ("EP", "SE")


@pytest.mark.parametrize(
    ("wanted", "given"),
    {
        # Kind of object: another object, a localizer, derived, echo-planar.
        "a segmentation": ("no MR or CT image", {"sop_class": SEG, "modality": "SEG", "description": "T1"}),
        "a report": ("no MR or CT image", {"sop_class": REPORT, "modality": "SR", "description": "T1"}),
        "a screen capture": ("screen capture", {"sop_class": CAPTURE, "modality": "OT", "description": "T1"}),
        "a capture that calls itself MR": ("screen capture", {"sop_class": CAPTURE, "description": "T1"}),
        "a localizer": ("localizer", {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER"), "description": "T1"}),
        "few slices": ("localizer", {"slices": 7, "description": "T1 sag"}),
        "an ADC map": ("diffusion", {"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC"), "description": "T2"}),
        "a trace": ("diffusion", {"image_type": ("DERIVED", "PRIMARY", "TRACEW"), "description": "x"}),
        "a perfusion map": ("perfusion", {"image_type": ("DERIVED", "SECONDARY", "RCBV"), "description": "T1"}),
        "susceptibility": ("susceptibility", {"image_type": ("ORIGINAL", "PRIMARY", "M", "SWI"), "description": "T2"}),
        "a projection": ("projection", {"image_type": ("DERIVED", "SECONDARY", "MIP"), "description": "T1 KM"}),
        "a subtraction": ("subtraction", {"image_type": ("DERIVED", "SECONDARY", "SUBTRACTION"), "description": "T1"}),
        "a reformat": ("reformat", {"image_type": ("DERIVED", "SECONDARY", "MPR"), "description": "T1 KM cor"}),
        "derived somehow": ("derived image", {"image_type": ("DERIVED", "SECONDARY"), "description": "T1"}),
        "derived, primary": ("t1", {"image_type": ("DERIVED", "PRIMARY", "M", "DIS2D"), "description": "T1"}),
        "b values": ("diffusion", {"b_values": (0, 1000), "description": "T2"}),
        "time points": ("dynamic series", {"time_points": 40.0, "description": "T1"}),
        "echo-planar": ("echo-planar image", {"scanning_sequence": EP, "description": "T2"}),
        # Names.
        "a name": ("flair", {"description": "t2_tirm_tra_dark-fluid"}),
        "a name that is none of ours": ("other image (stir)", {"description": "COR STIR"}),
        "a protocol's name": ("t2", {"description": "tra 5mm", "protocol": "T2 TSE"}),
        "the description before the protocol": ("t1", {"description": "T1 SE", "protocol": "T2 TSE"}),
        "a sequence's name": ("t1", {"description": "tra", "sequence_name": "*tfl3d1_16"}),
        "an angiogram by its sequence": ("angiogram", {"description": "head", "sequence_name": "*fi3d1r"}),
        "a diffusion by its sequence": ("diffusion", {"description": "head", "sequence_name": "*ep_b1000t"}),
        "a name against figures": ("", {"description": "T1", "echo_ms": 100, "repetition_ms": 5e3}),
        "FLAIR whose inversion is not said": ("flair", {"description": "FLAIR", "echo_ms": 120, "repetition_ms": 9e3}),
        "T2 that inverts": ("", {"description": "T2", "echo_ms": 120, "inversion_ms": 2500}),
        # Numbers only.
        "T1 by figures": ("t1", {"echo_ms": 12, "repetition_ms": 600, "scanning_sequence": SE}),
        "T1 by inversion": ("t1", {"echo_ms": 3, "repetition_ms": 2e3, "inversion_ms": 900, "scanning_sequence": GR}),
        "T2 by figures": ("t2", {"echo_ms": 100, "repetition_ms": 5e3, "scanning_sequence": SE}),
        "FLAIR by figures": ("flair", {"echo_ms": 120, "repetition_ms": 9e3, "inversion_ms": 2500}),
        "proton density": ("proton density", {"echo_ms": 15, "repetition_ms": 3e3, "scanning_sequence": SE}),
        "short inversion": ("short inversion", {"echo_ms": 60, "repetition_ms": 5e3, "inversion_ms": 160}),
        "a gradient echo": ("", {"echo_ms": 4, "repetition_ms": 25, "scanning_sequence": GR}),
        "nothing": ("", {"description": "head"}),
        # Contrast.
        "an agent": ("t1ce", {"description": "T1", "contrast_agent": "Gadovist"}),
        "a volume of agent": ("t1ce", {"description": "T1", "contrast_ml": 7.5}),
        "an agent that is none": ("t1", {"description": "T1", "contrast_agent": "NONE"}),
        "an agent for a whole examination": ("t1", {"description": "T1 nativ", "contrast_agent": "Gadovist"}),
        "contrast in the name alone": ("t1ce", {"description": "T1 + KM"}),
        "an agent where the name leaves it open": ("t1ce", {"description": "T1 FS +", "contrast_agent": "Gadovist"}),
        "no agent where the name leaves it open": ("", {"description": "T1 FS +"}),
        "both in the name, whatever was given": (
            "",
            {"description": "T1 pre and post KM", "contrast_agent": "Dotarem"},
        ),
        "both in the name": ("", {"description": "T1 pre and post contrast"}),
        "T2 after contrast": ("t2", {"description": "T2", "contrast_agent": "Gadovist"}),
        "an examination's protocol": ("t1", {"description": "T1", "protocol": "Head w and w/o contrast"}),
        "contrast by the protocol": ("t1ce", {"description": "tra", "protocol": "T1 KM"}),
        "T1 by figures and an agent": (
            "t1ce",
            {"echo_ms": 12, "repetition_ms": 600, "scanning_sequence": SE, "contrast_agent": "Dotarem"},
        ),
        # CT.
        "CT": ("nct", {"modality": "CT", "sop_class": CT, "description": "Thorax 1.0"}),
        "CT with an agent": (
            "ctpa",
            {"modality": "CT", "sop_class": CT, "description": "Thorax 1.0", "contrast_agent": "Imeron"},
        ),
        "CT by its name": ("ctpa", {"modality": "CT", "sop_class": CT, "description": "CTPA 1.0"}),
        "native CT of an examination with an agent": (
            "nct",
            {"modality": "CT", "sop_class": CT, "description": "Thorax nativ", "contrast_agent": "Imeron"},
        ),
        "a topogram": ("localizer", {"modality": "CT", "sop_class": CT, "slices": 1}),
    }.values(),
)
def test_rules(wanted, given):
    assert kind(**given) == wanted


def test_reasons_state_the_evidence():
    assert guess_series(series("T1", contrast_agent="Gadovist")) == SeriesGuess(
        "t1ce", ("Series Description 'T1'", "contrast agent Gadovist")
    )
    assert guess_series(series("T1", echo_ms=100, repetition_ms=5e3)).reasons == (
        "Series Description 'T1'",
        "but TE 100 ms, TR 5000 ms is t2",
    )
    assert guess_series(series("x")).reasons == ("neither name nor parameters tell what it is",)


def test_first_matching_rule_wins():
    """Every pair of neighbouring rules."""
    localizer = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    both = [
        series(sop_class=SEG, modality="SEG", image_type=localizer),
        series(image_type=(*localizer, "ADC")),
        series(image_type=("DERIVED", "PRIMARY", "MIP"), b_values=(1000,)),
        series("T2", scanning_sequence=EP),
        series("FLAIR", echo_ms=120, repetition_ms=9e3),
    ]
    for number, given in enumerate(both):
        first, second = RULES[number](given), RULES[number + 1](given)
        assert first is not None and second is not None and first.kind != second.kind
        assert guess_series(given).kind == first.kind


def test_bounds_of_weighting():
    def of(echo, repetition, inversion=None):
        return weighting(
            Acquisition(
                modality="MR", scanning_sequence=SE, echo_ms=echo, repetition_ms=repetition, inversion_ms=inversion
            )
        )[0]

    assert [of(35, 1000), of(36, 1000), of(35, 1001), of(60, 1800), of(59, 1800)] == ["t1", "", "", "t2", ""]
    assert [of(60, 9000, 1500), of(60, 9000, 1499), of(35, 2000, 400)] == ["flair", "", "t1"]
