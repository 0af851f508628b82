"""For a dropped scan, the network sees the background value in its channel."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import write_dataset
from models import LIMITED, LPS_2MM, study, write_brain_model
from torch import nn

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.model_folder import read_spec, write_spec
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.preprocess import prepare
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.evaluation.dropping import FilledNetwork, without
from DanteTrainerLib.evaluation.evaluate import evaluate, read_summary
from DanteTrainerLib.evaluation.evaluated_model import with_one_network
from DanteTrainerLib.release.provenance import provenance, write_provenance
from DanteTrainerLib.release.publish import publish
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def test_given_channels_keep_their_order_around_filled_ones():
    network = FilledNetwork(nn.Identity(), (-1.5, None, 0.0, None))
    given = torch.randn(2, 2, 3, 4, 5)
    out = network(given)
    assert out.shape == (2, 4, 3, 4, 5)
    assert (out[:, 0] == -1.5).all() and (out[:, 2] == 0).all()
    torch.testing.assert_close(out[:, (1, 3)], given, rtol=0, atol=0)


class Blind(nn.Module):
    """A network whose input is 0 in some channels."""

    def __init__(self, network, channels):
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, image):
        seen = image.clone()
        seen[:, self.channels] = 0
        return self.network(seen)


@pytest.mark.parametrize("dropped", [["t2"], ["t1"], ["t1", "flair"]])
def test_dropped_channel_is_filled_with_its_background(tmp_path, dropped, monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.inference.segmenting.fastest_dtype", lambda _: torch.float32)
    model, volumes = load_model(write_brain_model(tmp_path), "cpu"), study()
    limited, asked = model.spec.limited, SegmentOptions(probabilities=True)
    blind = Blind(model.network(limited), [LIMITED.index(modality) for modality in dropped])
    wanted = segment(with_one_network(model, limited, blind), volumes, asked)
    as_it_is = segment(model, volumes, asked)

    less = without(model, limited, dropped)
    given = {modality: volume for modality, volume in volumes.items() if modality not in dropped}
    found = segment(less, given, asked)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)
    assert np.abs(found.probabilities - as_it_is.probabilities).max() > 0.1
    assert found.modality == next(iter(given))
    with pytest.raises(InputError, match="unknown modality t3"):
        segment(less, {**volumes, "t3": volumes["t1"]})


@pytest.mark.parametrize(("rule", "air"), [(BRAIN.normalisation["t1"], 0), (CHEST.normalisation["nct"], -3000)])
def test_dropped_scan_is_replaced_by_prepared_air(rule, air, tmp_path):
    spec = read_spec(write_brain_model(tmp_path))
    rules = replace(spec.preprocessing, normalisation=dict.fromkeys(spec.preprocessing.normalisation, rule))
    write_spec(tmp_path, replace(spec, preprocessing=rules))
    less = without(load_model(tmp_path, "cpu"), spec.limited, ["t2"])
    first, t2, last = less.network(less.spec.limited).fill
    array = np.full((6, 6, 6), air, np.float32)
    array[:3] = np.random.default_rng(0).uniform(20, 90, (3, 6, 6))
    array[5, 5, 5] = 40  # the box is the whole volume
    tensor = prepare({"t1": Volume(array, LPS_2MM)}, ["t1"], rules).tensor
    assert (first, last) == (None, None) and t2 == tensor[0, 5, 0, 0]


@pytest.mark.parametrize(
    ("full", "dropped", "sentence"),
    [
        (False, ["t1ce"], "'t1ce' cannot be dropped: this network of 'test model' reads t1, t2, flair."),
        (True, ["t2", "adc"], "'adc' cannot be dropped: this network of 'test model' reads t1, t1ce, t2, flair."),
        (False, [""], "'' cannot be dropped: this network of 'test model' reads t1, t2, flair."),
        (False, ["flair", "t1", "t2"], "all that 'test model' reads (t1, t2, flair) would be dropped; leave it one"),
    ],
)
def test_invalid_drop_is_one_sentence(tmp_path, full, dropped, sentence):
    spec = (model := load_model(write_brain_model(tmp_path, with_full=True), "cpu")).spec
    with pytest.raises(InputError) as refused:
        without(model, spec.full if full else spec.limited, dropped)
    assert str(refused.value).startswith(sentence)


@pytest.fixture
def data(tmp_path):
    """Its test case has no T2."""
    folder = write_dataset(tmp_path / "data")
    (folder / "E" / "E_t2.nii.gz").unlink()
    return folder


def test_scores_without_a_scan_are_marked_and_need_no_such_scan(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = write_brain_model(tmp_path / "model", with_full=True)
    command = ["evaluate", str(model), "--data", str(data), "--device", "cpu", "--quiet"]
    assert main([*command, "--drop", "t2"]) == 0
    assert "without t2 (the network's value of background in its place)." in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation-test-without-t2/summary.json").read_text())["dropped"] == ["t2"]
    assert main([*command, "--drop", "t2,t1ce", "--drop", "t1", "--drop", "t2", "--full"]) == 0
    summary = read_summary(tmp_path / "evaluation-test-without-t2-t1ce-t1")
    assert (summary.dropped, summary.pathway, summary.cases) == (("t2", "t1ce", "t1"), "full", 1)
    assert main(command) == 2
    assert "'E' has no t2" in capsys.readouterr().err


def test_scores_without_a_scan_are_not_published(data, tmp_path):
    from DanteTrainerLib.data.dataset import read_dataset, read_split

    model, dataset, out = write_brain_model(tmp_path / "model"), read_dataset(data), tmp_path / "out"
    evaluate(model, dataset, read_split(dataset), "test", out, "cpu", quiet=True, dropped=["t2"])
    write_provenance(model, provenance(load_experiment("brats-2mm"), read_split(dataset), (), 60.0))
    card = tmp_path / "card.toml"
    card.write_text('name = "n"\nversion = "1"\nlicence = "l"\nintended_use = "i"\ntraining_data = "t"\n')
    with pytest.raises(InputError, match="were made without t2"):
        publish(model, card, [out], tmp_path / "public")
    assert not (tmp_path / "public").exists()
