from dataclasses import replace

import numpy as np
import pytest
import torch
from models import LPS_2MM, brain_spec, study, write_brain_model
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile

from DanteSegmenterLib.errors import Cancelled, InputError, ModelError, ResourceError
from DanteSegmenterLib.inference import load_model, probabilities_of, segment, segmenting
from DanteSegmenterLib.inference.devices import resolve_device
from DanteSegmenterLib.inference.sliding_window import Plan, Prediction
from DanteSegmenterLib.model_folder import Calibration, Normalisation, Scaling, read_spec, sha256_of, write_spec
from DanteSegmenterLib.volume import Volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"), with_full=True)


def test_volume_ranges_hold_the_volumes(folder):
    result = segment(load_model(folder, "cpu"), study())
    for found in result.report.findings:
        assert found.low_ml <= found.volume_ml <= found.high_ml


def test_a_model_that_was_too_sure_on_test_cases_says_so(tmp_path):
    folder = write_brain_model(tmp_path / "model")
    spec = read_spec(folder)
    measured = {"WT": Calibration(17, 0.9, 0.85, 0.5), "ET": Calibration(17, 0.8, 0.41, 0.2)}
    write_spec(folder, replace(spec, limited=replace(spec.limited, calibration=measured)))
    notes = segment(load_model(folder, "cpu"), study()).notes
    # WT is only 5 points too sure, ET 39.
    assert notes[-1].endswith("on 17 test cases this model was too sure (enhancing tumour 80% sure and 41% right).")


def test_the_result_lies_on_the_references_grid_with_nested_masks_and_their_volumes(folder):
    result = segment(load_model(folder, "cpu"), study(), probabilities=True)
    assert result.probabilities.shape == (3, 20, 24, 28) and result.label_map.shape == (20, 24, 28)
    assert np.array_equal(result.reference.ijk_to_ras, LPS_2MM) and result.modality == "t1"
    assert not (result.masks["ET"] & ~result.masks["TC"]).any() and not (result.masks["TC"] & ~result.masks["WT"]).any()
    assert result.masks["WT"].any()
    assert result.volumes_ml["WT"] == pytest.approx(result.masks["WT"].sum() * 0.008)
    assert set(result.report.seconds) == {"load", "prepare", "network", "restore"}


def test_outside_the_foreground_nothing_is_segmented(folder):
    volumes = study()
    for volume in volumes.values():
        volume.array[8:12, 10:14, 10:14] = 0  # a hole in all of them
    result = segment(load_model(folder, "cpu"), volumes, probabilities=True)
    outside = np.ones(result.label_map.shape, bool)
    outside[2:-2, 3:-3, 4:-4] = False
    outside[8:12, 10:14, 10:14] = True
    assert not result.probabilities[:, outside].any()


def test_the_same_voxels_in_another_storage_order_give_the_same_segmentation(folder):
    """The network sees the same image, so the answer must be the same at each place in the world."""
    model = load_model(folder, "cpu")
    plain = segment(model, study())
    swapped_matrix = LPS_2MM @ np.array(
        [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    )  # I and K change places
    swapped = {n: Volume(v.array.transpose(2, 1, 0), swapped_matrix, n) for n, v in study().items()}
    again = segment(model, swapped)
    assert np.array_equal(again.label_map.transpose(2, 1, 0), plain.label_map)


def test_the_full_network_is_used_when_the_privileged_volume_is_given_and_that_is_said(folder):
    model = load_model(folder, "cpu")
    limited = segment(model, study(), probabilities=True)
    full = segment(model, study(names=("t1", "t1ce", "t2", "flair")), probabilities=True)
    assert any("full-modality network" in note for note in full.notes) and not limited.notes
    assert not np.array_equal(limited.probabilities, full.probabilities)


def test_without_a_full_network_the_privileged_volume_changes_nothing_and_that_is_said(tmp_path):
    model = load_model(write_brain_model(tmp_path), "cpu")
    result = segment(model, study(names=("t1", "t2", "flair", "t1ce")), probabilities=True)
    assert result.notes == ("T1CE is not used by this model.",)
    assert np.array_equal(result.probabilities, segment(model, study(), probabilities=True).probabilities)


def test_a_volume_in_the_place_of_the_scan_that_its_name_says_is_warned_of_and_no_other(folder):
    given = study()
    given["t1"], given["t2"] = replace(given["t2"], name="A-t2w"), replace(given["t1"], name="anonymous 1")
    assert segment(load_model(folder, "cpu"), given).notes == (
        "WARNING: 'A-t2w' was given as T1, but its name says T2. If the name is right, choose another volume for T1: "
        "the result cannot be relied on.",
    )


def test_a_missing_and_an_unknown_modality_are_named(folder):
    model = load_model(folder, "cpu")
    with pytest.raises(InputError, match="missing: flair"):
        segment(model, study(names=("t1", "t2")))
    with pytest.raises(InputError, match="unknown modality pet"):
        segment(model, study(names=("t1", "t2", "flair", "pet")))


def test_no_convolution_of_a_run_in_single_precision_takes_torchs_slow_path(folder, monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.inference.segmenting.fastest_dtype", lambda device: torch.float32)
    monkeypatch.setattr("DanteSegmenterLib.inference.segmenting.batch_of", lambda *_: 1)
    model = load_model(folder, "cpu")
    with profile(activities=[ProfilerActivity.CPU]) as record:
        segment(model, study())
    names = {event.key for event in record.key_averages()}
    assert "aten::mkldnn_convolution" in names and not [name for name in names if "slow_conv" in name]


def test_progress_rises_from_0_to_1_through_all_phases(folder):
    seen = []
    segment(load_model(folder, "cpu"), study(), progress=seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert [*dict.fromkeys(p.phase for p in seen)] == ["load", "prepare", "network", "restore"]


@pytest.mark.parametrize("phase", ["load", "prepare", "network"])
def test_a_run_cancelled_in_any_phase_ends_before_the_next(folder, phase):
    seen = []
    with pytest.raises(Cancelled):
        segment(
            load_model(folder, "cpu"),
            study(),
            progress=lambda p: seen.append(p.phase),
            cancelled=lambda: bool(seen) and seen[-1] == phase,
        )
    assert seen[-1] == phase


def test_probabilities_are_0_where_no_window_was_needed():
    covered, plan = torch.tensor([True, False]).reshape(1, 1, 2), Plan(torch.device("cpu"), torch.float32, 1)
    regions = Prediction(torch.zeros(3, 1, 1, 2), covered, plan)
    assert probabilities_of(regions, brain_spec()).ravel().tolist() == [0.5, 0, 0.5, 0, 0.5, 0]
    labels = replace(brain_spec(), output="labels")
    four = Prediction(torch.zeros(4, 1, 1, 2), covered, plan)
    assert probabilities_of(four, labels).ravel().tolist() == [0.25, 0, 0.25, 0, 0.25, 0]


def test_a_device_that_is_not_there_is_an_error_and_no_silent_fall_to_the_cpu():
    with pytest.raises(ResourceError, match="unknown device"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="not available"):
            resolve_device("cuda")
    assert resolve_device("cpu").type == "cpu"


def test_in_a_ct_neither_the_middle_of_the_window_nor_air_in_the_patient_is_outside(tmp_path):
    """40 HU, the density of blood, is 0 once normalised, and air is its background; in MR either would mean outside."""
    spec = read_spec(write_brain_model(tmp_path))
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
    normalisation = dict.fromkeys(("t1", "t1ce", "t2", "flair"), window)
    write_spec(tmp_path, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=normalisation)))
    volumes = {name: Volume(np.full((16, 16, 16), 40, np.int16), LPS_2MM, name) for name in ("t1", "t2", "flair")}
    for volume in volumes.values():
        volume.array[8:12, 8:12, 8:12] = -1000
    result = segment(load_model(tmp_path, "cpu"), volumes, probabilities=True)
    assert (result.probabilities > 0).all()


def test_where_one_volume_is_a_ct_nothing_is_outside(tmp_path):
    spec = read_spec(write_brain_model(tmp_path))
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
    normalisation = {**spec.preprocessing.normalisation, "flair": window}
    write_spec(tmp_path, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=normalisation)))
    volumes = {name: Volume(100 * v.array[2:18, 4:20, 6:22], LPS_2MM, name) for name, v in study().items()}
    for name, volume in volumes.items():
        volume.array[8:12, 8:12, 8:12] = -1000 if name == "flair" else 0
    assert (segment(load_model(tmp_path, "cpu"), volumes, probabilities=True).probabilities > 0).all()


def test_what_is_shown_is_scaled_once(tmp_path):
    """All regions by the same: then the surest of them is the surest before and after."""
    spec = read_spec(write_brain_model(tmp_path))
    scaling = {region.id: Scaling(temperature=3.0) for region in spec.regions}
    plain = segment(load_model(tmp_path, "cpu"), study(), probabilities=True)
    write_spec(tmp_path, replace(spec, limited=replace(spec.limited, scaling=scaling)))
    result = segment(load_model(tmp_path, "cpu"), study(), probabilities=True)
    assert result.volumes_ml == plain.volumes_ml and not np.allclose(result.probabilities, plain.probabilities)
    surest = result.probabilities.max(axis=0)[result.masks["WT"]]
    assert result.report.finding("WT").confidence == pytest.approx(surest.mean())


def test_a_loaded_network_is_one_that_does_not_learn(folder):
    model = load_model(folder, "cpu")
    for pathway in model.spec.pathways.values():
        network = model.network(pathway)
        assert not any(part.training for part in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("edge", "windows"), [(32, 16), (64, 2), (96, 1), (128, 1)])
def test_how_many_windows_are_computed_at_once_depends_on_their_size(edge, windows):
    assert segmenting.batch_of(torch.device("cpu"), (edge,) * 3) == windows


def scaled_weights(folder, factor):
    """The model with all its convolutions' weights multiplied, so that features overflow."""
    path = folder / "limited.safetensors"
    tensors = {name: t * factor if t.ndim == 5 else t for name, t in load_file(str(path)).items()}
    save_file(tensors, str(path))
    spec = read_spec(folder)
    write_spec(folder, replace(spec, limited=replace(spec.limited, sha256=sha256_of(path))))
    return folder


@pytest.mark.parametrize("factor", [1e30, 1e12, float("nan"), float("inf")])
def test_weights_whose_features_would_overflow_in_silence_are_refused(tmp_path, factor):
    with pytest.raises(ModelError, match="beyond 1e"):
        load_model(scaled_weights(write_brain_model(tmp_path), factor), "cpu")


def test_what_half_precision_cannot_hold_is_computed_in_single_precision_from_the_files_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)
    folder = scaled_weights(write_brain_model(tmp_path), 2e5)  # float16 ends at 65504
    single = segment(load_model(folder, "cpu"), study())
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float16)
    model = load_model(folder, "cpu")
    for _ in range(2):  # the first time must not change the weights of the second
        half = segment(model, study())
        assert np.array_equal(half.label_map, single.label_map)
        assert any("half precision" in note and "cpu (float32)" in note for note in half.report.notes)
        assert half.report.device == "cpu (float32)"


def test_memory_that_runs_out_in_any_phase_is_one_sentence(folder, monkeypatch):
    def hungry(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(segmenting, "prepare", hungry)
    with pytest.raises(ResourceError, match="not enough memory"):
        segment(load_model(folder, "cpu"), study())


def test_odd_volumes_from_any_door_leave_a_warning_in_the_result(folder):
    volumes = study()
    volumes["t2"] = volumes["t1"].with_array(volumes["t1"].array.copy(), "t2")
    notes = segment(load_model(folder, "cpu"), volumes).report.notes
    assert any(note.startswith("WARNING: 't1' and 't2' show the same image") for note in notes)
