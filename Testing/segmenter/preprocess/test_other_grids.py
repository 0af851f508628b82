"""Volumes on other grids than the reference's: averages where it is coarser, against separate formulas."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from DanteSegmenterLib.preprocess.other_grids import onto_grid

MM = (1.0, 1.0, 1.0)


def to_fine(steps=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0), turn=None):
    """4x4 from a grid's k, j, i to a finer array's: voxel 0 lies at `shift`, with these steps in voxels."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(steps)
    matrix[:3, 3] = shift
    return matrix


def test_aligned_coarser_grid_averages_blocks():
    array = np.random.default_rng(0).normal(size=(10, 6, 9)).astype(np.float32)
    expected = array.reshape(2, 5, 6, 3, 3).mean(axis=(1, 4))
    found = onto_grid(array, MM, to_fine((5, 1, 3), (2, 0, 1)), (2, 6, 3), 7.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    # Reversed, and with permuted axes.
    matrix = to_fine((5, 1, 3), (2, 0, 1))[:, [2, 0, 1, 3]] @ np.array(
        [[-1, 0, 0, 2], [0, 1, 0, 0], [0, 0, -1, 5], [0, 0, 0, 1]], float
    )
    np.testing.assert_allclose(
        onto_grid(array, MM, matrix, (3, 2, 6), 7.0), expected.transpose(2, 0, 1)[::-1, :, ::-1], atol=1e-6
    )


def test_coarser_voxel_ignores_values_beyond_it():
    array = np.zeros((40, 4, 4), np.int16)
    array[10:25] = 100  # exactly voxels 2, 3 and 4 of the coarser grid
    found = onto_grid(array, MM, to_fine((5, 1, 1), (2, 0, 0)), (8, 4, 4), 0.0)
    assert found[:, 0, 0] == pytest.approx([0, 0, 100, 100, 100, 0, 0, 0])
    assert np.count_nonzero(found[:, 0, 0]) == 3  # 0 marks the background: any trace of brain counts as brain


@pytest.mark.parametrize("steps", [(5.0, 1.0, 1.0), (2.5, 3.0, 1.2), (0.5, 4.0, 0.9)])
def test_ramp_is_preserved_on_a_rotated_coarser_grid(steps):
    ramp = lambda k, j, i: 3 * k - 2 * j + 0.5 * i + 10  # noqa: E731
    array = ramp(*np.indices((60, 60, 60))).astype(np.float32)
    matrix = to_fine(steps, (20, 18, 22), Rotation.from_euler("xyz", [17, -9, 5], degrees=True).as_matrix())
    k, j, i = np.tensordot(matrix[:3], np.stack([*np.indices((4, 4, 4)), np.ones((4, 4, 4))]), 1)
    np.testing.assert_allclose(onto_grid(array, MM, matrix, (4, 4, 4), 0.0), ramp(k, j, i), rtol=1e-5)


@pytest.mark.parametrize("shift", [2.0, 2.3, 1.75])
def test_cube_keeps_its_sum_for_any_grid_offset(shift):
    array = np.zeros((60, 60, 60), np.float32)
    array[21:38, 20:41, 26:33] = 8.0
    found = onto_grid(array, MM, to_fine((5, 4, 3), (shift, 1.5, 1.2)), (12, 15, 20), 0.0)
    assert found.sum() * 5 * 4 * 3 == pytest.approx(17 * 21 * 7 * 8.0, rel=1e-6)


def test_grid_that_is_not_coarser_is_not_averaged():
    array = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    turn = Rotation.from_euler("xyz", [10, 4, -7], degrees=True).as_matrix()
    # Another hundredth of a voxel is rounding in a header.
    for matrix in (to_fine((1, 1, 1), (2, 3, 4), turn), to_fine((0.4, 0.9, 1)), to_fine((1.00001, 1, 1), (0.5, 0, 0))):
        expected = ndimage.affine_transform(array, matrix, output_shape=(15, 16, 17), order=1, cval=-3.0)
        assert np.array_equal(onto_grid(array, MM, matrix, (15, 16, 17), -3.0), expected)


def test_rotated_slices_of_equal_thickness_are_not_averaged():
    """A step across the slices moves 1.5 voxels along the rows, and less than one across."""
    array = np.random.default_rng(0).normal(size=(12, 40, 40)).astype(np.float32)
    mm, turn = np.array([5.5, 0.9, 0.9]), Rotation.from_euler("z", 14, degrees=True).as_matrix()
    matrix = to_fine(shift=(2, 8, 3), turn=turn * mm / mm[:, None])
    expected = ndimage.affine_transform(array, matrix, output_shape=(8, 20, 30), order=1)
    assert np.abs(matrix[1, 0]) > 1.4
    assert np.array_equal(onto_grid(array, mm, matrix, (8, 20, 30), 0.0), expected)


def test_coarser_voxel_centred_outside_is_background():
    array = np.full((10, 4, 4), 50, np.float32)
    # Centres at -1, 4, 9 and 14 of ten slices: those inside are averages of the available slices, the edge is extended.
    found = onto_grid(array, MM, to_fine((5, 1, 1), (-1, 0, 0)), (4, 4, 4), -20.0)
    assert found[:, 1, 1] == pytest.approx([-20, 50, 50, -20])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_tiny_rotation_gives_a_tiny_change(order):
    """Axis-aligned grids are computed axis by axis, rotated ones sample by sample: both must agree."""
    array = np.random.default_rng(0).uniform(size=(40, 30, 24)).astype(np.float32)[10:, 3:].transpose(order)
    straight = to_fine((4.3, 1.7, 0.8), (-3.1, 0.6, 1.3))[[*order, 3]]
    turned = straight @ to_fine(turn=Rotation.from_euler("xyz", [0.02, 0.02, -0.02], degrees=True).as_matrix())
    one, other = (onto_grid(array, MM, matrix, (9, 16, 26), -1.0) for matrix in (straight, turned))
    assert np.abs(one - other).max() < 0.05 and 0 < (one == -1).sum() < one.size / 2
