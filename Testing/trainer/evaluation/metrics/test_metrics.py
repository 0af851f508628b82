import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from DanteTrainerLib.evaluation.metrics.intervals import bootstrap_mean
from DanteTrainerLib.evaluation.metrics.region import dice, hd95_mm, score_region
from DanteTrainerLib.evaluation.metrics.whole_tumour import describe_dice_of_the_whole, dice_of_the_whole
from DanteTrainerLib.settings.tasks import BRAIN, CHEST

UNIT = (1.0, 1.0, 1.0)


def cube(start, stop, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def point(*kji, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[kji] = True
    return mask


def test_whole_region_mask_is_the_baseline_for_each_nested_region():
    volumes = {"A": (30.0, 10.0, 10.0), "B": (8.0, 8.0, 0.0)}
    rows = [(case, region, ml) for case, mls in volumes.items() for region, ml in zip(("WT", "TC", "ET"), mls)]
    table = pd.DataFrame([*rows, *rows], columns=["case", "region", "truth_ml"])  # of two methods
    whole = dice_of_the_whole(table, BRAIN.regions)
    assert whole == {"TC": pytest.approx((0.5 + 1.0) / 2), "ET": pytest.approx((0.5 + 0.0) / 2)}
    sentence = "The experts' own mask of WT has a Dice of 0.750 of TC, 0.250 of ET: "
    assert describe_dice_of_the_whole(whole, "WT").startswith(sentence)
    embolism = pd.DataFrame([("A", "PE", 1.0)], columns=["case", "region", "truth_ml"])
    assert dice_of_the_whole(embolism, CHEST.regions) == {} and describe_dice_of_the_whole({}, "PE") == ""


def test_dice_of_two_cubes_that_share_an_eighth():
    assert dice(cube(0, 4), cube(2, 6)) == 2 * 8 / (64 + 64)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        (False, False, (math.nan, math.nan, 1, 0)),
        (True, False, (0, math.nan, 0, math.sqrt(3) * 20)),
        (False, True, (0, math.nan, 0, math.sqrt(3) * 20)),
        (True, True, (1, 0, 1, 0)),
    ],
)
def test_empty_masks_score_as_tabulated(truth, prediction, expected):
    masks = [cube(2, 5) if some else cube(0, 0) for some in (truth, prediction)]
    score = score_region(*masks, UNIT)
    assert (score.dice, score.hd95_mm, score.brats_dice, score.brats_hd95_mm) == pytest.approx(expected, nan_ok=True)


def test_penalty_on_the_brats_grid_is_373_mm():
    truth = np.zeros((155, 240, 240), bool)
    truth[0, 0, 0] = True
    assert score_region(truth, ~truth & False, UNIT).brats_hd95_mm == pytest.approx(373.13, abs=0.01)


def test_penalty_is_the_diagonal_in_millimetres():
    truth = np.ones((3, 2, 6), bool)  # 3, 4 and 12 mm
    assert score_region(truth, ~truth, (1.0, 2.0, 2.0)).brats_hd95_mm == 13


def test_distance_of_two_voxels_is_in_millimetres_along_each_axis():
    spacing = (3.0, 2.0, 0.5)
    for axis, step in itertools.product(range(3), (1, 7)):
        other = [10, 10, 10]
        other[axis] += step
        assert hd95_mm(point(10, 10, 10), point(*other), spacing) == pytest.approx(step * spacing[axis])


def test_hd95_is_the_larger_directed_95th_percentile():
    truth = np.zeros((1, 1, 100), bool)
    truth[..., :99] = True
    prediction = truth.copy()
    prediction[..., 99] = True  # a hundredth of the prediction is 1 mm away, the rest 0
    assert hd95_mm(truth, prediction, UNIT) == 0
    prediction[...] = False
    prediction[..., :50] = True  # truth extends 49 mm further: 95th percentile of 0...0, 1..49
    assert hd95_mm(truth, prediction, UNIT) == pytest.approx(np.percentile([0] * 50 + list(range(1, 50)), 95))


def surface_points(mask, spacing):
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return (np.argwhere(padded & ~inner) - 1) * np.array(spacing)


@pytest.mark.parametrize("seed", range(4))
def test_hd95_equals_brute_force_over_surface_voxels(seed):
    from scipy import ndimage

    rng, spacing = np.random.default_rng(seed), (2.5, 0.8, 1.1)
    a, b = (ndimage.gaussian_filter(rng.standard_normal((16, 18, 20)), 2) > 0.05 for _ in range(2))
    distances = cdist(surface_points(a, spacing), surface_points(b, spacing))
    expected = max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
    assert hd95_mm(a, b, spacing) == pytest.approx(expected)


def test_means_skip_and_count_undefined_values():
    interval = bootstrap_mean([0.2, math.nan, 0.4, 0.6])
    assert interval.mean == pytest.approx(0.4) and (interval.count, interval.excluded) == (3, 1)
    assert 0.2 <= interval.low < 0.4 < interval.high <= 0.6
    nothing = bootstrap_mean([math.nan])
    assert math.isnan(nothing.mean) and nothing.count == 0


def test_bootstrap_interval_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = bootstrap_mean(values.tolist())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert bootstrap_mean(values.tolist()) == interval  # seeded
