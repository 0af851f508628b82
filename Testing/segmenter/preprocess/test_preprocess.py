import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import Normalisation, Preprocessing
from DanteSegmenterLib.preprocess import prepare, reorient, resample
from DanteSegmenterLib.preprocess.geometry import axes_towards
from DanteSegmenterLib.volume import Volume

ZSCORE = {name: Normalisation("zscore_nonzero") for name in ("a", "b")}


def preprocessing(spacing=(1.0, 1.0, 1.0), orientation="LPS"):
    return Preprocessing(orientation, spacing, ZSCORE)


def rotation(degrees_x, degrees_y):
    x, y = np.radians([degrees_x, degrees_y])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    return about_x @ about_y


def matrix_of(direction, spacing_ijk, origin=(5.0, -7.0, 11.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = direction @ np.diag(spacing_ijk)
    matrix[:3, 3] = origin
    return matrix


PERMUTED = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float)  # sagittal, like many T1
GRIDS = {
    "plain": matrix_of(np.eye(3), (1, 1, 1)),
    "LPS": matrix_of(np.diag([-1, -1, 1]), (1, 1, 1)),
    "flipped": matrix_of(np.diag([1, -1, -1]), (1, 1, 1)),
    "permuted": matrix_of(PERMUTED, (1, 1, 1)),
    "oblique": matrix_of(rotation(17, -9), (1, 1, 1)),
    "permuted, oblique, anisotropic": matrix_of(rotation(12, 8) @ PERMUTED, (2, 1, 1)),
    "anisotropic": matrix_of(np.diag([-1, -1, 1]), (1, 1, 2)),
}


def cornered(matrix, shape=(12, 16, 20)):
    """Noise everywhere, so that nothing is cropped, and a bright block at the corner of the first voxel."""
    array = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    array[:2, :2, :2] = 50
    return Volume(array, matrix, "cornered")


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("name", GRIDS)
def test_labelled_corner_round_trips_from_any_grid(name, orientation):
    volume = cornered(GRIDS[name])
    prepared = prepare({"a": volume}, ["a"], preprocessing(orientation=orientation))
    found = prepared.geometry.restore((prepared.tensor > 3).astype(np.float32))[0] > 0.5
    assert np.array_equal(found, volume.array == 50)


@pytest.mark.parametrize("name", GRIDS)
def test_labelled_corner_keeps_its_world_position_on_the_network_grid(name):
    volume = cornered(GRIDS[name])
    prepared = prepare({"a": volume}, ["a"], preprocessing())
    bright_kji = np.argwhere(prepared.tensor[0] > prepared.tensor.max() / 2).mean(axis=0)
    world = prepared.geometry.ijk_to_ras @ [*bright_kji[::-1], 1]
    expected = volume.ijk_to_ras @ [0.5, 0.5, 0.5, 1]  # between voxels 0 and 1 along each axis
    assert world[:3] == pytest.approx(expected[:3], abs=1e-6)


@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=3)))
def test_network_axes_follow_the_orientation(flips):
    volume = cornered(matrix_of(PERMUTED @ np.diag(flips), (1, 1, 1)))
    matrix = prepare({"a": volume}, ["a"], preprocessing(orientation="LPS")).geometry.ijk_to_ras
    assert np.allclose(matrix[:3, :3], np.diag([-1, -1, 1]))


def test_network_axes_are_matched_to_voxel_axes_by_best_assignment():
    """For any rotation, voxel axes are assigned as by scipy, each to the nearest world axis."""
    for direction in Rotation.random(50, random_state=0).as_matrix():
        volume = Volume(np.ones((2, 3, 4), np.float32), matrix_of(direction, (1, 1, 1)))
        world, index = linear_sum_assignment(-np.abs(direction))
        expected = np.zeros((3, 3))
        expected[:, world] = direction[:, index] * np.sign(direction[world, index])  # RAS: in positive direction
        assert reorient(volume, "RAS").ijk_to_ras[:3, :3] == pytest.approx(expected)


def test_axis_directions_do_not_depend_on_voxel_size():
    for n, direction in enumerate(Rotation.random(50, random_state=0).as_matrix()):
        axes = axes_towards(matrix_of(direction, (1, 1, 1)), "LPS")
        assert axes_towards(matrix_of(direction, np.roll((0.4, 1, 6), n)), "LPS") == axes


def test_inverse_without_resampling_is_exact():
    volume = cornered(GRIDS["permuted"])
    geometry = prepare({"a": volume}, ["a"], preprocessing()).geometry
    anything = np.random.default_rng(1).random((2, *geometry.shape), np.float32)
    again = geometry.crop(geometry.orient(geometry.restore(anything)))
    assert np.array_equal(again, anything)


def test_foreground_box_is_cropped_and_restored():
    array = np.zeros((10, 12, 14), np.float32)
    array[3:7, 2:8, 5:6] = np.random.default_rng(0).uniform(1, 2, (4, 6, 1))
    prepared = prepare({"a": Volume(array, np.diag([-1, -1, 1, 1]))}, ["a"], preprocessing())
    assert prepared.tensor.shape == (1, 4, 6, 1)
    restored = prepared.geometry.restore(np.ones((1, 4, 6, 1), np.float32))[0]
    assert np.array_equal(restored == 1, array > 0)


def test_box_contains_the_foreground_of_every_volume():
    first, second = np.zeros((10, 8, 8), np.float32), np.zeros((10, 8, 8), np.float32)
    first[2:5, 3:5, 3:5], second[4:8, 1:3, 3:6] = np.arange(12).reshape(3, 2, 2) + 1, np.arange(24).reshape(4, 2, 3) + 1
    volumes = {name: Volume(array, np.eye(4)) for name, array in (("a", first), ("b", second))}
    for order in (["a", "b"], ["b", "a"]):
        assert prepare(volumes, order, preprocessing(orientation="RAS")).geometry.box == ((2, 8), (1, 5), (3, 6))


def test_axis_thinner_than_half_a_network_voxel_becomes_one_voxel():
    thin = Volume(np.random.default_rng(0).uniform(1, 2, (2, 6, 8)).astype(np.float32), np.diag([-1, -1, 0.25, 1]))
    assert prepare({"a": thin}, ["a"], preprocessing(spacing=(2, 2, 2))).tensor.shape == (1, 1, 3, 4)


def test_array_off_the_network_grid_is_not_restored():
    geometry = prepare({"a": cornered(np.eye(4))}, ["a"], preprocessing()).geometry
    with pytest.raises(ValueError, match="not on the network's grid"):
        geometry.restore(np.ones((1, 6, 8, 10), np.float32))


def test_downsampling_by_two_averages_eight_voxels():
    array = np.random.default_rng(0).uniform(1, 2, (4, 6, 8)).astype(np.float32)
    expected = array.reshape(2, 2, 3, 2, 4, 2).mean(axis=(1, 3, 5))
    assert resample(array, (2, 3, 4)) == pytest.approx(expected, rel=1e-5)


def test_upsampling_is_linear_between_centres():
    ramp = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    # Edges coincide: centres lie at -0.25, 0.25, 0.75 ... of the old voxels, and are clamped at the ends.
    assert resample(ramp, (8, 2, 2))[:, 0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


@pytest.mark.parametrize("shape", [(3, 5, 7), (11, 4, 16), (10, 10, 10), (23, 3, 1)])
def test_constant_stays_constant_at_any_size(shape):
    assert resample(np.full((2, 10, 8, 9), 7, np.float32), shape) == pytest.approx(7, rel=1e-6)


def test_labels_are_resampled_by_majority():
    array = np.random.default_rng(0).uniform(1, 2, (4, 4, 4)).astype(np.float32)
    volume = Volume(array, np.diag([-1, -1, 1, 1]))
    geometry = prepare({"a": volume}, ["a"], preprocessing(spacing=(2, 2, 2))).geometry
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2] = 4
    labels[0, 0, 0] = 1  # seven to one
    labels[2:, 2:, 2:] = 2
    labels[2:, 2:, 2] = 0  # four of eight: ties are background
    small = geometry.labels_to_network(volume.with_array(labels))
    assert small[0, 0, 0] == 4 and small[1, 1, 1] == 0 and np.count_nonzero(small) == 1


def test_mask_on_another_grid_is_refused():
    volume = cornered(np.eye(4))
    geometry = prepare({"a": volume}, ["a"], preprocessing()).geometry
    with pytest.raises(InputError, match="not on the grid"):
        geometry.labels_to_network(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4), "mask"))


def blob(matrix, shape, centre_ras, radius_mm):
    """Intensity that depends only on the world position."""
    k, j, i = np.indices(shape)
    ijk = np.stack([i, j, k, np.ones(shape)], axis=-1)
    distance = np.linalg.norm((ijk @ matrix.T)[..., :3] - centre_ras, axis=-1)
    return Volume((1 + 10 * np.exp(-((distance / radius_mm) ** 2))).astype(np.float32), matrix, "blob")


def test_volume_on_another_grid_is_resampled_by_its_header():
    centre = np.array([20.0, 22.0, 18.0])
    reference = blob(np.eye(4), (40, 40, 40), centre, 8)
    other = blob(matrix_of(rotation(10, 5), (1.5, 1.5, 3), (-5, -5, -5)), (20, 40, 40), centre, 8)
    prepared = prepare({"a": reference, "b": other}, ["a", "b"], preprocessing(orientation="RAS"))
    assert any("another grid" in note for note in prepared.notes)
    peaks = [np.array(np.unravel_index(channel.argmax(), channel.shape)) for channel in prepared.tensor]
    assert np.abs(peaks[0] - peaks[1]).max() <= 1  # the same place, to a voxel


def test_fine_volume_on_a_thick_reference_is_averaged():
    """Outside the brain it stays 0: the box of the brain is the reference's, and the statistics use only the brain."""
    rng = np.random.default_rng(0)
    thick, fine = np.zeros((8, 12, 12), np.float32), np.zeros((40, 12, 12), np.float32)
    thick[2:5, 3:9, 3:9] = rng.uniform(1, 2, (3, 6, 6))
    fine[10:25, 3:9, 3:9] = rng.uniform(1, 2, (15, 6, 6))
    volumes = {
        "a": Volume(thick, matrix_of(np.eye(3), (1, 1, 5), (0, 0, 2)), "thick"),
        "b": Volume(fine, np.eye(4), "fine"),
    }
    prepared = prepare(volumes, ["a", "b"], preprocessing((5, 1, 1), "RAS"))
    means = fine[10:25, 3:9, 3:9].reshape(3, 5, 6, 6).mean(axis=1)
    assert prepared.tensor.shape == (2, 3, 6, 6)
    assert prepared.tensor[1] == pytest.approx((means - means.mean()) / means.std(), abs=1e-4)


def parts(slices, spacing=(1, 1, 1), origin=(0, 0, 0)):
    """A volume of 24 slices, and one of only the first slices with any grid."""
    whole = np.random.default_rng(0).uniform(1, 2, (24, 24, 24)).astype(np.float32)
    return {"a": Volume(whole, np.eye(4), "whole"), "b": Volume(whole[:slices], matrix_of(np.eye(3), spacing, origin))}


@pytest.mark.parametrize(("slices", "ending"), [(18, "; it covers 75% of it."), (23, " by their headers.")])
def test_uncovered_volume_gives_a_note_from_one_twentieth(slices, ending):
    notes = prepare(parts(slices), ["a", "b"], preprocessing(orientation="RAS")).notes
    assert notes[0].endswith(ending)


def test_voxels_extend_to_their_edges():
    """A volume of the same field of view in voxels twice as long, whose outermost centres lie further in."""
    volumes = parts(12, (2, 2, 2), (0.5, 0.5, 0.5))
    volumes["b"] = Volume(volumes["b"].array[:, :12, :12], volumes["b"].ijk_to_ras)
    notes = prepare(volumes, ["a", "b"], preprocessing(orientation="RAS")).notes
    assert notes[0].endswith(" by their headers.")


def test_uncovered_ct_is_air():
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=50)
    volumes = {name: Volume(40 * v.array, v.ijk_to_ras) for name, v in parts(18).items()}
    prepared = prepare(volumes, ["a", "b"], Preprocessing("RAS", (1, 1, 1), {"a": window, "b": window}))
    assert (prepared.tensor[1, 18:] == -4).all() and (prepared.tensor[1, :18] >= 0).all()  # (-160 - 40) / 50


def test_non_reference_volume_is_checked_too():
    volumes = parts(24)
    volumes["b"] = Volume(np.where(volumes["b"].array > 1.9, np.nan, 1), np.eye(4), "of NaN")
    with pytest.raises(InputError, match="'of NaN' holds .* NaN or infinite"):
        prepare(volumes, ["a", "b"], preprocessing())


def test_volumes_at_different_places_are_refused_by_name():
    here, there = cornered(np.eye(4)), cornered(matrix_of(np.eye(3), (1, 1, 1), (500, 0, 0)))
    with pytest.raises(InputError, match="do not lie at the same place"):
        prepare({"a": here, "b": there}, ["a", "b"], preprocessing())


def test_missing_modality_is_named():
    with pytest.raises(InputError, match="missing: b"):
        prepare({"a": cornered(np.eye(4))}, ["a", "b"], preprocessing())


def test_mask_in_place_of_an_image_is_refused():
    array = np.zeros((8, 8, 8), np.float32)
    array[2:5, 2:5, 2:5] = 1
    with pytest.raises(InputError, match="no contrast"):
        prepare({"a": Volume(array, np.eye(4), "mask")}, ["a"], preprocessing())


def test_normalisation_of_a_modality_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    a = Volume(rng.uniform(1, 2, (8, 8, 8)).astype(np.float32), np.eye(4))
    b = Volume(rng.uniform(3, 9, (8, 8, 8)).astype(np.float32), np.eye(4))
    alone = prepare({"a": a}, ["a"], preprocessing()).tensor
    both = prepare({"a": a, "b": b}, ["a", "b"], preprocessing()).tensor
    assert np.array_equal(alone[0], both[0])


@pytest.mark.parametrize("name", GRIDS)
def test_reoriented_voxels_keep_their_world_position(name):
    volume = cornered(GRIDS[name])
    turned = reorient(volume, "LPS")
    bright = np.argwhere(turned.array == 50).mean(axis=0)
    assert turned.ijk_to_ras @ [*bright[::-1], 1] == pytest.approx(volume.ijk_to_ras @ [0.5, 0.5, 0.5, 1])
    assert np.sort(turned.spacing_mm) == pytest.approx(np.sort(volume.spacing_mm))
