"""Regions and findings for a few voxels, computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
from models import LPS_2MM, brain_spec

from DanteSegmenterLib.model_folder import Calibration, Scaling
from DanteSegmenterLib.result import Finding
from DanteSegmenterLib.result.regions import (
    cautions,
    confidence_of,
    findings_of,
    label_map_of,
    mask_of,
    nested_probability,
    shown,
    shows_whole_head,
    volume_range_ml,
)
from DanteSegmenterLib.volume import Volume

SPEC = brain_spec()
# Voxels in a row: WT, TC, ET.
FOUR = np.array([[0.8, 0.6, 0.3, 0.1], [0.1, 0.7, 0.2, 0.1], [0.1, 0.2, 0.1, 0.9]], np.float32).reshape(3, 1, 1, 4)
LABELS = np.array([2, 1, 0, 4], np.uint8).reshape(1, 1, 4)


def test_later_regions_are_written_over_earlier_ones():
    spec = SPEC
    p = np.array([[0.9, 0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.9, 0.1, 0.9], [0.1, 0.1, 0.9, 0.9, 0.1]], np.float32)
    label_map = label_map_of(p.reshape(3, 1, 1, 5), spec)
    assert label_map.ravel().tolist() == [2, 1, 4, 4, 1]  # oedema, core, enhancing; ET and TC count without WT too
    masks = [mask_of(label_map, region, spec.regions).ravel().astype(int).tolist() for region in spec.regions]
    assert masks == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 0]]


def test_probability_of_one_half_is_not_enough():
    p = np.zeros((3, 1, 1, 2), np.float32)
    p[0] = 0.5, 0.51
    assert label_map_of(p, SPEC).ravel().tolist() == [0, 2]


def test_exclusive_labels_use_the_argmax():
    spec = replace(SPEC, output="labels")
    p = np.array([[0.4, 0.3, 0.2], [0.3, 0.3, 0.1], [0.1, 0.3, 0.1]], np.float32).reshape(3, 1, 1, 3)
    assert label_map_of(p, spec).ravel().tolist() == [2, 2, 0]  # background 0.2, 0.1, 0.6


def test_mask_contains_the_regions_inside_it():
    masks = {region.id: mask_of(LABELS, region, SPEC.regions).ravel().tolist() for region in SPEC.regions}
    assert masks["WT"] == [True, True, False, True]
    assert masks["TC"] == [False, True, False, True]
    assert masks["ET"] == [False, False, False, True]


def test_most_probable_overlapping_region_wins_within_its_parent():
    nested = {region.id: nested_probability(FOUR, region, SPEC).ravel() for region in SPEC.regions}
    assert nested["WT"] == pytest.approx([0.8, 0.7, 0.3, 0.9])
    assert nested["TC"] == pytest.approx([0.1, 0.7, 0.2, 0.9])
    assert nested["ET"] == pytest.approx([0.1, 0.2, 0.1, 0.9])


def test_exclusive_labels_are_summed():
    spec = replace(SPEC, output="labels")
    nested = nested_probability(FOUR / 2, spec.region("TC"), spec).ravel()  # halves of (0.1, 0.7, 0.2, 0.1) + ET's
    assert nested == pytest.approx([0.1, 0.45, 0.15, 0.5])


def test_findings_are_volumes_ranges_and_mean_probabilities():
    # Voxels of 0.5 mL. WT: 3 voxels; surer than 0.75 are 2, than 0.25 all 4. TC: 2 voxels, 1 and 2. ET: 1, 1 and 1.
    whole, core, enhancing = findings_of(FOUR, LABELS, SPEC, SPEC.limited, 0.5)
    assert (whole.region, whole.volume_ml, whole.low_ml, whole.high_ml) == ("WT", 1.5, 1.0, 2.0)
    assert (core.region, core.volume_ml, core.low_ml, core.high_ml) == ("TC", 1.0, 0.5, 1.0)
    assert (enhancing.region, enhancing.volume_ml, enhancing.low_ml, enhancing.high_ml) == ("ET", 0.5, 0.5, 0.5)
    assert [found.confidence for found in (whole, core, enhancing)] == pytest.approx([0.8, 0.8, 0.9])


def test_range_of_a_label_among_many_contains_its_volume():
    labels = range(1, 6)
    organs = tuple(replace(SPEC.regions[2], id=f"L{n}", labels=(n,), label_value=n) for n in labels)
    spec = replace(SPEC, output="labels", regions=organs)
    probabilities = np.array([0.2, 0.19, 0.18, 0.18, 0.15], np.float32).reshape(5, 1, 1, 1)  # background 0.1
    first, second, *_ = findings_of(probabilities, label_map_of(probabilities, spec), spec, spec.limited, 1.0)
    assert (first.volume_ml, first.low_ml, first.high_ml) == (1.0, 0.0, 1.0)
    assert (second.volume_ml, second.low_ml, second.high_ml) == (0.0, 0.0, 0.0)


def test_empty_finding_has_no_confidence_but_may_have_a_range():
    doubtful = np.full((3, 1, 1, 2), 0.4, np.float32)
    assert findings_of(doubtful, np.zeros((1, 1, 2), np.uint8), SPEC, SPEC.limited, 1.0)[0] == Finding(
        "WT", 0.0, 0.0, 2.0, None
    )
    assert confidence_of(doubtful[0], np.zeros((1, 1, 2), bool)) is None


def test_range_excludes_its_thresholds():
    assert volume_range_ml(np.array([0.25, 0.26, 0.75, 0.76]), 1.0) == (1.0, 3.0)


TOO_SURE = (
    "Take the probabilities with care: on 17 test cases this model was too sure ({name} {sure} sure and {right} right)."
)
WRONG = "{name} is unreliable: on 17 test cases {right} of what this model marked was right."


@pytest.mark.parametrize(
    ("confidence", "precision", "notes"),
    [
        (0.9, 0.85, ()),
        (0.9, 0.7, (TOO_SURE,)),
        (0.5, 0.5, ()),
        (0.14, 0.28, (WRONG,)),
        (0.9, 0.28, (WRONG, TOO_SURE)),
    ],
)
def test_mostly_wrong_or_overconfident_region_gives_a_note_with_numbers(confidence, precision, notes):
    pathway = replace(SPEC.limited, calibration={"TC": Calibration(17, confidence, precision, 0.5)})
    name = next(region.name for region in SPEC.regions if region.id == "TC")
    values = {"name": name, "sure": f"{confidence:.0%}", "right": f"{precision:.0%}"}
    assert cautions(SPEC, pathway) == tuple(text.format(**values) for text in notes)


def test_model_without_calibration_gives_no_note():
    assert cautions(SPEC, SPEC.limited) == ()


@pytest.mark.parametrize(("litres", "head"), [(1.6, False), (2.4, False), (2.6, True), (5.0, True)])
def test_whole_head_is_detected_by_its_volume(litres, head):
    array = np.zeros((90, 90, 90), np.float32)
    array.reshape(-1)[: round(litres * 1e6 / 8)] = 1.0  # voxels of 2 mm are 0.008 mL
    assert shows_whole_head(Volume(array, LPS_2MM)) == head


def test_displayed_probabilities_use_scaled_logits_and_zero_stays_zero():
    # logit(0.9) = ln 9; half of it is ln 3, minus ln 3 is 0
    raw = np.array([0.9, 0.5, 0.0], np.float32)
    assert shown(raw, Scaling(temperature=2.0)) == pytest.approx([0.75, 0.5, 0.0], abs=1e-6)
    assert shown(raw, Scaling(temperature=2.0, offset=-np.log(3))) == pytest.approx([0.5, 0.25, 0.0], abs=1e-6)
    assert shown(raw, Scaling()) is raw


def test_certain_probability_can_be_scaled():
    # Six nines have odds of a million to one; half of the logit is a thousand to one.
    assert shown(np.ones(1), Scaling(temperature=2.0)) == pytest.approx([1000 / 1001], abs=1e-6)


def test_scaling_changes_probabilities_and_range_but_no_mask():
    scaled = replace(SPEC.limited, scaling={"WT": Scaling(offset=-np.log(3), range_margin=0.0)})
    plain, other = (findings_of(FOUR, LABELS, SPEC, p, 0.5)[0] for p in (SPEC.limited, scaled))
    assert (plain.volume_ml, other.volume_ml) == (1.5, 1.5)
    # 0.8, 0.7, 0.9 with odds 4, 7/3, 9, a third of them each
    wanted = [(odds / 3) / (1 + odds / 3) for odds in (4, 7 / 3, 9)]
    assert other.confidence == pytest.approx(sum(wanted) / 3, abs=1e-6)
    assert (plain.low_ml, plain.high_ml) == (1.0, 2.0) and (other.low_ml, other.high_ml) == (1.5, 1.5)
