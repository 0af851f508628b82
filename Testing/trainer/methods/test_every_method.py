"""Common to all methods: no privileged scan is needed, a model folder results, and stopping changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_trainings import small, train, with_teacher
from steps import batch, context

from DanteSegmenterLib.cases.case_folder import read_case_folder
from DanteSegmenterLib.errors import Cancelled, ConfigError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.model_folder import sha256_of
from DanteTrainerLib.evaluation.cost import cost_of
from DanteTrainerLib.loop.compilation import compiled_parts
from DanteTrainerLib.methods import METHODS
from DanteTrainerLib.methods.any_modality.modality_dropout import WITHOUT_PRIVILEGED
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run, stages_of
from DanteTrainerLib.settings.loading import changed_experiment
from DanteTrainerLib.settings.tables import DroppingSettings, OptimiserSettings
from DanteTrainerLib.settings.tasks import BRAIN

WITHOUT_PRIVILEGE = [name for name in METHODS if name != "upper"]


def settings(method, teacher):
    experiment = small(method)
    try:
        METHODS[method](experiment, BRAIN)
    except ConfigError:  # it needs one
        return with_teacher(experiment, teacher)
    return experiment


@pytest.mark.parametrize("method", WITHOUT_PRIVILEGE)
def test_deployed_network_never_sees_the_privileged_scan(method, teacher):
    stage = stages_of(settings(method, teacher), BRAIN)[-1]
    images = batch().images
    other = images.clone()
    other[:, BRAIN.full.index("t1ce")] += 5
    assert torch.equal(stage.predict(images), stage.predict(other))
    deployed = stage.deployed["limited"]
    assert deployed.modalities == BRAIN.limited
    network = deployed.network().eval()
    assert torch.allclose(network(images[:, BRAIN.limited_channels]), stage.predict(images), atol=1e-4)


@pytest.mark.parametrize("own_pretraining", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_learning_rate_named_by_a_failed_stage_is_its_own_and_can_be_changed(method, own_pretraining, teacher):
    experiment = settings(method, teacher)
    if own_pretraining:
        experiment = replace(experiment, pretrain_optimiser=OptimiserSettings(learning_rate=0.5))
    for stage in stages_of(experiment, BRAIN):
        changed = changed_experiment(experiment, [f"{stage.rate_setting}=0.25"])
        again = next(other for other in stages_of(changed, BRAIN) if other.name == stage.name)
        assert (again.optimiser or changed.optimiser).learning_rate == 0.25


@pytest.mark.parametrize("method", METHODS)
def test_every_deployed_convolution_is_in_a_compiled_part(method, teacher):
    network = stages_of(settings(method, teacher), BRAIN)[-1].deployed["limited"].network()
    inside = {id(layer) for part in compiled_parts(network) for layer in part.modules()}
    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Conv3d, torch.nn.ConvTranspose3d))]
    heads = {id(layer) for name, layer in network.named_modules() if ".heads." in name}
    assert layers and not [layer for layer in layers if id(layer) not in inside | heads]


@pytest.mark.parametrize("method", METHODS)
def test_equal_views_give_only_dropping_methods_more_steps(method, teacher):
    equal = DroppingSettings(probability=0.25, equal_views=True)
    experiment = replace(settings(method, teacher), dropping=equal)
    stage = stages_of(experiment, BRAIN)[-1]
    one = stage.loss(batch(), replace(context(stage.steps), steps=stage.steps))
    assert (WITHOUT_PRIVILEGED in one.logged) == (stage.steps > experiment.run.steps)
    assert stage.steps == experiment.supervised_steps


@pytest.mark.parametrize("method", WITHOUT_PRIVILEGE)
def test_model_folder_segments_without_the_privileged_scan(data, teacher, tmp_path, method):
    model = train(data, tmp_path / "run", settings(method, teacher))
    assert cost_of(load_model(model, "cpu")).multiply_adds > 0
    volumes = read_case_folder(data / "A").read_images()
    result = segment(load_model(model, "cpu"), {name: volumes[name] for name in BRAIN.limited})
    assert result.label_map.shape == volumes["t1"].shape


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5, 12])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_training_is_bit_identical(data, teacher, tmp_path, method, steps):
    experiment, whole, stopped = settings(method, teacher), tmp_path / "whole", tmp_path / "stopped"
    train(data, whole, experiment)
    start_run(experiment, data, stopped)
    asked = iter([False] * (steps - 1) + [True])
    try:
        continue_run(stopped, "cpu", quiet=True, stop=lambda: next(asked, False))
    except Cancelled:
        continue_run(stopped, "cpu", quiet=True)
    for path in (whole / "model").glob("*.safetensors"):
        assert sha256_of(path) == sha256_of(stopped / "model" / path.name)
