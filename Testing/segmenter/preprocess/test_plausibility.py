"""Likely mistakes of users give a warning in the result, or a refusal before anything is computed."""

import numpy as np
import pytest

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.model_folder import Normalisation, Preprocessing
from DanteSegmenterLib.preprocess import plausibility, prepare
from DanteSegmenterLib.volume import Volume

GRID = np.diag([-2.0, -2.0, 2.0, 1.0])
MR = Normalisation("zscore_nonzero")
CT = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)


def head(seed=0, shape=(40, 48, 44)):
    """A ball of noisy tissue in air of 0."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    tissue = 300 + 40 * np.sin(5 * (1 + seed) * i + 3 * j) + rng.normal(0, 15, shape)
    return np.where(k**2 + j**2 + i**2 < 0.8, tissue, 0).astype(np.float32)


def chest(shape=(40, 48, 44)):
    """Lungs of -850 in a body of 40 in air of -1000 Hounsfield units."""
    rng = np.random.default_rng(0)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body, lungs = j**2 + i**2 < 0.7, (j**2 + (np.abs(i) - 0.4) ** 2 < 0.06)
    return np.where(lungs, -850, np.where(body, 40, -1000)) + rng.normal(0, 15, shape).astype(np.float32)


def notes_of(arrays, normalisation=MR, matrix=GRID):
    names = [f"n{n}" for n in range(len(arrays))]
    volumes = {name: Volume(array, matrix, name) for name, array in zip(names, arrays)}
    preprocessing = Preprocessing("LPS", (4.0, 4.0, 4.0), dict.fromkeys(names, normalisation))
    return prepare(volumes, names, preprocessing).notes


def warned(notes, of):
    return [note for note in notes if note.startswith("WARNING: ") and of in note]


def test_good_volumes_give_no_note():
    assert notes_of([head(0), head(1), head(2).astype(np.int16), head(3).astype(np.uint8)]) == ()
    assert notes_of([chest()], CT) == ()


def cropped_to_brain(array):
    k, j, i = (np.flatnonzero(array.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return array[k[0] : k[-1] + 1, j[0] : j[-1] + 1, i[0] : i[-1] + 1]


def test_tight_crop_and_slab_give_no_note():
    assert notes_of([cropped_to_brain(head())]) == ()
    assert notes_of([cropped_to_brain(head())[14:24]]) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: (a - a.mean()) / a.std(),
        lambda a: np.where(a != 0, a, -1),
        lambda a: a + np.random.default_rng(9).normal(0, 1e-6, a.shape),
        lambda a: a + 100,
        lambda a: np.pad(np.where(a != 0, a, -1), 4),
        lambda a: a[15:25, 15:33, 15:29],
    ],
    ids=["z-score of all", "-1 outside", "noise outside", "100 outside", "-1 outside in a frame of 0", "inside alone"],
)
def test_nonzero_background_gives_a_note(change):
    assert warned(notes_of([change(head()).astype(np.float32)]), "'n0' is not 0 outside the brain")


@pytest.mark.parametrize("values", [(0, 1, 2, 4), (0, 0.25, 0.5, 1), (0, 1, 2)])
def test_mask_in_place_of_an_image_gives_a_note(values):
    a = head()
    mask = np.digitize(a, [1, 300, 320][: len(values) - 1])
    assert warned(notes_of([head(1), np.array(values, np.float32)[mask]]), "'n1' has only")


@pytest.mark.parametrize(
    "copy",
    [
        lambda a: a.copy(),
        lambda a: a.astype(np.int16),
        lambda a: a * 3.7,
        lambda a: (a / a.max() * 255).astype(np.uint8),
        lambda a: np.rint(a / a.max() * 63),
    ],
    ids=["copy", "int16", "scaled", "8 bits", "6 bits"],
)
def test_image_under_two_names_gives_a_note(copy):
    notes = notes_of([head(1), head(), copy(head())])
    assert warned(notes, "'n1' and 'n2' show the same image") and not warned(notes, "'n0'")


@pytest.mark.parametrize("count", [1, 30])
def test_few_voxels_of_extreme_values_give_a_note(count):
    array = head()
    array.flat[np.flatnonzero(array)[:: 30 * 500][:count]] = 1e9
    assert warned(notes_of([head(1), array]), "'n1' has hardly any contrast")


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a + 1024,
        lambda a: np.where(a < -900, -2000, a + 1024),
        lambda a: (a + 1000) / 2000 * 255,
        lambda a: (a + 1000) / 2000,
        lambda a: a / 1000,
        lambda a: a - 1024,
        lambda a: np.abs(a),
        lambda a: (a > -300).astype(np.uint8),
        lambda a: head(),
    ],
    ids=["+1024", "+1024 and padding", "0..255", "0..1", "-1..1", "-1024", "no sign", "mask", "MR"],
)
def test_ct_not_in_hounsfield_units_gives_a_note(change):
    window = Normalisation("ct_window", low=-3000, high=240, mean=40, std=60)
    assert warned(notes_of([change(chest())], window), "Hounsfield")


@pytest.mark.parametrize("padding", [-2000, -3024, -1024])
def test_padding_below_air_gives_no_note(padding):
    array = chest()
    array[:, :4], array[:, -4:] = padding, padding
    assert notes_of([array], CT) == ()


@pytest.mark.parametrize("mm", [2000.0, 150.0, 50.0, 0.002, 0.001])
@pytest.mark.parametrize(("array", "normalisation"), [(head(), MR), (chest(), CT)], ids=["MR", "CT"])
def test_voxel_size_in_another_unit_is_refused_with_the_resulting_size(mm, array, normalisation):
    with pytest.raises(InputError, match=rf"{mm * 40:g} x .* mm large .* another unit"):
        notes_of([array], normalisation, np.diag([mm, mm, mm, 1]))


def test_single_impossible_axis_is_refused():
    with pytest.raises(InputError, match="another unit"):
        notes_of([head()], matrix=np.diag([1, 1, 50.0, 1]))
    with pytest.raises(InputError, match="another unit"):
        notes_of([head()], matrix=np.diag([1, 1, 0.001, 1]))


def test_voxel_size_in_centimetres_gives_a_note():
    array = head(shape=(120, 120, 120))
    assert warned(notes_of([array], matrix=np.diag([0.2, 0.2, 0.2, 1])), "voxel size in the header right")


def test_field_of_view_with_too_many_voxels_is_refused_before_allocating(monkeypatch):
    monkeypatch.setattr(plausibility, "MAX_NETWORK_VOXELS", 1000)
    monkeypatch.setattr("DanteSegmenterLib.preprocess.preparing.resample", None)
    with pytest.raises(InputError, match=r"large \(slices, rows, columns\), for this model"):
        notes_of([head()])


def test_volume_beyond_free_memory_is_refused_before_allocating(monkeypatch):
    monkeypatch.setattr(plausibility, "available_bytes", lambda: 1000)
    monkeypatch.setattr("DanteSegmenterLib.preprocess.preparing.resample", None)
    with pytest.raises(ResourceError, match="MB are free"):
        notes_of([head()])


@pytest.mark.parametrize(("free", "enough"), [(6000, True), (5999, False)])
def test_memory_estimate_is_twice_the_input_plus_one_output_and_its_weights(monkeypatch, free, enough):
    monkeypatch.setattr(plausibility, "available_bytes", lambda: free)
    check = lambda: plausibility.check_network_grid((5, 5, 10), (1, 1, 1), channels=2)  # noqa: E731
    if enough:  # 250 voxels of 4 bytes, 2 x 2 + 1 + 1 times
        check()
    else:
        pytest.raises(ResourceError, check)


@pytest.mark.parametrize(
    "value", [1e300, -np.finfo(np.float64).max, 1e39, np.finfo(np.float32).max, 1e19, 2**63 - 1, -(2**63)]
)
def test_non_finite_and_overflowing_values_are_counted_and_refused(value):
    array = head().astype(type(np.asarray(value)[()]))
    array[20, 24, 22:24] = value
    with pytest.raises(InputError, match="'n0' holds 2 voxels beyond 1e"):
        notes_of([array])


def test_sheared_grid_of_a_node_gives_a_note():
    sheared = GRID.copy()
    sheared[1, 2] = 0.4
    assert warned(notes_of([head()], matrix=sheared), "sheared by 11.3 degrees")
    sheared[1, 2] = 0.001
    assert notes_of([head()], matrix=sheared) == ()


def test_reader_notes_appear_in_the_result():
    volume = Volume(head(), GRID, "x", ("WARNING: 'x': odd.",))
    preprocessing = Preprocessing("LPS", (4.0, 4.0, 4.0), {"a": MR})
    assert prepare({"a": volume}, ["a"], preprocessing).notes == ("WARNING: 'x': odd.",)
