"""A published model is complete and its own, without paths or patients; an earlier one is never lost."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from models import write_brain_model
from safetensors.numpy import load_file, save_file

from DanteSegmenterLib.errors import ConfigError, DanteError, InputError, ModelError, ResourceError
from DanteSegmenterLib.model_folder import Calibration, read_spec, sha256_of, write_spec
from DanteSegmenterLib.strict_dataclass import to_plain
from DanteTrainerLib.data.dataset import Split
from DanteTrainerLib.evaluation.evaluate import SUMMARY_FILE, RegionSummary, Summary
from DanteTrainerLib.release import publish as publishing
from DanteTrainerLib.release.provenance import provenance, read_provenance, write_provenance
from DanteTrainerLib.release.publish import publish
from DanteTrainerLib.settings.loading import load_experiment

CARD = 'name="N"\nversion="2"\nlicence="x"\nintended_use="y"\ntraining_data="z"\n'
SPLIT = Split(("MUELLER_HANS_19500101", "SCHMIDT_EVA"), ("P3",), ("P4",))


@pytest.fixture
def model(tmp_path):
    folder = write_brain_model(tmp_path / "model")
    write_provenance(folder, provenance(load_experiment("brats-2mm"), SPLIT, (), 60.0))
    return folder


@pytest.fixture
def card(tmp_path):
    (tmp_path / "card.toml").write_text(CARD)
    return tmp_path / "card.toml"


@pytest.fixture
def published(model, card, tmp_path):
    publish(model, card, [], tmp_path / "public")
    return tmp_path / "public"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_weights(model, change):
    """Change weights, with a matching model.json."""
    path = model / "limited.safetensors"
    weights = load_file(path)
    change(next(iter(weights.values())))
    save_file(weights, path)
    spec = read_spec(model)
    write_spec(model, replace(spec, limited=replace(spec.limited, sha256=sha256_of(path))))


def infinite(array):
    array.flat[0] = np.inf


def beyond_half(array):
    array.flat[0] = 1e6


def flip_a_bit(model):
    content = bytearray((model / "limited.safetensors").read_bytes())
    content[-5] ^= 1
    (model / "limited.safetensors").write_bytes(content)


def without_provenance(model):
    (model / "provenance.json").unlink()


def nested(model):
    (model / "provenance.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (flip_a_bit, ModelError),
        (without_provenance, InputError),
        (nested, InputError),
        (lambda model: change_weights(model, infinite), ModelError),
    ],
)
def test_unpublishable_model_keeps_the_published_one(model, card, published, damage, error):
    before = content(published)
    damage(model)
    with pytest.raises(error):
        publish(model, card, [], published)
    assert content(published) == before and not list(published.parent.glob(".*"))


def write_summary(folder, pathway, confidence, weights, mirror=False):
    """An evaluation of two cases, Dice 0.8; without its table, as from an older version."""
    folder.mkdir()
    calibration = Calibration(2, confidence, 0.5, 0.5)
    whole = RegionSummary(0.81234, (0.7, 0.9), 2, None, (None, None), 0, 0.8, 9.0, calibration)
    summary = Summary("test model", pathway, "test", 2, {"WT": whole}, mirror, weights)
    (folder / SUMMARY_FILE).write_text(json.dumps(to_plain(summary)))
    return folder


def test_each_network_gets_the_scores_and_calibration_of_its_own_evaluation(card, tmp_path):
    model = write_brain_model(tmp_path / "both", with_full=True)
    write_provenance(model, provenance(load_experiment("brats-2mm"), SPLIT, (), 60.0))
    spec = read_spec(model)
    evaluations = [
        write_summary(tmp_path / "l", "limited", 0.6, spec.limited.digest),
        write_summary(tmp_path / "f", "full", 0.7, spec.full.digest, mirror=True),
    ]
    for given in (evaluations, evaluations[::-1]):
        published = publish(model, card, given, tmp_path / "public")
        assert [p.calibration["WT"].confidence for p in published.pathways.values()] == [0.6, 0.7]
        assert published.scores == {
            "Scores (test split, 2 cases)": {"WT Dice": 0.8123},
            "Scores (test split, 2 cases with the privileged scan, mirrored)": {"WT Dice": 0.8123},
        }
    assert not publish(model, card, evaluations[:1], tmp_path / "public").full.calibration


@pytest.mark.parametrize("pathway", ["limited", "full"])  # it has no full pathway
def test_scores_of_other_weights_are_refused(model, card, tmp_path, pathway):
    digest = "0" * 64 if pathway == "limited" else read_spec(model).limited.digest
    with pytest.raises(InputError, match="are those of other weights. Evaluate this model first"):
        publish(model, card, [write_summary(tmp_path / "e", pathway, 0.6, digest)], tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_weights_beyond_half_precision_are_refused(model, card, tmp_path):
    change_weights(model, beyond_half)
    publish(model, card, [], tmp_path / "single")
    with pytest.raises(ModelError, match="not finite"):
        publish(model, card, [], tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def test_model_can_be_published_onto_itself(model, card):
    spec = publish(model, card, [], model)
    assert read_spec(model) == spec and spec.version == "2"
    assert sorted(content(model)) == ["README.md", "limited.safetensors", "model.json", "provenance.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_late_failure_keeps_the_published_model(model, card, published, monkeypatch, error):
    before = content(published)

    def fail(*_):
        raise error

    monkeypatch.setattr(publishing, "write_spec", fail)
    with pytest.raises((DanteError, KeyboardInterrupt)):
        publish(model, card, [], published)
    assert content(published) == before and not list(published.parent.glob(".*"))


@pytest.mark.parametrize("name", ["thesis.txt", "evaluation-test/cases.csv"])
def test_folder_with_other_files_is_not_replaced(model, card, published, name):
    (published / name).parent.mkdir(exist_ok=True)
    (published / name).write_text("two years of work")
    before = sorted(published.rglob("*"))
    with pytest.raises(ResourceError, match="holds more than a model"):
        publish(model, card, [], published)
    assert sorted(published.rglob("*")) == before


def test_model_unreadable_by_this_version_is_replaced(model, card, published):
    spec = json.loads((published / "model.json").read_text())
    spec["preprocessing"]["normalisation"]["t1"]["kind"] = "hu_window"
    (published / "model.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError):
        read_spec(published)
    publish(model, card, [], published)
    assert read_spec(published).name == "N"


def test_folder_or_file_that_is_no_model_is_not_replaced(model, card, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "model.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    for target in (home, tmp_path / "file", tmp_path):
        with pytest.raises(ResourceError, match="is no model folder"):
            publish(model, card, [], target)
    with pytest.raises(ResourceError, match="does not exist"):
        publish(model, card, [], tmp_path / "no" / "where")


def test_macos_system_files_are_ignored(model, card, published):
    for name in (".DS_Store", "._model.json"):
        (published / name).touch()
    publish(model, card, [], published)
    assert sorted(content(published)) == ["README.md", "limited.safetensors", "model.json", "provenance.json"]


@pytest.mark.parametrize("content", [b'name="M\xfc"', b"name=", b"[" * 5000, None])
def test_invalid_card_is_one_sentence(model, tmp_path, content):
    if content is not None:
        (tmp_path / "card.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="the card"):
        publish(model, tmp_path / "card.toml", [], tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_card_with_a_byte_order_mark_is_read(model, tmp_path):
    (tmp_path / "card.toml").write_text(CARD, encoding="utf-8-sig")
    assert publish(model, tmp_path / "card.toml", [], tmp_path / "public").name == "N"


def test_provenance_contains_numbers_and_digests_but_no_paths_or_names(model, card, tmp_path):
    overrides = [f"distillation.teacher={model}", f"data.pretrain_folders=['{tmp_path}/dr.alice/BraTS']"]
    experiment = load_experiment("brats-2mm", overrides, method="mmanet")
    plain = provenance(experiment, SPLIT, ["WEBER_A", "WEBER_B"], 3600.0)
    text = json.dumps(plain)
    for word in ("MUELLER", "SCHMIDT", "WEBER", "P3", str(tmp_path), "dr.alice", os.uname().nodename):
        assert word not in text
    assert {part: plain["cases"][part] for part in ("train", "val", "test")} == {"train": 2, "val": 1, "test": 1}
    assert plain["teacher"]["sha256"] == read_spec(model).limited.sha256 and plain["pretraining"]["cases"] == 2
    other = provenance(experiment, replace(SPLIT, test=("P5",)), ["WEBER_A", "WEBER_B"], 3600.0)
    assert other["cases"]["sha256"] != plain["cases"]["sha256"]


def test_names_and_folders_of_an_older_model_are_not_published(model, card, tmp_path):
    plain = json.loads((model / "provenance.json").read_text())
    plain["experiment"]["data"]["pretrain_folders"] = ["/home/dr.alice/BraTS"]
    plain["cases"] = {"train": ["MUELLER_HANS_19500101"], "val": [], "test": ["SCHMIDT_EVA"]}
    plain["notes"] = "from dr.alice"
    (model / "provenance.json").write_text(json.dumps(plain))
    publish(model, card, [], tmp_path / "public")
    text = (tmp_path / "public" / "provenance.json").read_text()
    assert "MUELLER" not in text and "alice" not in text and "SCHMIDT" not in text
    assert json.loads(text)["cases"]["train"] == 1 and read_provenance(tmp_path / "public")[0][1].method == "lower"
    shutil.rmtree(model)
    publish(tmp_path / "public", card, [], tmp_path / "again")
    assert (tmp_path / "again" / "provenance.json").read_text() == text
