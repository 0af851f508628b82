"""Fine-tuning, and initial weights from any earlier stage."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_trainings import small, train
from torch import nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder import Normalisation, read_spec, write_spec
from DanteTrainerLib.loop.checkpoint import save_checkpoint
from DanteTrainerLib.loop.stage import LossTerms, Origin, Stage
from DanteTrainerLib.methods.same_images import check_same_images
from DanteTrainerLib.release.provenance import read_provenance
from DanteTrainerLib.run.initial_weights import carry
from DanteTrainerLib.run.run_folder import read_run
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.settings.tasks import BRAIN


@pytest.fixture(scope="module")
def lower(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("lower") / "run", small("lower"))


def weights(model):
    return load_file(str(model / "limited.safetensors"))


def test_run_from_a_model_folder_without_updates_keeps_its_weights(data, lower, tmp_path):
    still = ["optimiser.learning_rate=1e-30", f"begin_with={lower}", "seed=7"]
    tuned = train(data, tmp_path / "tuned", small("lower", *still))
    before, after = weights(lower), weights(tuned)
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh = train(data, tmp_path / "fresh", small("lower", "optimiser.learning_rate=1e-30", "seed=7"))
    assert not torch.equal(weights(fresh)["encoder.stages.0.0.0.weight"], before["encoder.stages.0.0.0.weight"])
    ((provenance, experiment),) = read_provenance(tuned)
    assert str(lower) not in str(provenance) and provenance["began_with"]["sha256"] and not experiment.begin_with


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("upper", [], "has no U-Net that reads t1, t1ce, t2, flair"),
        ("dante", [], "begin_with is for 'lower' and 'upper'; 'dante' begins with random weights"),
        ("lower", ["network.convs_per_stage=2"], "is not of this experiment's modalities and network numbers"),
    ],
)
def test_mismatch_is_reported_before_the_run_exists(data, lower, tmp_path, method, words, message):
    experiment = small(method, f"begin_with={lower}")
    if words:
        experiment = replace(experiment, network=replace(experiment.network, convs_per_stage=2))
    with pytest.raises(ConfigError, match=message):
        start_run(experiment, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_model_with_different_preprocessing_is_refused(data, lower, tmp_path):
    other = shutil.copytree(lower, tmp_path / "other")
    spec = read_spec(other)
    rules = {**spec.preprocessing.normalisation, "t2": Normalisation("ct_window", 0, 80, 40, 20)}
    write_spec(other, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=rules)))
    with pytest.raises(ConfigError, match="prepared in another way: it differs in the normalisation of t2. Train"):
        train(data, tmp_path / "run", small("lower", f"begin_with={other}"))
    with pytest.raises(ConfigError, match="it differs in orientation"):
        check_same_images("F", spec, replace(BRAIN, orientation="RAS"))


def test_weights_come_from_any_earlier_stage(data, lower, tmp_path):
    def stage(name, value, **options):
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, value)
        return Stage(name, nn.ModuleDict({"net": network}), 1, lambda *_: LossTerms({}), **options)

    run = read_run(lower.parent)
    stages = [stage("a", 1.0), stage("b", 2.0), stage("c", 3.0, carried={"net": Origin("net", stage="a")})]
    for earlier in stages[:2]:
        state = {"run": run.id, "step": 1, "networks": earlier.networks.state_dict()}
        save_checkpoint(tmp_path, state, f"{earlier.name}.pt")
    carry(run, tmp_path, stages, 2)
    assert stages[2].networks["net"].weight.item() == 1.0
    stages[2] = stage("c", 3.0, carried={"net": Origin("net")})
    carry(run, tmp_path, stages, 2)
    assert stages[2].networks["net"].weight.item() == 2.0
