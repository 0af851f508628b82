"""Lesion-wise Dice and HD95 of BraTS 2023: cases that can be counted by hand, and the definition written out."""

import math

import numpy as np
import pytest
from scipy import ndimage

from DanteTrainerLib.evaluation.metrics.lesion_wise import score_lesions
from DanteTrainerLib.evaluation.metrics.region import dice, hd95_mm

UNIT = (1.0, 1.0, 1.0)
SHAPE = (40, 40, 40)
PENALTY = 70  # the diagonal, sqrt(3) * 40 = 69.28, rounded up


def cubes(*places, shape=SHAPE):
    """A mask of cubes, each given by its first corner and its edge."""
    mask = np.zeros(shape, bool)
    for corner, edge in places:
        mask[tuple(slice(start, start + edge) for start in corner)] = True
    return mask


A, B = ((2, 2, 2), 5), ((25, 25, 25), 5)  # 125 mm^3 each, far apart


def scores(truth, prediction, spacing=UNIT):
    found = score_lesions(truth, prediction, spacing)
    return found.dice, found.hd95_mm


def test_two_lesions_found_exactly():
    assert scores(cubes(A, B), cubes(A, B)) == (1, 0)


def test_missed_lesion_scores_zero_and_the_diagonal():
    assert scores(cubes(A, B), cubes(A)) == ((1 + 0) / 2, (0 + PENALTY) / 2)


def test_false_component_of_any_size_scores_zero_and_the_diagonal():
    single = ((15, 15, 15), 1)
    assert scores(cubes(A), cubes(A, B, single)) == pytest.approx((1 / 3, 2 * PENALTY / 3))


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [((), (), (1, 0)), ((A,), (), (0, PENALTY)), ((), (A,), (0, PENALTY)), ((), (A, B), (0, PENALTY))],
)
def test_empty_masks(truth, prediction, expected):
    assert scores(cubes(*truth), cubes(*prediction)) == expected


def test_penalty_on_the_brats_grid_is_374_mm():
    truth = cubes(((9, 9, 9), 5), shape=(155, 240, 240))
    assert scores(truth, truth & False) == (0, 374)


@pytest.mark.parametrize(("voxels", "counts"), [(50, False), (51, True)])
def test_lesion_of_up_to_50_cubic_millimetres_is_ignored(voxels, counts):
    small = np.zeros(SHAPE, bool)
    small[30, 20:35, 20:24].flat[:voxels] = True
    truth = cubes(A) | small
    assert scores(truth, cubes(A))[0] == (0.5 if counts else 1)
    assert scores(truth, truth) == (1, 0)
    if not counts:
        assert scores(small, small) == (1, 0) and scores(small, small & False) == (1, 0)


def test_smallest_lesion_is_defined_by_volume_not_voxels():
    truth = cubes(A, ((25, 25, 25), 2))  # the second: 8 voxels of 8 mm^3
    assert scores(truth, cubes(A), (2.0, 2.0, 2.0))[0] == 0.5


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_lesions_whose_dilations_touch_are_one(gap, lesions):
    other = ((2, 2, 7 + gap), 5)  # both are dilated by 3: with 6 voxels between them nothing is left
    dice_of_the_pair = 2 * 125 / (250 + 125)
    assert scores(cubes(A, other), cubes(A))[0] == pytest.approx(dice_of_the_pair if lesions == 1 else 1 / 2)


@pytest.mark.parametrize(("gap", "meets"), [(2, True), (3, False)])
def test_component_meeting_the_dilated_lesion_is_its_finding(gap, meets):
    beside = ((2, 2, 7 + gap), 5)
    dice_, distance = scores(cubes(A), cubes(beside))
    assert dice_ == 0
    assert distance == (hd95_mm(cubes(A), cubes(beside), UNIT) if meets else PENALTY)


def test_one_part_may_be_the_finding_of_two_lesions():
    bridge = cubes(A, B)
    bridge[4, 4, 4:28] = bridge[4, 4:28, 27] = bridge[4:28, 27, 27] = True
    expected = (dice(cubes(A), bridge) + dice(cubes(B), bridge)) / 2
    assert ndimage.label(bridge, np.ones((3, 3, 3)))[1] == 1
    assert scores(cubes(A, B), bridge)[0] == pytest.approx(expected)


def test_coarser_voxels_are_dilated_less_often():
    beside = ((2, 2, 8), 5)  # one voxel between
    assert scores(cubes(A), cubes(beside), (1.0, 1.0, 1.0))[1] < PENALTY
    assert scores(cubes(A), cubes(beside), (3.0, 3.0, 3.0))[1] == 3 * PENALTY - 2  # dilated once: 207.8 mm rounded up


def written_out(truth, prediction):
    """The definition, lesion by lesion on the whole image, at 1 mm."""
    near, edge = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
    merged, count = ndimage.label(ndimage.binary_dilation(truth, near, 3), edge)
    parts, part_count = ndimage.label(prediction, edge)
    values, met = [], set()
    for number in range(1, count + 1):
        lesion = truth & (merged == number)
        own = set(np.unique(parts[ndimage.binary_dilation(lesion, near, 3)])) - {0}
        met |= own
        if lesion.sum() > 50:
            finding = np.isin(parts, list(own))
            values.append((dice(lesion, finding), hd95_mm(lesion, finding, UNIT) if own else PENALTY))
    values += [(0, PENALTY)] * (part_count - len(met))
    return np.mean(values, axis=0) if values else (1, 0)


@pytest.mark.parametrize("seed", range(6))
def test_random_masks_score_as_the_definition_written_out(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = (ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) > level for level in (0.2, 0.22))
    assert ndimage.label(truth)[1] > 3 and math.isfinite(dice(truth, prediction))
    assert scores(truth, prediction) == pytest.approx(tuple(written_out(truth, prediction)))
