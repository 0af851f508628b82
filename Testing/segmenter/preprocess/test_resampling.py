"""nnU-Net's splines against SciPy's zoom, slice by slice for thick slices, and by hand."""

import numpy as np
import pytest
from scipy import ndimage

from DanteSegmenterLib.model_folder.spec import SplineSteps
from DanteSegmenterLib.preprocess.resampling import resample_by_splines

ISOTROPIC = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def image(shape, seed=0):
    """Noise with a flat part, at whose edge splines overshoot."""
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    array[..., shape[-1] // 3 : shape[-1] // 2] = 3
    return array


def zoomed(array, shape, order):
    """As in scikit-image's `resize(..., mode="edge", anti_aliasing=False)`, which nnU-Net calls."""
    ratios = [new / old for new, old in zip(shape, array.shape)]
    result = ndimage.zoom(array.astype(float), ratios, order=order, mode="nearest", grid_mode=True)
    return np.clip(result, array.min(), array.max())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("shape", [(9, 14, 20), (20, 9, 12), (13, 17, 15), (1, 40, 3)])
def test_isotropic_axes_use_one_clipped_spline(order, shape):
    array = image((2, 13, 11, 16))
    found = resample_by_splines(array, shape, SplineSteps(order), *ISOTROPIC)
    assert found.dtype == np.float32
    for channel, expected in zip(found, array):
        assert np.allclose(channel, zoomed(expected, shape, order), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_resampled_individually_and_repeated_between(axis):
    array = np.moveaxis(image((4, 15, 18)), 0, axis)
    mm = np.insert([1.0, 1.0], axis, 3.5)
    shape = tuple(np.insert([10, 24], axis, 8))
    (found,) = resample_by_splines(array[None], shape, SplineSteps(), mm, mm)
    slices = [zoomed(part, (10, 24), 3) for part in np.moveaxis(array, axis, 0)]
    assert np.allclose(np.moveaxis(found, axis, 0), np.repeat(slices, 2, axis=0), atol=1e-5)


def test_slices_are_clipped_to_their_own_range():
    array = np.zeros((1, 2, 4, 4), np.float32)
    array[0, 1, :, 2:] = 100  # the other slice is flat
    found = resample_by_splines(array, (2, 9, 9), SplineSteps(), (5, 1, 1), (5, 0.5, 0.5))
    assert found[0, 0].max() == 0 and found[0, 1].min() >= 0 and found[0, 1].max() <= 100


@pytest.mark.parametrize(
    ("steps", "mm_in", "mm_out", "by_slices"),
    [
        (SplineSteps(), (3.1, 1, 1), (1, 1, 1), True),  # thick before
        (SplineSteps(), (1, 1, 1), (3.1, 1, 1), True),  # thick after
        (SplineSteps(), (3.1, 1, 1), (1, 3.1, 1), True),  # differently thick after: the slices before count
        (SplineSteps(), (3, 1, 1), (1, 1, 1), False),  # three times is not more than three times
        (SplineSteps(), (4, 4, 1), (1, 1, 1), False),  # two axes are thick
        (SplineSteps(by_slices=False), (9, 1, 1), (1, 1, 1), False),
        (SplineSteps(by_slices=True), (1.5, 1, 1), (1, 1, 1), True),
        (SplineSteps(thick=2), (2.5, 1, 1), (1, 1, 1), True),
    ],
)
def test_criterion_for_slicewise_resampling(steps, mm_in, mm_out, by_slices):
    array = image((1, 4, 6, 6))
    found = resample_by_splines(array, (8, 6, 6), steps, mm_in, mm_out)
    assert np.array_equal(found, np.repeat(array, 2, axis=1)) is by_slices
    if not by_slices:
        assert np.allclose(found[0], zoomed(array[0], (8, 6, 6), 3), atol=1e-5)


def test_nearest_slice_breaks_ties_towards_the_later():
    array = np.arange(4, dtype=np.float32)[None, :, None, None] * np.ones((1, 4, 2, 2), np.float32)
    found = resample_by_splines(array, (2, 2, 2), SplineSteps(), (4, 1, 1), (8, 1, 1))
    assert found[0, :, 0, 0].tolist() == [1, 3]  # centres at 0.5 and 2.5


def test_linear_interpolation_between_slices_is_optional():
    array = np.array([0.0, 4.0], np.float32)[None, :, None, None] * np.ones((1, 2, 2, 2), np.float32)
    found = resample_by_splines(array, (4, 2, 2), SplineSteps(order_between=1), (8, 1, 1), (4, 1, 1))
    assert found[0, :, 0, 0].tolist() == pytest.approx([0, 1, 3, 4])


def test_array_of_matching_size_is_unchanged():
    array = image((1, 4, 5, 6))
    assert resample_by_splines(array, (4, 5, 6), SplineSteps(), (9, 1, 1), (8, 1, 1)) is array
