import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from batches import batch
from conftest import REPOSITORY
from datasets import write_case
from models import study, write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.model_folder import read_spec, write_spec
from DanteSegmenterLib.volume import Volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder and a study, as files."""
    folder = tmp_path_factory.mktemp("cli")
    write_brain_model(folder / "model")
    for name, volume in study().items():
        write_volume(folder / f"{name}.nii.gz", volume)
    return folder


def command(folder, output, *more, inputs=("t1", "t2", "flair")):
    pairs = [part for name in inputs for part in ("--input", f"{name}={folder / name}.nii.gz")]
    return ["segment", "--model", str(folder / "model"), *pairs, "--output", str(output), "--device", "cpu", *more]


def test_segment_writes_a_coded_segmentation_probabilities_and_a_report(folder, tmp_path, capsys):
    more = ("--probabilities", str(tmp_path / "p.nrrd"), "--report", str(tmp_path / "report.json"))
    assert main(command(folder, tmp_path / "out.seg.nrrd", *more)) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"model", "version", "weights", "options", "findings", "seconds", "device", "notes"}
    assert [found["region"] for found in report["findings"]] == ["WT", "TC", "ET"]
    for found in report["findings"]:
        assert found["low_ml"] <= found["volume_ml"] <= found["high_ml"]
        assert found["confidence"] is None or 0.5 < found["confidence"] <= 1
    assert read_volume(tmp_path / "p.nrrd", component=2).shape == (20, 24, 28)
    assert sorted(os.listdir(tmp_path)) == ["out.seg.nrrd", "p.nrrd", "report.json"]
    assert "mL" in capsys.readouterr().out


def test_intended_use_is_printed_beside_the_results(tmp_path, capsys):
    model = write_brain_model(tmp_path / "model")
    write_spec(model, replace(read_spec(model), intended_use="Of no use on patients."))
    for name, volume in study().items():
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    assert main(command(tmp_path, tmp_path / "out.nii.gz")) == 0
    assert "use: Of no use on patients.\n" in capsys.readouterr().out
    assert batch(write_case(tmp_path / "cases" / "A", 0).parent, model, tmp_path / "results") == 0
    assert "use: Of no use on patients.\n" in capsys.readouterr().out


def test_segment_writes_a_label_map_of_brats_labels_for_other_programs(folder, tmp_path):
    assert main(command(folder, tmp_path / "out.nii.gz")) == 0
    labels = read_volume(tmp_path / "out.nii.gz")
    assert set(np.unique(labels.array)) <= {0, 1, 2, 4} and labels.array.any()
    assert labels.same_grid(study()["t1"])


BAD = {
    "missing modality": (lambda f, t: command(f, t / "o.nrrd", inputs=("t1", "t2")), "missing: flair"),
    "no such file": (lambda f, t: command(f, t / "o.nrrd", "--input", "t1ce=no.nii.gz"), "no.nii.gz' does not exist"),
    "given twice": (lambda f, t: command(f, t / "o.nrrd", "--input", "t1=x.nii"), "given twice"),
    "one file twice": (
        lambda f, t: command(f, t / "o.nrrd", "--input", f"t1ce={f}/../{f.name}/t1.nii.gz"),
        "each needs a volume of its own",
    ),
    "unknown modality": (lambda f, t: command(f, t / "o.nrrd", "--input", "pet=x.nii"), "one of t1, t1ce, t2, flair"),
    "no equals sign": (lambda f, t: command(f, t / "o.nrrd", "--input", "x.nii"), "MODALITY=FILE"),
    "output folder missing": (lambda f, t: command(f, t / "no" / "o.nrrd"), "does not exist"),
    "a report over the model": (
        lambda f, t: command(f, t / "o.nrrd", "--report", str(f / "model" / "model.json")),
        "would replace",
    ),
    "output is a folder": (lambda f, t: command(f, t), "is a folder"),
    "output of unknown kind": (lambda f, t: command(f, t / "o.jpg"), "unknown ending"),
    "wrong model folder": (lambda f, t: [*command(f, t / "o.nrrd"), "--model", str(t)], "is no model folder"),
    "no such device": (lambda f, t: [*command(f, t / "o.nrrd"), "--device", "gpu"], "unknown device"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, capsys, name):
    arguments, reason = BAD[name]
    assert main(arguments(folder, tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and reason in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def with_voxels(volume, change):
    array = volume.array.copy()
    return volume.with_array(change(array), "changed")


BAD_VOLUMES = {
    "NaN": (lambda v: with_voxels(v, lambda a: np.where(a > 1.9, np.nan, a)), "NaN"),
    "all zero": (lambda v: with_voxels(v, np.zeros_like), "every voxel is 0"),
    "one slice": (lambda v: Volume(v.array[:1], v.ijk_to_ras), "at least two voxels"),
    "absurd values": (lambda v: with_voxels(v, lambda a: a * np.float64(1e300)), "beyond 1e+18"),
    "micrometres": (lambda v: Volume(v.array, np.diag([2000.0, 2000, 2000, 1])), "another unit"),
    "elsewhere": (lambda v: Volume(v.array, translation_mm(900) @ v.ijk_to_ras), "same place"),
}


def translation_mm(right):
    matrix = np.eye(4)
    matrix[0, 3] = right
    return matrix


@pytest.mark.parametrize("name", BAD_VOLUMES)
def test_bad_volume_is_named_by_its_file(folder, tmp_path, capsys, name):
    change, reason = BAD_VOLUMES[name]
    write_volume(tmp_path / "bad.nii.gz", change(study()["t2"]))
    inputs = ["--input", f"t2={tmp_path / 'bad.nii.gz'}"]
    assert main([*command(folder, tmp_path / "o.nii.gz", inputs=("t1", "flair")), *inputs]) == 2
    error = capsys.readouterr().err
    assert "bad.nii.gz" in error and reason in error
    assert os.listdir(tmp_path) == ["bad.nii.gz"]


def test_full_disk_is_reported_without_leftovers(folder, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nrrd.write", full)
    assert main(command(folder, tmp_path / "o.seg.nrrd")) == 2
    assert "no space left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_info_lists_inputs_and_regions_of_the_model(folder, capsys):
    assert main(["info", str(folder / "model")]) == 0
    text = capsys.readouterr().out
    assert "reads t1, t2, flair" in text and "enhancing tumour" in text


def test_sample_writes_a_case_folder_in_brats_naming(tmp_path):
    assert main(["sample", str(tmp_path / "patient"), "--spacing-mm", "6"]) == 0
    assert sorted(os.listdir(tmp_path / "patient")) == [
        f"patient_{name}.nii.gz" for name in ("flair", "seg", "t1", "t1ce", "t2")
    ]


def test_module_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    result = subprocess.run(
        [sys.executable, "-m", "DanteSegmenterLib", "info", "nowhere"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr and "no model folder" in result.stderr


def test_tilde_after_the_equals_sign_is_the_home_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    inputs = [part for name in ("t1", "t2", "flair") for part in ("--input", f"{name}=~/{name}.nii.gz")]
    out = tmp_path / "o.nii.gz"
    assert main(["segment", "--model", str(folder / "model"), *inputs, "--output", str(out), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    "words",
    [["info", ""], ["sample", ""], ["batch", "", "--model=M", "--out=O"], ["batch", "F", "--model=M", "--out="]],
)
def test_empty_path_is_refused(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "the path is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
