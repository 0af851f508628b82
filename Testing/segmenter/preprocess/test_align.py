import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from DanteSegmenterLib.errors import Cancelled, InputError, ResourceError
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.preprocess import align as align_module
from DanteSegmenterLib.preprocess import prepare
from DanteSegmenterLib.preprocess.align import Motion, align, brain_mask, prepare_study
from DanteSegmenterLib.synthetic.sample import brain_mr
from DanteSegmenterLib.volume import Volume


@pytest.fixture(scope="module")
def patient():
    return brain_mr(seed=3, spacing_mm=4.0).volumes


def moved(volume, degrees, shift_mm):
    """The same voxels, rotated about the S axis through the volume's middle and shifted (RAS mm) in the header."""
    middle = volume.ijk_to_ras @ np.array([*(0.5 * (n - 1) for n in volume.shape[::-1]), 1.0])
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = -middle[:3], middle[:3] + shift_mm
    return Volume(volume.array, back @ turn @ there @ volume.ijk_to_ras, volume.name)


def test_known_motion_is_recovered(patient):
    fixed, still = patient["t1"], patient["flair"]
    found, motion = align(moved(still, 9.0, (6.0, -4.0, 3.0)), fixed)
    assert found.same_grid(fixed)
    assert motion.turn_degrees == pytest.approx(9.0, abs=1.5)
    assert motion.shift_mm == pytest.approx(np.sqrt(61), abs=2.0)
    brain = still.array > 0
    inside = np.corrcoef(found.array[brain], still.array[brain])[0, 1]
    # The remaining error is interpolation; before, it was large.
    assert inside > 0.9 and ((found.array > 0) == brain).mean() > 0.97


def test_alignment_matrix_maps_the_header_to_the_voxels(patient):
    still = patient["flair"]
    shifted = moved(still, 9.0, (6.0, -4.0, 3.0))
    _, motion = align(shifted, patient["t1"])
    middle = np.array([*(0.5 * (n - 1) for n in still.shape[::-1]), 1.0])
    for point in (middle, middle + [8, 0, 0, 0], middle + [0, -8, 0, 0], middle + [0, 0, 8, 0]):  # 32 mm from it
        np.testing.assert_allclose((motion.matrix @ shifted.ijk_to_ras @ point), still.ijk_to_ras @ point, atol=2.0)


def test_aligned_volume_is_left_unchanged(patient):
    _, motion = align(patient["t2"], patient["t1"])
    assert motion.shift_mm < 1.5 and motion.turn_degrees < 1.0


def test_alignment_can_be_cancelled(patient):
    with pytest.raises(Cancelled):
        align(moved(patient["t2"], 5.0, (3.0, 0.0, 0.0)), patient["t1"], lambda: True)


def test_resampling_to_thicker_slices_averages(patient):
    """One of every three slices is brighter by 300: by 100 on average, for any position of the thick slices."""
    array = patient["t1"].array[:36].astype(np.float32)
    array[::3] += 300
    fine = Volume(array, patient["t1"].ijk_to_ras, "fine")
    matrix = fine.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 2]
    matrix[:3, 2] *= 3
    thick = Volume(patient["t1"].array[:36].reshape(12, 3, 60, 60).mean(axis=1), matrix, "thick")
    found, motion = align(fine, thick)
    assert motion.shift_mm < 2.0
    assert (found.array - thick.array)[1:-1, 10:-10, 10:-10].mean() == pytest.approx(100, abs=5)


def test_disjoint_volumes_are_refused_by_name(patient):
    away = moved(replace_name(patient["t2"], "of another patient"), 0.0, (500.0, 0.0, 0.0))
    with pytest.raises(InputError, match="'of another patient' (could not be aligned|would have to be moved)"):
        align(away, patient["t1"])


@pytest.mark.parametrize(("shift_mm", "degrees"), [(41.0, 1.0), (1.0, 31.0)])
def test_excessive_motion_in_one_parameter_is_refused(patient, monkeypatch, shift_mm, degrees):
    monkeypatch.setattr(align_module, "ITERATIONS", 1)
    monkeypatch.setattr(align_module, "_motion", lambda *_: Motion(shift_mm, degrees, np.eye(4)))
    with pytest.raises(InputError, match=f"would have to be moved by {shift_mm:.0f} mm and {degrees:.0f} degrees"):
        align(patient["t2"], patient["t1"])


def test_thick_slices_along_one_axis_are_detected_with_a_note():
    thick = Volume(np.random.default_rng(0).uniform(1, 2, (6, 9, 9)).astype(np.float32), np.diag([1, 1, 5.0, 1]), "t1")
    notes = prepare_study({"t1": thick}, "t1", thick.with_array(np.ones(thick.shape, np.uint8))).notes
    assert notes == ("Slices are up to 5.0 mm thick: small parts are blurred, and the model learned on 1 mm volumes.",)


def replace_name(volume, name):
    return replace(volume, name=name)


def test_study_is_resampled_to_the_reference_and_masked(patient):
    fixed = patient["t1"]
    mask = fixed.with_array((fixed.array > 0).astype(np.uint8), "mask")
    mask.array[: mask.shape[0] // 2] = 0
    study = prepare_study({"t1": fixed, "t2": moved(patient["t2"], 4.0, (2.0, 2.0, 0.0))}, "t1", mask)
    assert set(study.volumes) == {"t1", "t2"} and set(study.motions) == {"t2"}
    for volume in study.volumes.values():
        assert volume.same_grid(fixed) and not volume.array[mask.array == 0].any()
    assert np.array_equal(study.volumes["t1"].array[mask.array > 0], fixed.array[mask.array > 0])
    assert f"'{patient['t2'].name}' was moved by" in study.notes[0] and "4.0 mm thick" in study.notes[-1]


def slab(volume, first, past_last):
    """Only these slices, at their positions."""
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 2] * first
    return Volume(volume.array[first:past_last], matrix, volume.name)


def brain_of_slices(volume, first, past_last):
    """A mask: a box of a third of the field of view, in these slices."""
    array = np.zeros(volume.shape, np.uint8)
    array[first:past_last, 20:40, 20:40] = 1
    return volume.with_array(array, "mask")


def test_partial_brain_coverage_gives_a_note(patient):
    # 12 of the mask's 20 slices, each 4 mm thick: the alignment moves them by less than half a slice.
    volumes = {"t1": patient["t1"], "flair": slab(patient["flair"], 4, 22)}
    notes = prepare_study(volumes, "t1", brain_of_slices(patient["t1"], 10, 30)).notes
    assert notes[0].startswith("'SyntheticBrain3_flair' was moved by")
    assert notes[0].endswith(" degrees; it covers 60% of the brain.")


def test_full_brain_coverage_gives_no_note(patient):
    # Less than the field of view, but the whole brain.
    volumes = {"t1": patient["t1"], "flair": slab(patient["flair"], 5, 35)}
    study = prepare_study(volumes, "t1", brain_of_slices(patient["t1"], 10, 30))
    assert study.notes[0].endswith(" degrees.") and not any("covers" in note for note in study.notes)


def test_sequence_barely_covering_the_brain_is_refused_as_without_prepare(patient):
    volumes = {"t1": patient["t1"], "flair": slab(patient["flair"], 4, 11)}  # 1 of 20 slices
    with pytest.raises(
        InputError,
        match="^'SyntheticBrain3_flair' and 'SyntheticBrain3_t1' do not lie at the same place: they share 5% of the "
        "brain in 'SyntheticBrain3_t1'. Choose volumes of one study, or register them first.$",
    ):
        prepare_study(volumes, "t1", brain_of_slices(patient["t1"], 10, 30))


def test_mask_elsewhere_is_refused(patient):
    fixed = patient["t1"]
    mask = moved(fixed.with_array(np.ones(fixed.shape, np.uint8), "mask"), 0.0, (900.0, 0.0, 0.0))
    with pytest.raises(InputError, match="brain mask 'mask' is empty where"):
        prepare_study({"t1": fixed}, "t1", mask)


def test_missing_deepbet_is_reported_with_the_install_command(patient, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepbet.bet", None)
    with pytest.raises(ResourceError, match=r'pip install "deepbet>=1.0".*or give a brain mask of your own'):
        brain_mask(patient["t1"])


def test_whole_head_always_gives_a_note(patient, brain_model_folder):
    from DanteSegmenterLib.model_folder import read_spec

    preprocessing = read_spec(brain_model_folder).preprocessing
    limited = {name: patient[name] for name in ("t1", "t2", "flair")}
    assert not prepare(limited, tuple(limited), preprocessing).notes
    head = limited["t2"].with_array(limited["t2"].array + 3.0, "with skull")
    notes = prepare({**limited, "t2": head}, tuple(limited), preprocessing).notes
    assert notes[0].startswith("WARNING: with skull shows more than a brain")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepbet") is None, reason="deepbet is not installed")
def test_raw_clinical_study_is_prepared(shared_data):
    folder = shared_data / "raw-mr" / "TCGA-FG-6692"
    names = {"t1": "t1", "t2": "t2", "flair": "fla"}
    volumes = {m: read_volume(folder / f"TCGA-FG-6692_{name}.nii.gz") for m, name in names.items()}
    study = prepare_study(volumes, "t1")
    brain_ml = study.brain.array.sum() * study.brain.voxel_volume_ml
    assert 1000 < brain_ml < 2000 and all(v.same_grid(volumes["t1"]) for v in study.volumes.values())
    # The patient moved between the sequences: visually, the images below fit, and the mutual information agrees.
    for modality in ("t2", "flair"):
        assert 10 < study.motions[modality].shift_mm < 25
