"""A MONAI bundle has what MONAI requires, replaces only bundles, and gives the model's segmentation."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import brain_spec, study, write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.errors import ModelError, ResourceError
from DanteSegmenterLib.export import agreement, monai_scripts
from DanteSegmenterLib.export.bundle import write_bundle
from DanteSegmenterLib.export.bundle_config import _label_map, inference_config
from DanteSegmenterLib.export.source import source_of
from DanteSegmenterLib.files.images import read_volume, write_volume
from DanteSegmenterLib.inference import load_model, segment, segmenting
from DanteSegmenterLib.result.regions import label_map_of, mask_of
from DanteSegmenterLib.synthetic.sample import brain_mr, chest_ct


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "tiny", more=[1])


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    """A bundle written by the command."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    assert main(["export", str(model), "--monai-bundle", str(folder)]) == 0
    return folder


def json_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_bundle_has_the_required_files(bundle):
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    wanted = {"LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.ts", "docs/README.md"}
    assert found == wanted | {"scripts/__init__.py", "scripts/dante.py"}
    ours = Path(monai_scripts.__path__[0]) / "dante.py"
    assert (bundle / "scripts" / "dante.py").read_text() == ours.read_text()
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    assert "no licence was stated" in (bundle / "LICENSE").read_text()


def test_metadata_has_the_required_fields(bundle):
    metadata = json_of(bundle / "configs" / "metadata.json")
    asked = {"version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task"}
    more = {"schema", "description", "authors", "copyright", "network_data_format", "changelog"}
    assert asked | more <= set(metadata)
    data = metadata["network_data_format"]
    image, pred = data["inputs"]["image"], data["outputs"]["pred"]
    wanted = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"}
    assert wanted <= set(image) and wanted <= set(pred)
    assert (image["num_channels"], image["modality"], image["channel_def"]["1"]) == (3, "MR", "T2")
    assert pred["channel_def"] == {"0": "whole tumour", "1": "tumour core", "2": "enhancing tumour"}
    files = {"metadata.json": "", "inference.json": ""}
    network = torch.jit.load(bundle / "models" / "model.ts", _extra_files=files)
    assert all(json.loads(text) == json_of(bundle / "configs" / name) for name, text in files.items())
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *image["spatial_shape"])).shape == (
            1,
            pred["num_channels"],
            *pred["spatial_shape"],
        )


def test_non_cubic_window_is_permuted(model):
    source = source_of(load_model(model, "cpu"), "limited")
    config = inference_config(replace(source, spec=replace(source.spec, patch=(8, 16, 32))))
    assert config["inferer"]["roi_size"] == [32, 16, 8]


def test_only_a_bundle_is_replaced(model, bundle):
    source = source_of(load_model(model, "cpu"), "limited")
    (bundle / "configs" / "old.json").write_text("{}")
    write_bundle(source, bundle)
    assert not (bundle / "configs" / "old.json").exists()
    (bundle / "eval").mkdir()
    with pytest.raises(ResourceError, match="exists and is no bundle"):
        write_bundle(source, bundle)
    (bundle / "eval").rmdir()


def test_bundle_with_different_output_is_not_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="TorchScript file does not compute"):
        write_bundle(source_of(load_model(model, "cpu"), "limited"), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["regions", "labels"])
def test_label_map_equals_ours(output):
    spec = replace(brain_spec(), output=output)
    rng = np.random.default_rng(0)
    raw = rng.uniform(size=(spec.out_channels, 6, 7, 8)).astype(np.float32)
    p = raw / raw.sum(axis=0) if output == "labels" else raw
    expression = eval(_label_map(spec).removeprefix("$"), {"torch": torch})
    found = expression(torch.from_numpy(p)).numpy()[0]
    wanted = label_map_of(p[1:] if output == "labels" else p, spec)
    assert len(np.unique(wanted)) == 4 and np.array_equal(found, wanted)


def run(bundle, data, out):
    """Run as described in the bundle's README."""
    folders = ["--dataset_dir", str(data), "--output_dir", str(out)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *folders]
    result = subprocess.run(command, cwd=bundle, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def difference(bundle, volumes, model, tmp_path, limited=True):
    """Dice by region and the number of differing voxels between the bundle's label map and ours."""
    case = tmp_path / "data" / "somebody"
    case.mkdir(parents=True)
    for name, volume in volumes.items():
        write_volume(case / f"somebody_{name}.nii.gz", volume)
    run(bundle, tmp_path / "data", tmp_path / "out")
    (file,) = (tmp_path / "out" / "somebody").iterdir()
    found = read_volume(file)
    read = {name: read_volume(case / f"somebody_{name}.nii.gz") for name in volumes}
    wanted = segment(model, read, limited=limited)
    assert found.same_grid(wanted.reference)
    dice = {}
    for region in wanted.spec.regions:
        one, other = (mask_of(labels, region, wanted.spec.regions) for labels in (found.array, wanted.label_map))
        dice[region.id] = 2 * (one & other).sum() / (one.sum() + other.sum())
    return dice, int((found.array != wanted.label_map).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pathway"), [("brats-without-t1ce", "limited"), ("embolism-without-contrast", "full")]
)
def test_monai_run_gives_our_segmentation(name, pathway, brain_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)  # the format MONAI computes in
    model = load_model(brain_model_folder.parent / name, "cpu")
    source = source_of(model, pathway)
    write_bundle(source, tmp_path / "bundle")
    patient = brain_mr(3, 1.5) if name.startswith("brats") else chest_ct(3, (2.5, 1.7, 1.7))
    volumes = {modality: patient.volumes[modality] for modality in source.pathway.modalities}
    dice, differing = difference(tmp_path / "bundle", volumes, model, tmp_path, pathway == "limited")
    assert min(dice.values()) >= 0.999 and differing < 10


@pytest.mark.slow
def test_monai_finds_every_inference_property(bundle, tmp_path):
    code = (
        "from monai.bundle import ConfigWorkflow\n"
        "flow = ConfigWorkflow('configs/inference.json', 'configs/metadata.json', workflow_type='infer')\n"
        f"flow.parser['dataset_dir'] = {str(tmp_path / 'data')!r}\n"
        "flow.initialize()\nprint('missing:', flow.check_properties())"
    )
    case = tmp_path / "data" / "somebody"
    case.mkdir(parents=True)
    for name, volume in study().items():
        write_volume(case / f"{name}.nii.gz", volume)
    result = subprocess.run([sys.executable, "-c", code], cwd=bundle, capture_output=True, text=True)
    assert result.returncode == 0 and ("missing: []" in result.stdout or "missing: None" in result.stdout), result
