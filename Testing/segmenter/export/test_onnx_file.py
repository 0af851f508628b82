"""An ONNX file describes its own input, computes the same as the model, and is written completely or not at all."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models import LPS_2MM, MODALITIES, study, write_brain_model
from torch import nn

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.export import onnx_file
from DanteSegmenterLib.export.source import source_of
from DanteSegmenterLib.inference import load_model, segment, segmenting
from DanteSegmenterLib.inference.sliding_window import Plan, predict_logits
from DanteSegmenterLib.model_folder import Preprocessing, read_spec
from DanteSegmenterLib.preprocess import prepare
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

# As in docs/export.md; all other values are JSON.
TEXTS = {
    "model_name", "model_version", "task", "pathway", "architecture", "written_by", "how_to_feed",
    "input_axes", "orientation", "output", "activation", "licence", "intended_use", "training_data",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "tiny", with_full=True, more=[1])


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The file of the full pathway, written by the command."""
    file = tmp_path_factory.mktemp("onnx") / "x.onnx"
    assert main(["export", str(model), "--onnx", str(file), "--pathway", "full"]) == 0
    return file


def metadata_in(file):
    props = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    return {key: value if key in TEXTS else json.loads(value) for key, value in props.items()}


def test_input_and_output_are_named_with_dynamic_batch(written):
    proto = onnx.load(written)
    onnx.checker.check_model(proto)
    assert [(entry.domain, entry.version) for entry in proto.opset_import if not entry.domain] == [("", 18)]
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape[1:], logits.name, logits.shape[1:]) == (
        "image",
        [4, 16, 16, 16],
        "logits",
        [3, 16, 16, 16],
    )
    assert isinstance(image.shape[0], str)
    found = session.run(None, {"image": np.zeros((5, 4, 16, 16, 16), np.float32)})[0]
    assert found.shape == (5, 3, 16, 16, 16)
    assert [file.name for file in written.parent.iterdir()] == ["x.onnx"], "weights lie beside it"


def test_metadata_matches_model_json(model, written):
    spec, metadata = read_spec(model), metadata_in(written)
    preprocessing = from_plain(
        Preprocessing,
        {key: metadata[key] for key in ("orientation", "spacing_mm", "normalisation")},
        "metadata",
        ModelError,
    )
    assert preprocessing == spec.preprocessing
    assert metadata["modalities"] == list(MODALITIES) and metadata["modality_labels"] == ["T1", "T1CE", "T2", "FLAIR"]
    assert metadata["regions"] == [json.loads(json.dumps(to_plain(region))) for region in spec.regions]
    assert (metadata["model_name"], metadata["model_version"], metadata["pathway"]) == ("test model", "1", "full")
    assert metadata["weights_sha256"] == [member.sha256 for member in spec.full.members] and metadata["window"] == [
        16,
        16,
        16,
    ]
    assert (metadata["activation"], metadata["threshold"], metadata["background"]) == ("sigmoid", 0.5, [0.0] * 4)
    assert metadata["scaling"]["WT"] == {
        "temperature": 1.0,
        "offset": 0.0,
        "range_margin": pytest.approx(np.log(3)),
        "cases": 0,
    }
    assert {"licence", "calibration", "citations", "intended_use", "how_to_feed", "scores"} <= set(metadata)


class Session(nn.Module):
    """The file in place of the network."""

    def __init__(self, file):
        super().__init__()
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def forward(self, x):
        return torch.from_numpy(self.session.run(None, {"image": x.contiguous().numpy()})[0])


def test_inference_from_its_metadata_gives_the_model_segmentation(model, written, monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)
    metadata = metadata_in(written)
    volumes = study(names=MODALITIES, matrix=LPS_2MM @ np.diag([0.9, 1.0, 1.2, 1.0]))
    wanted = segment(load_model(model, "cpu"), volumes).label_map
    table = {key: metadata[key] for key in ("orientation", "spacing_mm", "normalisation")}
    prepared = prepare(volumes, metadata["modalities"], from_plain(Preprocessing, table, "metadata", ModelError))
    plan = Plan(torch.device("cpu"), torch.float32, 2)
    image = torch.from_numpy(prepared.tensor)
    never = lambda *_: False  # noqa: E731 - neither progress nor cancellation
    prediction, _ = predict_logits(
        Session(written),
        image,
        prepared.background,
        metadata["window"],
        len(metadata["regions"]),
        plan,
        never,
        never,
    )
    inside = (image != 0).any(dim=0) & prediction.covered
    found = prepared.geometry.restore((prediction.logits.sigmoid() * inside).numpy())
    label_map = np.zeros(wanted.shape, np.uint8)
    for region, probability in zip(metadata["regions"], found):
        label_map[probability > metadata["threshold"]] = region["label_value"]
    assert set(np.unique(wanted)) > {0} and (label_map != wanted).mean() < 1e-4


def test_file_with_different_output_is_discarded_and_the_old_one_kept(model, written, tmp_path, monkeypatch):
    other = write_brain_model(tmp_path / "other", with_full=True, seed=2)
    monkeypatch.setattr(onnx_file, "_recorded", lambda source: onnx.load(written))
    target = tmp_path / "out" / "x.onnx"
    target.parent.mkdir()
    target.write_bytes(b"before")
    with pytest.raises(ModelError, match="does not compute what 'test model' does"):
        onnx_file.write_onnx(source_of(load_model(other, "cpu"), "full"), target)
    assert target.read_bytes() == b"before" and list(target.parent.iterdir()) == [target]


def test_exporter_and_runtime_failures_are_one_sentence(model, written, tmp_path, monkeypatch):
    source = source_of(load_model(model, "cpu"), "full")

    def fail(*_, **__):
        raise RuntimeError("no such operator.\n  a long story")

    with monkeypatch.context() as patched:
        patched.setattr(torch.onnx, "export", fail)
        with pytest.raises(
            ModelError, match=r"\(unet\) cannot be written as ONNX with PyTorch .*: no such operator\.$"
        ):
            onnx_file.write_onnx(source, tmp_path / "x.onnx")
    narrow = source_of(load_model(model, "cpu"), "limited")  # three channels for a file with four
    monkeypatch.setattr(onnx_file, "_recorded", lambda source: onnx.load(written))
    with pytest.raises(ModelError, match="ONNX Runtime cannot run 1 window"):
        onnx_file.write_onnx(narrow, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_package_is_reported_with_the_install_command(package, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(model), "--onnx", str(tmp_path / "x.onnx")]) == 2
    error = capsys.readouterr().err
    assert f'({package} is missing): pip install "slicer-dante[export]"' in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("pathway", ["limited", "full"])
@pytest.mark.parametrize("name", ["brats-without-t1ce", "embolism-without-contrast"])
def test_embedded_models_export_to_onnx(name, pathway, brain_model_folder, tmp_path):
    source = source_of(load_model(brain_model_folder.parent / name, "cpu"), pathway)
    found = onnx_file.write_onnx(source, tmp_path / "x.onnx")
    assert max(found.on_noise, found.on_patient) < 5e-3 and found.largest_logit > 5
