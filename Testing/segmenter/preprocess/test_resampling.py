"""nnU-Net's splines against SciPy's own zoom, slice by slice where slices are thick, and by hand."""

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
    """As scikit-image's `resize(..., mode="edge", anti_aliasing=False)` does it, which nnU-Net calls."""
    ratios = [new / old for new, old in zip(shape, array.shape)]
    result = ndimage.zoom(array.astype(float), ratios, order=order, mode="nearest", grid_mode=True)
    return np.clip(result, array.min(), array.max())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("shape", [(9, 14, 20), (20, 9, 12), (13, 17, 15), (1, 40, 3)])
def test_all_axes_alike_is_one_spline_of_the_whole_clipped_to_what_there_was(order, shape):
    array = image((2, 13, 11, 16))
    found = resample_by_splines(array, shape, SplineSteps(order), *ISOTROPIC)
    assert found.dtype == np.float32
    for channel, expected in zip(found, array):
        assert np.allclose(channel, zoomed(expected, shape, order), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_resampled_each_by_itself_and_repeated_between(axis):
    array = np.moveaxis(image((4, 15, 18)), 0, axis)
    mm = np.insert([1.0, 1.0], axis, 3.5)
    shape = tuple(np.insert([10, 24], axis, 8))
    (found,) = resample_by_splines(array[None], shape, SplineSteps(), mm, mm)
    slices = [zoomed(part, (10, 24), 3) for part in np.moveaxis(array, axis, 0)]
    assert np.allclose(np.moveaxis(found, axis, 0), np.repeat(slices, 2, axis=0), atol=1e-5)


def test_slices_are_clipped_to_their_own_values():
    array = np.zeros((1, 2, 4, 4), np.float32)
    array[0, 1, :, 2:] = 100  # the other slice is flat
    found = resample_by_splines(array, (2, 9, 9), SplineSteps(), (5, 1, 1), (5, 0.5, 0.5))
    assert found[0, 0].max() == 0 and found[0, 1].min() >= 0 and found[0, 1].max() <= 100


@pytest.mark.parametrize(
    ("steps", "mm_in", "mm_out", "by_slices"),
    [
        (SplineSteps(), (3.1, 1, 1), (1, 1, 1), True),  # thick before
        (SplineSteps(), (1, 1, 1), (3.1, 1, 1), True),  # thick after
        (SplineSteps(), (3.1, 1, 1), (1, 3.1, 1), True),  # thick in another way after: as they were before
        (SplineSteps(), (3, 1, 1), (1, 1, 1), False),  # three times is not more than three times
        (SplineSteps(), (4, 4, 1), (1, 1, 1), False),  # two axes are thick
        (SplineSteps(by_slices=False), (9, 1, 1), (1, 1, 1), False),
        (SplineSteps(by_slices=True), (1.5, 1, 1), (1, 1, 1), True),
        (SplineSteps(thick=2), (2.5, 1, 1), (1, 1, 1), True),
    ],
)
def test_when_slices_are_taken_one_by_one(steps, mm_in, mm_out, by_slices):
    array = image((1, 4, 6, 6))
    found = resample_by_splines(array, (8, 6, 6), steps, mm_in, mm_out)
    assert np.array_equal(found, np.repeat(array, 2, axis=1)) is by_slices
    if not by_slices:
        assert np.allclose(found[0], zoomed(array[0], (8, 6, 6), 3), atol=1e-5)


def test_the_nearest_slice_of_two_that_are_equally_near_is_the_later_one():
    array = np.arange(4, dtype=np.float32)[None, :, None, None] * np.ones((1, 4, 2, 2), np.float32)
    found = resample_by_splines(array, (2, 2, 2), SplineSteps(), (4, 1, 1), (8, 1, 1))
    assert found[0, :, 0, 0].tolist() == [1, 3]  # centres at 0.5 and 2.5


def test_between_slices_a_line_may_be_asked_for():
    array = np.array([0.0, 4.0], np.float32)[None, :, None, None] * np.ones((1, 2, 2, 2), np.float32)
    found = resample_by_splines(array, (4, 2, 2), SplineSteps(order_between=1), (8, 1, 1), (4, 1, 1))
    assert found[0, :, 0, 0].tolist() == pytest.approx([0, 1, 3, 4])


def test_what_has_its_size_already_is_left_as_it_is():
    array = image((1, 4, 5, 6))
    assert resample_by_splines(array, (4, 5, 6), SplineSteps(), (9, 1, 1), (8, 1, 1)) is array
