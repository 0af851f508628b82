"""nnU-Net's preprocessing, by numbers that can be computed by hand."""

import numpy as np
import pytest

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import Normalisation, Preprocessing
from DanteSegmenterLib.model_folder.spec import AS_STORED, NnunetSteps, SplineSteps
from DanteSegmenterLib.preprocess import prepare
from DanteSegmenterLib.volume import Volume

CT = Normalisation("ct_window", low=-100, high=300, mean=50, std=80)


def settings(kinds, spacing=(1.0, 1.0, 1.0), orientation=AS_STORED, **steps):
    normalisation = {name: kind if isinstance(kind, Normalisation) else Normalisation(kind) for name, kind in kinds}
    return Preprocessing(orientation, spacing, normalisation, NnunetSteps(**steps))


def volume(array, name="a", spacing_ijk=(1, 1, 1)):
    return Volume(np.asarray(array, np.float32), np.diag([*spacing_ijk, 1.0]), name)


def scattered(shape=(8, 9, 10), low=1.0, high=900.0, seed=0):
    array = np.zeros(shape, np.float32)
    array[1:-1, 2:-2, 3:-1] = np.random.default_rng(seed).uniform(low, high, (shape[0] - 2, shape[1] - 4, shape[2] - 4))
    return array


def test_crop_is_the_nonzero_region_of_any_channel():
    first, second = np.zeros((6, 7, 8)), np.zeros((6, 7, 8))
    first[1, 2, 3], second[4, 5, 6], second[2, 3, 4] = 5, -3, 7
    prepared = prepare({"a": volume(first), "b": volume(second)}, ["a", "b"], settings([("a", "none"), ("b", "none")]))
    assert prepared.geometry.box == ((1, 5), (2, 6), (3, 7))
    assert np.array_equal(prepared.tensor, np.stack((first, second))[:, 1:5, 2:6, 3:7])


def test_masked_z_score_fills_holes_and_ignores_the_outside():
    array = scattered()
    array[3:5, 4, 5] = 0  # a hole, which counts
    array[1, 2, 3] = 0  # a corner of the crop, which does not
    (found,) = prepare({"a": volume(array)}, ["a"], settings([("a", "zscore_nonzero")])).tensor
    cropped = array[1:-1, 2:-2, 3:-1].astype(np.float64)
    counts = np.ones(cropped.shape, bool)
    counts[0, 0, 0] = False
    expected = (cropped - cropped[counts].mean()) / cropped[counts].std()
    assert np.allclose(found[counts], expected[counts], atol=1e-5) and found[0, 0, 0] == 0


def test_unmasked_z_score_uses_every_voxel_of_the_crop():
    array = scattered()
    array[1, 2, 3] = 0
    (found,) = prepare({"a": volume(array)}, ["a"], settings([("a", "zscore")])).tensor
    cropped = array[1:-1, 2:-2, 3:-1].astype(np.float64)
    assert np.allclose(found, (cropped - cropped.mean()) / cropped.std(), atol=1e-5)


def test_other_normalisations():
    array = scattered(high=255)
    cropped = array[1:-1, 2:-2, 3:-1].astype(np.float64)
    for kind, expected in (
        (CT, (np.clip(cropped, -100, 300) - 50) / 80),
        ("none", cropped),
        ("rgb_01", cropped / 255),
        ("rescale_01", (cropped - cropped.min()) / (cropped.max() - cropped.min())),
    ):
        (found,) = prepare({"a": volume(array)}, ["a"], settings([("a", kind)])).tensor
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-6), kind


def test_values_are_normalised_before_resampling():
    """Averaged voxels would have another standard deviation."""
    array = np.random.default_rng(3).normal(100, 10, (16, 16, 16)).astype(np.float32)
    fine = prepare({"a": volume(array)}, ["a"], settings([("a", "zscore")])).tensor
    coarse = prepare({"a": volume(array)}, ["a"], settings([("a", "zscore")], (2.0, 2.0, 2.0))).tensor
    assert fine.std() == pytest.approx(1, abs=1e-4) and coarse.shape == (1, 8, 8, 8) and coarse.std() < 0.8


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_axes_are_permuted_and_restored(axes):
    array = scattered((8, 9, 10))
    given = settings([("a", "none")], (3.0, 2.0, 1.0), axes=axes)
    spacing = np.empty(3)
    spacing[list(axes)] = (3.0, 2.0, 1.0)
    prepared = prepare({"a": volume(array, spacing_ijk=spacing[::-1])}, ["a"], given)
    assert np.array_equal(prepared.tensor[0], array[1:-1, 2:-2, 3:-1].transpose(axes))
    assert np.array_equal(prepared.geometry.restore(prepared.tensor)[0], array)


def test_stored_orientation_keeps_axes_and_others_reorient():
    array = scattered()
    turned = Volume(array[::-1], np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 7], [0, 0, 0, 1.0]]), "turned")
    stored = prepare({"a": turned}, ["a"], settings([("a", "none")])).tensor
    ras = prepare({"a": turned}, ["a"], settings([("a", "none")], orientation="RAS")).tensor
    assert np.array_equal(stored[0][::-1], ras[0]) and np.array_equal(ras[0], array[1:-1, 2:-2, 3:-1])


def test_logits_are_thresholded_after_resampling():
    array = np.ones((4, 4, 8))
    array[0, 0, 0] = 2
    prepared = prepare({"a": volume(array)}, ["a"], settings([("a", "none")], (1.0, 1.0, 2.0)))
    logits = np.zeros((1, 4, 4, 4), np.float32)
    logits[..., 2:] = 100
    back = prepared.geometry.restore(logits, lambda resized: 1 / (1 + np.exp(50 - resized)))
    # Linear between -50 and 50 around the threshold: at 3/4 and 5/4 of a voxel's width the logits are 25 and 75.
    assert np.allclose(back[0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)


def test_inverse_resampling_uses_its_own_splines():
    """Thick along K in the network, along I in the image: the network's slices are the ones repeated."""
    splines = {"to_network": SplineSteps(1, 1, by_slices=False), "to_image": SplineSteps(1, 0, by_slices=True)}
    given = settings([("a", "none")], (4.0, 1.0, 3.0), **splines)
    prepared = prepare({"a": volume(np.ones((4, 4, 4)) + np.eye(4), spacing_ijk=(3, 1, 2))}, ["a"], given)
    logits = np.zeros((1, 2, 4, 4), np.float32)
    logits[:, 1] = 100
    assert (prepared.geometry.restore(logits)[0].mean(axis=(1, 2)) == [0, 0, 100, 100]).all()


@pytest.mark.parametrize(
    ("array", "kind", "reason"),
    [
        (np.pad(np.full((4, 4, 4), 7.0), 1), "zscore", "has no contrast"),
        (np.pad(np.full((4, 4, 4), 7.0), 1), "zscore_nonzero", "has no contrast"),
        (scattered(high=900), "rgb_01", "colours of 0 to 255"),
        (-scattered(high=200), "rgb_01", "colours of 0 to 255"),
    ],
)
def test_failed_normalisation_is_reported_in_a_sentence(array, kind, reason):
    with pytest.raises(InputError, match=reason):
        prepare({"a": volume(array)}, ["a"], settings([("a", kind)]))


def test_every_window_is_computed_with_zero_padding():
    prepared = prepare({"a": volume(scattered())}, ["a"], settings([("a", CT)]))
    assert prepared.background.like_nnunet and prepared.background.values == (0.0,)
    assert prepared.background.outside == (False,)


def test_bright_air_in_mr_gives_no_warning_without_a_mask():
    array = np.random.default_rng(0).uniform(10, 500, (20, 20, 20))
    assert prepare({"a": volume(array)}, ["a"], settings([("a", "zscore")])).notes == ()
    (note,) = prepare({"a": volume(array)}, ["a"], settings([("a", "zscore_nonzero")])).notes
    assert "not 0 outside the brain" in note
