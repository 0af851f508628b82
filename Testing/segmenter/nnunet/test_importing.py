"""An nnU-Net model, imported and run: the result equals nnU-Net's for the same patient."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from in_worker import run_in_worker

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.child_process import child_environment
from DanteSegmenterLib.errors import InputError, ModelError, ResourceError
from DanteSegmenterLib.export.source import source_of
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.inference import load_model, segment, segmenting
from DanteSegmenterLib.model_folder import read_spec, write_spec
from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.zip_file import unpack_model
from DanteSegmenterLib.nnunet import Choices, import_in_process, import_model, is_results_folder
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient

GOLDEN = Path(__file__).parent / "golden"
RESULTS = GOLDEN / "nnUNetTrainer__nnUNetPlans__3d_fullres"
# Written by Testing/tools/nnunet_golden.py with nnunetv2 2.8.1.
AGREE, DICE = 0.999, 0.999


@pytest.fixture(scope="module")
def case():
    """The patient's volumes by channel name, and nnU-Net's label maps."""
    stored = np.load(GOLDEN / "case.npz")
    volumes = {name: Volume(stored[name], stored["matrix"], name) for name in ("T1", "FLAIR")}
    return volumes, {name: stored[name] for name in ("plain", "mirrored")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nnunet") / "model"
    import_model(RESULTS, folder)
    return folder


@pytest.fixture
def results(tmp_path):
    """A copy that may be modified."""
    return Path(shutil.copytree(RESULTS, tmp_path / RESULTS.name))


def edit(path, change):
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("way", ["plain", "mirrored"])
def test_result_equals_nnunet(case, model, monkeypatch, way):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)
    volumes, expected = case
    by_id = {"t1": volumes["T1"], "flair": volumes["FLAIR"]}
    result = segment(load_model(model, "cpu"), by_id, mirror=way == "mirrored")
    assert np.mean(result.label_map == expected[way]) >= AGREE
    for value in (1, 2):
        assert np.any(expected[way] == value) and dice(result.label_map == value, expected[way] == value) >= DICE
    assert not result.notes


def test_model_trained_without_mirroring_is_not_mirrored(case, model, tmp_path):
    spec = read_spec(shutil.copytree(model, tmp_path / "model"))
    steps = replace(spec.preprocessing.nnunet, mirror=())
    write_spec(tmp_path / "model", replace(spec, preprocessing=replace(spec.preprocessing, nnunet=steps)))
    by_id = {"t1": case[0]["T1"], "flair": case[0]["FLAIR"]}
    mirrored, plain = (segment(load_model(tmp_path / "model", "cpu"), by_id, mirror=mirror) for mirror in (True, False))
    assert np.array_equal(mirrored.label_map, plain.label_map)
    assert mirrored.notes == ("This model was trained without mirroring: nothing was mirrored.",) and not plain.notes


def test_export_with_different_preprocessing_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="reads images prepared as nnU-Net does"):
        source_of(load_model(model, "cpu"), "limited")


def test_description_matches_plans_and_dataset(model):
    spec = read_spec(model)
    assert (spec.name, spec.privileged, spec.full, spec.output) == ("Dataset901_Synthetic", None, None, "labels")
    assert [(m.id, m.label) for m in spec.modalities] == [("t1", "T1"), ("flair", "FLAIR")]
    assert [(r.id, r.labels, r.label_value) for r in spec.regions] == [
        ("necrosis", (1,), 1),
        ("edema", (2,), 2),
        ("ET", (3,), 3),
    ]
    assert [r.terminology.type.meaning for r in spec.regions] == ["Necrosis", "Edema", "Neoplasm, Primary"]
    steps = spec.preprocessing.nnunet
    assert (steps.axes, steps.mirror, steps.to_network.order, steps.to_image.order) == ((2, 0, 1), (0, 1), 3, 1)
    assert spec.preprocessing.spacing_mm == (21.0, 5.25, 5.25) and spec.patch == (4, 12, 12)
    assert {n.kind for n in spec.preprocessing.normalisation.values()} == {"zscore"} and not spec.skull_stripped
    assert spec.limited.architecture == "residual_unet" and spec.network.encoder_convs == (1, 2, 3)
    assert "Isensee" in about(spec) and "Imported from nnU-Net" in (model / "README.md").read_text()


def test_command_line_imports_shows_segments_and_zips(case, tmp_path, capsys):
    folder, volumes = tmp_path / "model", case[0]
    arguments = ["import", "nnunet", str(RESULTS), "--to", str(folder), "--channel", "0=t1ce", "--label", "2=Swelling"]
    assert main([*arguments, "--name", "mine", "--orientation", "LPS"]) == 0
    shown = capsys.readouterr().out
    assert "mine 1 (nnU-Net)" in shown and "reads t1ce, flair" in shown and "Swelling: Tissue" in shown
    assert main(["info", str(folder)]) == 0 and "Isensee" in capsys.readouterr().out
    for name, volume in volumes.items():
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    pairs = ["--input", f"t1ce={tmp_path}/T1.nii.gz", "--input", f"flair={tmp_path}/FLAIR.nii.gz"]
    assert main(["segment", "--model", str(folder), *pairs, "--output", f"{tmp_path}/out.nii.gz", "--mirror"]) == 0
    assert set(np.unique(read_volume(tmp_path / "out.nii.gz").array)) >= {0, 2}
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
    assert read_spec(unpack_model(Path(archive), tmp_path / "unpacked")) == read_spec(folder)


@pytest.mark.slow
def test_worker_and_batch_run_it_like_any_model(case, tmp_path):
    """The worker also imports it, as the window requests."""
    folder = import_in_process(RESULTS, tmp_path)
    assert folder.name == "golden__nnUNetTrainer__nnUNetPlans__3d_fullres"
    by_id = {"t1": case[0]["T1"], "flair": case[0]["FLAIR"]}
    client = WorkerClient()
    try:
        result = run_in_worker(client, folder, by_id, "cpu")
    finally:
        client.close()
    assert np.mean(result.label_map == case[1]["plain"]) >= 0.99  # in this processor's fastest format
    (tmp_path / "cases" / "one").mkdir(parents=True)
    for name, volume in by_id.items():
        write_volume(tmp_path / "cases" / "one" / f"one_{name}.nii.gz", volume)
    assert main(["batch", str(tmp_path / "cases"), "--model", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "one.seg.nrrd").is_file()
    with pytest.raises(ModelError, match="is no results folder of nnU-Net"):
        import_in_process(tmp_path, tmp_path / "models")


SLOW_IMPORT = """
import sys, time
from pathlib import Path
from DanteSegmenterLib import program
from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.command_line import import_nnunet
from DanteSegmenterLib.guard.replace_folder import unfinished_folder
def import_model(folder, target, choices, tell):
    with unfinished_folder(target.parent) as new:
        (new / "half").touch()
        print("started", flush=True)
        for _ in range(3000):
            time.sleep(0.01)
import_nnunet.import_model = import_model
program.leave(main(["import", "nnunet", "results", "--to", sys.argv[1], "--with-parent"]))
"""


def test_import_stops_with_its_parent_and_leaves_no_partial_files(tmp_path):
    command = [sys.executable, "-c", SLOW_IMPORT, str(tmp_path / "model")]
    with subprocess.Popen(
        command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"started\n" and len(list(tmp_path.iterdir())) == 1
        _, errors = process.communicate(timeout=20)  # closes its standard input
    assert (process.returncode, errors) == (1, b"Stopped; nothing was written.\n")
    assert list(tmp_path.iterdir()) == []


def test_two_folds_become_averaged_members(case, results, tmp_path):
    second = results / "fold_1"
    second.mkdir()
    checkpoint = torch.load(results / "fold_0" / "checkpoint_final.pth", weights_only=False)
    for tensor in checkpoint["network_weights"].values():
        tensor.mul_(1.1)
    torch.save(checkpoint, second / "checkpoint_final.pth")
    folders = {"both": (), "0": ("0",), "1": ("1",)}
    found = {}
    for name, folds in folders.items():
        spec = import_model(results, tmp_path / name, Choices(folds))
        model = load_model(tmp_path / name, "cpu")
        network = model.network(spec.limited)
        with torch.no_grad():
            found[name] = network(torch.randn(1, 2, *spec.patch, generator=torch.Generator().manual_seed(0)))
    assert len(read_spec(tmp_path / "both").limited.members) == 2
    assert torch.allclose(found["both"], (found["0"] + found["1"]) / 2, atol=1e-5)
    assert not torch.allclose(found["0"], found["1"], atol=1e-2)


def test_folds_of_two_trainings_cannot_be_joined(results, tmp_path):
    (results / "fold_1").mkdir()
    checkpoint = torch.load(results / "fold_0" / "checkpoint_final.pth", weights_only=False)
    checkpoint["inference_allowed_mirroring_axes"] = (0,)
    torch.save(checkpoint, results / "fold_1" / "checkpoint_final.pth")
    with pytest.raises(ModelError, match="folds 0 and 1 of .* are not of one training. Choose one"):
        import_model(results, tmp_path / "model")
    assert import_model(results, tmp_path / "model", Choices(("1",))).preprocessing.nnunet.mirror == (0,)


def ct_without_deviation(plans):
    plans["configurations"]["3d_small"]["normalization_schemes"] = ["CTNormalization", "ZScoreNormalization"]
    numbers = {"mean": 40.0, "std": 0.0, "percentile_00_5": -100.0, "percentile_99_5": 200.0}
    plans["foreground_intensity_properties_per_channel"]["0"] = numbers


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("plans.json", lambda p: p["configurations"]["3d_small"].update(patch_size=[8, 8]), "is for slices"),
        ("plans.json", lambda p: p["configurations"]["3d_fullres"].update(previous_stage="3d_lowres"), "a cascade"),
        ("plans.json", lambda p: p["configurations"].pop("3d_small"), "'3d_small' is not there"),
        ("plans.json", lambda p: p["configurations"]["3d_small"].update(inherits_from="3d_fullres"), "from itself"),
        ("plans.json", lambda p: p["configurations"]["3d_small"].update(patch_size=[4, 12, 13]), "must be divisible"),
        ("plans.json", ct_without_deviation, "needs low < high and std > 0"),
        ("plans.json", lambda p: p.update(image_reader_writer="NaturalImage2DIO"), "only SimpleITKIO"),
        ("plans.json", lambda p: p.update(transpose_forward=[0, 0, 1]), "in some order"),
        ("dataset.json", lambda d: d.update(channel_names={"0": "T1"}), "names 1"),
        ("dataset.json", lambda d: d.update(channel_names=["T1"]), "must name the channels"),
        ("dataset.json", lambda d: d["labels"].pop("background"), "background 0"),
        ("dataset.json", lambda d: d["labels"].update(edema=7), "without gaps"),
        ("dataset.json", lambda d: d["labels"].update(more=4), "has shape"),
        ("dataset.json", lambda d: d["labels"].update(edema=[1, 2]), "regions_class_order"),
    ],
)
def test_invalid_import_is_refused_in_a_sentence_and_writes_nothing(results, tmp_path, file, change, reason):
    edit(results / file, change)
    with pytest.raises(ModelError, match=reason):
        import_model(results, tmp_path / "model")
    assert not (tmp_path / "model").exists() and not list(tmp_path.glob(".dante-new*"))


NETWORK_CHANGES = [
    ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}, "only InstanceNorm3d"),
    ({"nonlin": "torch.nn.ReLU"}, "only LeakyReLU"),
    ({"nonlin_kwargs": {"negative_slope": 0.2}}, "negative_slope 0.01"),
    ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "eps 1e-05"),
    ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "only Conv3d"),
    ({"nonlin_first": True}, "nonlin_first cannot be imported"),
    ({"bottleneck_channels": [1, 1, 1]}, "bottleneck_channels cannot be imported"),
    ({"n_blocks_per_stage": [1, 2]}, "a whole number for each"),
    ({"features_per_stage": [10**9] * 3}, "not within 1 to 2048"),
    ({"n_stages": 10**9, "n_blocks_per_stage": 2}, "a whole number for each"),
]


@pytest.mark.parametrize(("arguments", "reason"), NETWORK_CHANGES)
def test_unknown_networks_are_refused(results, tmp_path, arguments, reason):
    edit(
        results / "plans.json",
        lambda p: p["configurations"]["3d_small"]["architecture"]["arch_kwargs"].update(arguments),
    )
    with pytest.raises(ModelError, match=reason):
        import_model(results, tmp_path / "model")


def test_other_network_class_is_refused(results, tmp_path):
    edit(
        results / "plans.json",
        lambda p: p["configurations"]["3d_small"]["architecture"].update(network_class_name="a.b.Primus"),
    )
    with pytest.raises(ModelError, match="the network 'Primus' is not known; known are PlainConvUNet, Residual"):
        import_model(results, tmp_path / "model")


def test_mismatched_folders_and_choices_are_reported(results, tmp_path):
    assert is_results_folder(results) and not is_results_folder(tmp_path)
    for folder, choices, reason in (
        (tmp_path, Choices(), f"its folders {results.name} are"),
        (tmp_path / "no", Choices(), "cannot be read"),
        (results / "fold_0", Choices(), "it has no plans.json"),
        (results, Choices(folds=("3",)), "no checkpoint_final.pth of fold 3; folds with one: 0"),
        (results, Choices(checkpoint="best"), "no checkpoint_best.pth of any fold"),
        (results, Choices(orientation="LRS"), "three letters"),
    ):
        with pytest.raises(ModelError, match=reason):
            import_model(folder, tmp_path / "model", choices)
    for choices, reason in (
        (Choices(modalities={5: "t2"}), "there is no channel 5; the model reads 0 = T1, 1 = FLAIR"),
        (Choices(modalities={1: "t1"}), "two channels would be 't1'"),
        (Choices(labels={"9": "x"}), "there is no label '9'"),
    ):
        with pytest.raises(InputError, match=reason):
            import_model(results, tmp_path / "model", choices)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ResourceError, match="something else than a model"):
        import_model(results, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_old_model_is_replaced_only_by_a_complete_one(results, tmp_path):
    import_model(results, tmp_path / "model")
    edit(results / "dataset.json", lambda d: d["labels"].update(more=4))
    with pytest.raises(ModelError):
        import_model(results, tmp_path / "model")
    assert len(read_spec(tmp_path / "model").regions) == 3
    shutil.copytree(RESULTS, results, dirs_exist_ok=True)
    assert import_model(results, tmp_path / "model", Choices(name="again")).name == "again"
    assert read_spec(tmp_path / "model").name == "again"
