import numpy as np
import pytest

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.volume import Volume, check_image, corners_ras


def test_spacing_is_in_k_j_i_order():
    volume = Volume(np.zeros((2, 3, 4)), np.diag([0.5, 0.7, 5.0, 1]))
    assert volume.shape == (2, 3, 4)
    assert volume.spacing_mm == (5.0, 0.7, 0.5)


def test_one_litre_is_a_thousand_cubes_of_ten_millimetres():
    volume = Volume(np.ones((10, 10, 10)), np.diag([-10, -10, 10, 1]))
    assert volume.voxel_volume_ml * 1000 == pytest.approx(1000)


def test_volume_of_a_sheared_voxel_is_its_determinant():
    matrix = np.eye(4)
    matrix[0, 1] = 1  # shear does not change the volume
    assert Volume(np.zeros((2, 2, 2)), matrix).voxel_volume_ml == pytest.approx(0.001)


def test_corners_are_voxel_centres_in_ras():
    corners = corners_ras(Volume(np.zeros((2, 3, 5)), np.diag([1, 10, 100, 1])))
    assert corners.max(axis=0).tolist() == [4, 20, 100]  # I has 5 voxels, J 3, K 2


def test_grid_shifted_by_a_tenth_of_a_millimetre_differs():
    moved = np.eye(4)
    moved[2, 3] = 0.1
    a, b = Volume(np.zeros((2, 2, 2)), np.eye(4)), Volume(np.zeros((2, 2, 2)), moved)
    assert a.same_grid(a) and not a.same_grid(b)


@pytest.mark.parametrize(
    ("array", "matrix", "reason"),
    [
        (np.zeros((2, 2, 2, 2)), np.eye(4), "4 dimensions"),
        (np.zeros((2, 2)), np.eye(4), "2 dimensions"),
        (np.zeros((2, 2, 2), complex), np.eye(4), "complex"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 0, 1]), "degenerate"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "IJK-to-RAS"),
        (np.zeros((2, 2, 2)), np.eye(3), "IJK-to-RAS"),
    ],
)
def test_non_scalar_volume_is_refused_by_name(array, matrix, reason):
    with pytest.raises(InputError, match=reason) as caught:
        Volume(array, matrix, "study 7")
    assert "study 7" in str(caught.value)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones((1, 4, 4)), "single slice"),
        (np.array([[[1.0, np.nan], [0, 0]], [[np.inf, 0], [0, 0]]]), "2 voxels that are NaN or infinite"),
        (np.zeros((2, 2, 2)), "every voxel is 0"),
    ],
)
def test_unusable_image_is_refused_by_name(array, reason):
    with pytest.raises(InputError, match=reason) as caught:
        check_image(Volume(array, np.eye(4), "study 7"))
    assert "study 7" in str(caught.value)
