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


def test_volume_ranges_contain_the_volumes(folder):
    result = segment(load_model(folder, "cpu"), study())
    for found in result.report.findings:
        assert found.low_ml <= found.volume_ml <= found.high_ml


def test_overconfident_model_gives_a_note(tmp_path):
    folder = write_brain_model(tmp_path / "model")
    spec = read_spec(folder)
    measured = {"WT": Calibration(17, 0.9, 0.85, 0.5), "ET": Calibration(17, 0.8, 0.41, 0.2)}
    write_spec(folder, replace(spec, limited=replace(spec.limited, calibration=measured)))
    notes = segment(load_model(folder, "cpu"), study()).notes
    # WT is overconfident by 5 points only, ET by 39.
    assert notes[-1].endswith("on 17 test cases this model was too sure (enhancing tumour 80% sure and 41% right).")


def test_result_has_the_reference_grid_nested_masks_and_volumes(folder):
    result = segment(load_model(folder, "cpu"), study(), probabilities=True)
    assert result.probabilities.shape == (3, 20, 24, 28) and result.label_map.shape == (20, 24, 28)
    assert np.array_equal(result.reference.ijk_to_ras, LPS_2MM) and result.modality == "t1"
    assert not (result.masks["ET"] & ~result.masks["TC"]).any() and not (result.masks["TC"] & ~result.masks["WT"]).any()
    assert result.masks["WT"].any()
    assert result.volumes_ml["WT"] == pytest.approx(result.masks["WT"].sum() * 0.008)
    assert set(result.report.seconds) == {"load", "prepare", "network", "restore"}


def test_nothing_is_segmented_outside_the_foreground(folder):
    volumes = study()
    for volume in volumes.values():
        volume.array[8:12, 10:14, 10:14] = 0  # a hole in all volumes
    result = segment(load_model(folder, "cpu"), volumes, probabilities=True)
    outside = np.ones(result.label_map.shape, bool)
    outside[2:-2, 3:-3, 4:-4] = False
    outside[8:12, 10:14, 10:14] = True
    assert not result.probabilities[:, outside].any()


def test_segmentation_does_not_depend_on_the_storage_order(folder):
    """The network sees the same image, so the result must be the same at each world position."""
    model = load_model(folder, "cpu")
    plain = segment(model, study())
    swapped_matrix = LPS_2MM @ np.array(
        [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    )  # I and K change places
    swapped = {n: Volume(v.array.transpose(2, 1, 0), swapped_matrix, n) for n, v in study().items()}
    again = segment(model, swapped)
    assert np.array_equal(again.label_map.transpose(2, 1, 0), plain.label_map)


def test_full_network_is_used_with_the_privileged_volume_and_noted(folder):
    model = load_model(folder, "cpu")
    limited = segment(model, study(), probabilities=True)
    full = segment(model, study(names=("t1", "t1ce", "t2", "flair")), probabilities=True)
    assert any("full-modality network" in note for note in full.notes) and not limited.notes
    assert not np.array_equal(limited.probabilities, full.probabilities)


def test_privileged_volume_is_ignored_without_a_full_network_and_noted(tmp_path):
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


def test_missing_and_unknown_modalities_are_named(folder):
    model = load_model(folder, "cpu")
    with pytest.raises(InputError, match="missing: flair"):
        segment(model, study(names=("t1", "t2")))
    with pytest.raises(InputError, match="unknown modality pet"):
        segment(model, study(names=("t1", "t2", "flair", "pet")))


def test_single_precision_never_takes_the_slow_convolution_path(folder, monkeypatch):
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
def test_run_cancelled_in_any_phase_stops_before_the_next(folder, phase):
    seen = []
    with pytest.raises(Cancelled):
        segment(
            load_model(folder, "cpu"),
            study(),
            progress=lambda p: seen.append(p.phase),
            cancelled=lambda: bool(seen) and seen[-1] == phase,
        )
    assert seen[-1] == phase


def test_probabilities_are_0_in_skipped_windows():
    covered, plan = torch.tensor([True, False]).reshape(1, 1, 2), Plan(torch.device("cpu"), torch.float32, 1)
    regions = Prediction(torch.zeros(3, 1, 1, 2), covered, plan)
    assert probabilities_of(regions, brain_spec()).ravel().tolist() == [0.5, 0, 0.5, 0, 0.5, 0]
    labels = replace(brain_spec(), output="labels")
    four = Prediction(torch.zeros(4, 1, 1, 2), covered, plan)
    assert probabilities_of(four, labels).ravel().tolist() == [0.25, 0, 0.25, 0, 0.25, 0]


def test_missing_device_is_an_error_without_fallback_to_the_cpu():
    with pytest.raises(ResourceError, match="unknown device"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="not available"):
            resolve_device("cuda")
    assert resolve_device("cpu").type == "cpu"


def test_ct_foreground_includes_the_window_centre_and_air(tmp_path):
    """40 HU, the density of blood, is 0 once normalised, and air is its background; in MR both would be background."""
    spec = read_spec(write_brain_model(tmp_path))
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
    normalisation = dict.fromkeys(("t1", "t1ce", "t2", "flair"), window)
    write_spec(tmp_path, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=normalisation)))
    volumes = {name: Volume(np.full((16, 16, 16), 40, np.int16), LPS_2MM, name) for name in ("t1", "t2", "flair")}
    for volume in volumes.values():
        volume.array[8:12, 8:12, 8:12] = -1000
    result = segment(load_model(tmp_path, "cpu"), volumes, probabilities=True)
    assert (result.probabilities > 0).all()


def test_everything_is_foreground_if_one_volume_is_a_ct(tmp_path):
    spec = read_spec(write_brain_model(tmp_path))
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
    normalisation = {**spec.preprocessing.normalisation, "flair": window}
    write_spec(tmp_path, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=normalisation)))
    volumes = {name: Volume(100 * v.array[2:18, 4:20, 6:22], LPS_2MM, name) for name, v in study().items()}
    for name, volume in volumes.items():
        volume.array[8:12, 8:12, 8:12] = -1000 if name == "flair" else 0
    assert (segment(load_model(tmp_path, "cpu"), volumes, probabilities=True).probabilities > 0).all()


def test_displayed_probabilities_are_scaled_once(tmp_path):
    """All regions are scaled alike, so their ranking stays the same."""
    spec = read_spec(write_brain_model(tmp_path))
    scaling = {region.id: Scaling(temperature=3.0) for region in spec.regions}
    plain = segment(load_model(tmp_path, "cpu"), study(), probabilities=True)
    write_spec(tmp_path, replace(spec, limited=replace(spec.limited, scaling=scaling)))
    result = segment(load_model(tmp_path, "cpu"), study(), probabilities=True)
    assert result.volumes_ml == plain.volumes_ml and not np.allclose(result.probabilities, plain.probabilities)
    surest = result.probabilities.max(axis=0)[result.masks["WT"]]
    assert result.report.finding("WT").confidence == pytest.approx(surest.mean())


def test_loaded_network_is_in_eval_mode_without_gradients(folder):
    model = load_model(folder, "cpu")
    for pathway in model.spec.pathways.values():
        network = model.network(pathway)
        assert not any(part.training for part in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("edge", "windows"), [(32, 16), (64, 2), (96, 1), (128, 1)])
def test_number_of_windows_per_batch_depends_on_their_size(edge, windows):
    assert segmenting.batch_of(torch.device("cpu"), (edge,) * 3) == windows


def scaled_weights(folder, factor):
    """The model with all convolution weights multiplied, so that features overflow."""
    path = folder / "limited.safetensors"
    tensors = {name: t * factor if t.ndim == 5 else t for name, t in load_file(str(path)).items()}
    save_file(tensors, str(path))
    spec = read_spec(folder)
    write_spec(folder, replace(spec, limited=replace(spec.limited, sha256=sha256_of(path))))
    return folder


@pytest.mark.parametrize("factor", [1e30, 1e12, float("nan"), float("inf")])
def test_weights_with_silently_overflowing_features_are_refused(tmp_path, factor):
    with pytest.raises(ModelError, match="beyond 1e"):
        load_model(scaled_weights(write_brain_model(tmp_path), factor), "cpu")


def test_values_beyond_half_precision_are_computed_in_single_precision_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)
    folder = scaled_weights(write_brain_model(tmp_path), 2e5)  # float16 ends at 65504
    single = segment(load_model(folder, "cpu"), study())
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float16)
    model = load_model(folder, "cpu")
    for _ in range(2):  # the first run must not change the weights of the second
        half = segment(model, study())
        assert np.array_equal(half.label_map, single.label_map)
        assert any("half precision" in note and "cpu (float32)" in note for note in half.report.notes)
        assert half.report.device == "cpu (float32)"


def test_out_of_memory_in_any_phase_is_one_sentence(folder, monkeypatch):
    def hungry(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(segmenting, "prepare", hungry)
    with pytest.raises(ResourceError, match="not enough memory"):
        segment(load_model(folder, "cpu"), study())


def test_odd_volumes_from_any_entry_point_give_a_warning(folder):
    volumes = study()
    volumes["t2"] = volumes["t1"].with_array(volumes["t1"].array.copy(), "t2")
    notes = segment(load_model(folder, "cpu"), volumes).report.notes
    assert any(note.startswith("WARNING: 't1' and 't2' show the same image") for note in notes)
