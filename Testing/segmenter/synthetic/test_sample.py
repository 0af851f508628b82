"""Properties of the synthetic patients that networks, users and other tests rely on."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import rankdata

from DanteSegmenterLib.synthetic.sample import SyntheticPatient, brain_mr, chest_ct
from DanteSegmenterLib.synthetic.shapes import (
    Grid,
    bspline_matrix,
    ellipsoid_depth,
    interpolate,
    share,
    threshold_of_volume,
    tube_depth,
)

SEEDS = (0, 1, 2)
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4


@cache
def brain(seed: int = 0, spacing_mm: float = 2.0) -> SyntheticPatient:
    return brain_mr(seed, spacing_mm)


@cache
def hila(seed: int = 0) -> SyntheticPatient:
    """A crop that contains the main and lobar arteries."""
    return chest_ct(seed, (2.0, 1.0, 1.0), (60, 110, 140))


@cache
def coarse_chest(seed: int = 0) -> SyntheticPatient:
    return chest_ct(seed, (4.0, 3.0, 3.0))


def labels(patient: SyntheticPatient) -> np.ndarray:
    return patient.labels.array


@cache
def zscored(seed: int, modality: str) -> np.ndarray:
    """A brain as passed to the network by preprocessing: normalised over the foreground voxels."""
    array = brain(seed).volumes[modality].array.astype(np.float32)
    brain_voxels = array[array != 0]
    return (array - brain_voxels.mean()) / brain_voxels.std()


def separability(first: np.ndarray, second: np.ndarray) -> float:
    """Probability that a voxel of the first is brighter than one of the second: 0.5 if alike, 1 if separable."""
    ranks = rankdata(np.concatenate([first, second]))[: first.size]
    return float((ranks.mean() - (first.size + 1) / 2) / second.size)


def neighbours(mask: np.ndarray) -> np.ndarray:
    """Voxels that share a face with the mask and are not in it."""
    return ndimage.binary_dilation(mask) & ~mask


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


# ------------------------------------------------------------------------------------------------------ brain


def test_brain_depends_only_on_the_seed():
    again = brain_mr(0, 4.0)
    for modality, volume in brain(0, 4.0).volumes.items():
        np.testing.assert_array_equal(volume.array, again.volumes[modality].array)
    np.testing.assert_array_equal(labels(brain(0, 4.0)), labels(again))
    assert dice(labels(brain(0)) > 0, labels(brain(1)) > 0) < 0.7
    assert (brain(0).volumes["t1"].array != brain(1).volumes["t1"].array).mean() > 0.1


def test_brain_is_the_same_person_at_every_spacing():
    fine, coarse = brain(0, 2.0), brain(0, 4.0)
    shape = coarse.labels.shape
    blocks = tuple(n for pair in ((size, 2) for size in shape) for n in pair)
    cropped = tuple(slice(0, 2 * size) for size in shape)
    averaged = fine.volumes["flair"].array[cropped].reshape(blocks).mean(axis=(1, 3, 5))
    share_of_tumour = (labels(fine)[cropped] > 0).reshape(blocks).mean(axis=(1, 3, 5))
    assert dice(share_of_tumour > 0.5, labels(coarse) > 0) > 0.93
    assert np.corrcoef(averaged.ravel(), coarse.volumes["flair"].array.ravel())[0, 1] > 0.97


def test_brain_is_in_the_brats_frame():
    full = brain(0, 1.0)
    # The header of every BraTS file: 1 mm, LPS axes, origin (0, -239, 0) in LPS.
    expected = [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert full.labels.shape == (155, 240, 240)
    np.testing.assert_array_equal(full.labels.ijk_to_ras, expected)
    # A voxel of 2 mm is eight voxels of 1 mm: the first lies in the middle of the first eight.
    half = brain(0, 2.0)
    assert half.labels.shape == (77, 120, 120)
    assert half.labels.spacing_mm == (2.0, 2.0, 2.0)
    np.testing.assert_allclose(half.labels.ijk_to_ras[:3, 3], [-0.5, 238.5, 0.5])


def test_brain_has_four_sequences_and_a_mask_on_one_grid():
    patient = brain()
    assert list(patient.volumes) == ["t1", "t1ce", "t2", "flair"]
    assert all(volume.same_grid(patient.labels) for volume in patient.volumes.values())
    assert all(volume.array.dtype == np.int16 for volume in patient.volumes.values())
    assert labels(patient).dtype == np.uint8
    assert len({patient.name, patient.labels.name, *(v.name for v in patient.volumes.values())}) == 6


@pytest.mark.parametrize("seed", SEEDS)
def test_background_is_exactly_zero_in_all_sequences(seed):
    patient = brain(seed)
    inside = patient.volumes["t1"].array != 0
    for volume in patient.volumes.values():
        np.testing.assert_array_equal(volume.array != 0, inside)
        assert volume.array.min() == 0
    assert not labels(patient)[~inside].any()
    # Real brains in the 2 mm training cases: 1316 to 1678 mL between the 10th and 90th percentile.
    assert 1250 < inside.sum() * patient.labels.voxel_volume_ml < 1700
    for axis in range(1, 3):
        touching = inside.any(axis=tuple({0, 1, 2} - {axis}))
        assert not touching[:10].any() and not touching[-10:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_tumour_has_typical_labels_and_size(seed):
    patient = brain(seed)
    assert set(np.unique(labels(patient))) == {0, NECROSIS, OEDEMA, ENHANCING}
    whole, core, enhancing = (
        np.isin(labels(patient), region).sum() * patient.labels.voxel_volume_ml for region in ((1, 2, 4), (1, 4), (4,))
    )
    assert 60 < whole < 120
    assert 0.2 < core / whole < 0.45
    assert 0.3 < enhancing / core < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_enhancing_tumour_encloses_necrosis_and_oedema_encloses_the_core(seed):
    patient = brain(seed)
    around_necrosis = labels(patient)[neighbours(labels(patient) == NECROSIS)]
    assert (around_necrosis == ENHANCING).mean() > 0.97
    around_core = labels(patient)[neighbours(np.isin(labels(patient), (NECROSIS, ENHANCING)))]
    assert (around_core == OEDEMA).mean() > 0.93  # elsewhere it touches the meninges
    parts, count = ndimage.label(labels(patient) > 0)
    assert np.bincount(parts.ravel())[1:].max() > 0.98 * (parts > 0).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_rim_is_bright_in_t1ce_and_invisible_without_contrast(seed):
    patient = brain(seed)
    rim, rest = labels(patient) == ENHANCING, np.isin(labels(patient), (NECROSIS, OEDEMA))
    t1ce, t1 = zscored(seed, "t1ce"), zscored(seed, "t1")
    # Real cases, 10th to 90th percentile: 0.95 to 1.00 in T1ce, 0.21 to 0.75 in T1.
    assert separability(t1ce[rim], t1ce[rest]) > 0.95
    assert t1ce[rim].mean() - t1ce[rest].mean() > 1.0
    assert 0.3 < separability(t1[rim], t1[rest]) < 0.7
    assert abs(t1[rim].mean() - t1[rest].mean()) < 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_oedema_is_bright_in_flair_and_t2_and_dark_in_t1(seed):
    patient = brain(seed)
    t1 = zscored(seed, "t1")
    oedema, tumour = labels(patient) == OEDEMA, labels(patient) > 0
    deep = ndimage.binary_erosion(patient.volumes["t1"].array != 0, iterations=6)
    # White matter is the brighter part of the deep brain in T1.
    white = deep & ~ndimage.binary_dilation(tumour, iterations=3) & (t1 > 0.6)
    # For 24 real cases, 10th to 90th percentile: FLAIR 0.94 to 0.99, T2 0.92 to 0.98, T1 0.65 to 0.99.
    for modality in ("flair", "t2"):
        values = zscored(seed, modality)
        assert separability(values[oedema], values[white]) > 0.9
    assert separability(t1[white], t1[oedema]) > 0.65


# 10th and 90th percentile over 24 BraTS 2021 cases at 2 mm of the case median, z-scored: the spread of real tumours.
MEDIANS_OF_REAL_TUMOURS = {
    ("t1", NECROSIS): (-0.53, 0.67),
    ("t1", OEDEMA): (-0.07, 0.70),
    ("t1", ENHANCING): (-0.24, 0.83),
    ("t1ce", NECROSIS): (-0.62, 0.57),
    ("t1ce", OEDEMA): (-0.29, 0.60),
    ("t1ce", ENHANCING): (1.11, 2.76),
    ("t2", NECROSIS): (0.45, 2.78),
    ("t2", OEDEMA): (0.23, 1.20),
    ("t2", ENHANCING): (0.19, 1.66),
    ("flair", NECROSIS): (0.49, 2.93),
    ("flair", OEDEMA): (1.07, 2.27),
    ("flair", ENHANCING): (0.76, 2.60),
}


@pytest.mark.parametrize("modality, label", MEDIANS_OF_REAL_TUMOURS)
def test_tumour_signals_match_those_of_real_tumours(modality, label):
    low, high = MEDIANS_OF_REAL_TUMOURS[modality, label]
    medians = [np.median(zscored(seed, modality)[labels(brain(seed)) == label]) for seed in SEEDS]
    assert low < np.mean(medians) < high


def test_brain_of_impossible_spacing_is_refused():
    with pytest.raises(ValueError, match="between 0.5 and 8"):
        brain_mr(0, 0.0)


# ------------------------------------------------------------------------------------------------------ chest


def test_chest_depends_only_on_the_seed():
    again = chest_ct(0, (4.0, 3.0, 3.0))
    for modality, volume in coarse_chest(0).volumes.items():
        np.testing.assert_array_equal(volume.array, again.volumes[modality].array)
    np.testing.assert_array_equal(labels(coarse_chest(0)), labels(again))
    assert dice(labels(coarse_chest(0)) > 0, labels(coarse_chest(1)) > 0) < 0.5


def test_chest_has_two_scans_and_a_mask_on_one_grid_centred_on_the_bifurcation():
    patient = chest_ct(0, (4.0, 3.0, 2.0), (10, 21, 32))
    assert list(patient.volumes) == ["nct", "ctpa"]
    assert all(volume.same_grid(patient.labels) for volume in patient.volumes.values())
    assert all(volume.array.dtype == np.int16 for volume in patient.volumes.values())
    assert patient.labels.array.dtype == np.uint8
    assert patient.labels.shape == (10, 21, 32)
    assert patient.labels.spacing_mm == (4.0, 3.0, 2.0)
    # The middle voxel, (i, j, k) = (15.5, 10, 4.5), is the world's origin.
    np.testing.assert_allclose(patient.labels.ijk_to_ras @ [15.5, 10, 4.5, 1], [0, 0, 0, 1], atol=1e-9)


def test_small_shape_is_a_crop_of_the_same_chest():
    whole, crop = coarse_chest(0), chest_ct(0, (4.0, 3.0, 3.0), (20, 30, 40))
    centre = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(whole.labels.shape, crop.labels.shape))
    assert crop.labels.array.any()
    np.testing.assert_array_equal(whole.labels.array[centre], crop.labels.array)
    difference = whole.volumes["ctpa"].array[centre].astype(float) - crop.volumes["ctpa"].array
    assert difference.std() < 1.1 * 20 * np.sqrt(2)  # only two draws of the noise


@pytest.mark.parametrize("seed", range(5))
def test_chest_has_several_emboli_of_some_millilitres(seed):
    patient = coarse_chest(seed)
    assert set(np.unique(labels(patient))) == {0, 1}
    assert 1 < labels(patient).sum() * patient.labels.voxel_volume_ml < 20
    assert ndimage.label(labels(patient))[1] >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_embolus_is_a_dark_defect_with_contrast_and_faint_without(seed):
    patient = hila(seed)
    nct, ctpa = (patient.volumes[id].array.astype(float) for id in ("nct", "ctpa"))
    clot = labels(patient) > 0
    inner = ndimage.binary_erosion(clot)
    near = ndimage.binary_dilation(clot, iterations=8) & ~ndimage.binary_dilation(clot)
    blood = ndimage.binary_erosion(near & (ndimage.median_filter(ctpa, 3) > 330))  # the same arteries, beside the clot
    assert inner.sum() > 300 and blood.sum() > 300
    assert ctpa[blood].mean() - ctpa[inner].mean() > 280
    assert separability(ctpa[blood], ctpa[inner]) > 0.999
    # 10 to 30 HU; in single voxels under a noise of 20 HU that is Phi(30 / (20 * sqrt 2)) = 0.86 at most.
    assert 7 < nct[inner].mean() - nct[blood].mean() < 33
    assert 0.55 < separability(nct[inner], nct[blood]) < 0.88
    assert 15 < nct[inner].std() < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_contrast_surrounds_the_emboli(seed):
    patient = hila(seed)
    clot = labels(patient) > 0
    # The brightest voxel within 3 mm of each voxel of a clot's surface is contrast; in the smallest arteries the thin
    # rim of contrast shares its voxels with the lung.
    brightest = ndimage.maximum_filter(ndimage.gaussian_filter(patient.volumes["ctpa"].array.astype(float), 0.5), 5)
    surface = clot & ~ndimage.binary_erosion(clot)
    assert (brightest[surface] > 220).mean() > 0.85


def test_scans_show_the_same_body_and_differ_in_the_blood():
    patient = coarse_chest(0)
    nct, ctpa = (ndimage.gaussian_filter(patient.volumes[id].array.astype(float), 1) for id in ("nct", "ctpa"))
    assert dice(nct < -500, ctpa < -500) > 0.99
    enhanced = ctpa - nct > 100
    assert 0.005 < enhanced.mean() < 0.1
    enhanced = ndimage.binary_erosion(enhanced)
    assert np.median(nct[enhanced]) == pytest.approx(40, abs=15)
    lung = (nct > -900) & (nct < -800)
    assert lung.sum() * patient.labels.voxel_volume_ml > 1500


def test_chest_of_impossible_grid_is_refused():
    with pytest.raises(ValueError, match="spacing_mm"):
        chest_ct(0, (0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="at least 2"):
        chest_ct(0, (2.0, 1.0, 1.0), (1, 10, 10))


# ---------------------------------------------------------------------------------------------------- building


def test_sample_needs_no_torch():
    code = (
        "import sys, DanteSegmenterLib.synthetic.sample as sample\n"
        "sample.chest_ct(0, (9, 9, 9)); assert 'torch' not in sys.modules"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_depth_in_a_sphere_and_a_tube_is_the_distance_to_the_surface():
    at = tuple(np.float32([[[value]]]) for value in (3.0, 0.0, 4.0))  # 5 mm from the origin
    assert ellipsoid_depth(at, (0, 0, 0), (10.0, 10.0, 10.0)).item() == pytest.approx(5.0, abs=1e-3)
    assert ellipsoid_depth(at, (0, 0, 0), (3.0, 3.0, 3.0)).item() == pytest.approx(-2.0, abs=1e-3)
    assert ellipsoid_depth(at, (3, 0, 4), (7.0, 6.0, 9.0)).item() == pytest.approx(6.0, abs=1e-3)  # at the centre
    # 3 mm above a tube along I whose radius grows from 4 to 8 mm over 8 mm: 6 mm half-way.
    assert tube_depth(at, [(0, 0, 0), (0, 0, 8)], [4.0, 8.0]).item() == pytest.approx(3.0)
    assert tube_depth(at, [(0, 0, 20), (0, 0, 4)], [1.0, 1.0]).item() == pytest.approx(-2.0)


def test_partial_volume_behind_a_plane_edge():
    np.testing.assert_allclose(share(np.float32([-2, -0.5, 0, 0.5, 2]), 2.0), [0, 0.25, 0.5, 0.75, 1])


def test_interpolation_preserves_constant_and_linear_fields():
    np.testing.assert_allclose(bspline_matrix(6, np.array([2.3])).sum(), 1, rtol=1e-6)
    coarse = Grid((0.0, 10.0, -4.0), (2.0, 3.0, 4.0), (8, 9, 10))
    fine = Grid((3.0, 14.0, 2.0), (0.7, 1.1, 0.9), (5, 6, 7))
    fields = [sum(w * c for w, c in zip((2.0, -1.0, 0.5), grid.coordinates())) for grid in (coarse, fine)]
    np.testing.assert_allclose(interpolate(fields[0], coarse, fine), fields[1], rtol=1e-4, atol=1e-4)


def test_volume_is_filled_from_the_lowest_values_up():
    field = np.arange(100.0).reshape(4, 5, 5)[::-1]
    assert (field < threshold_of_volume(field, volume_mm3=80.0, node_mm3=8.0)).sum() == 10
