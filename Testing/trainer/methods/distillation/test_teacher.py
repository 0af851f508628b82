import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_trainings import small, train, with_teacher
from steps import batch

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.inference import load_model
from DanteTrainerLib.methods.distillation import teacher as teachers
from DanteTrainerLib.methods.distillation.teacher import read_teacher
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def test_missing_teacher_is_reported_with_advice():
    with pytest.raises(ConfigError, match="train 'upper' first"):
        read_teacher(small("mmanet"), BRAIN)


def test_teacher_must_read_all_modalities_and_segment_the_same_regions(data, teacher, tmp_path):
    lower = train(data, tmp_path / "lower", small("lower"))
    with pytest.raises(ConfigError, match="segment WT, TC, ET and read t1, t1ce, t2, flair"):
        read_teacher(with_teacher(small("mmanet"), lower), BRAIN)
    with pytest.raises(ConfigError, match="segment PE and read nct, ctpa"):
        read_teacher(with_teacher(small("mmanet"), teacher), CHEST)


def test_teacher_must_have_the_same_preprocessing(teacher):
    coarse = replace(BRAIN, normalisation=dict.fromkeys(BRAIN.normalisation, CHEST.normalisation["nct"]))
    with pytest.raises(ConfigError, match="the normalisation of t1, t1ce, t2, flair. Train it again"):
        read_teacher(with_teacher(small("mmanet"), teacher), coarse)


def test_feature_distillation_requires_the_backbone_sizes(teacher):
    experiment = with_teacher(small("mmanet"), teacher)
    smaller = replace(experiment, network=replace(experiment.network, features=(2, 4, 4)))
    with pytest.raises(ConfigError, match="must have the experiment's network numbers"):
        read_teacher(smaller, BRAIN, features=True)
    assert read_teacher(smaller, BRAIN)  # its logits can still be distilled


def test_teacher_is_the_network_of_its_folder_and_never_updated(teacher):
    images = batch().images
    found = read_teacher(with_teacher(small("mmanet"), teacher), BRAIN, features=True)
    model = load_model(teacher, "cpu")
    features, logits = found.features_and_logits(images)
    assert torch.equal(logits, model.network(model.spec.limited)(images)) and torch.equal(found.logits(images), logits)
    assert [f.shape[1] for f in features] == [4, 8, 8] and not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_full_pathway_can_be_a_teacher(data, tmp_path):
    folder = train(data, tmp_path / "dante", small("dante", "run.pretrain_steps=0"))
    images = batch().images
    found = read_teacher(with_teacher(small("mmanet"), folder), BRAIN, features=True)
    model = load_model(folder, "cpu")
    assert torch.equal(found.logits(images), model.network(model.spec.full)(images))


def test_teacher_without_maps_distils_only_its_logits(teacher, monkeypatch):
    spec, network = load_model(teacher, "cpu").spec, torch.nn.Conv3d(4, 3, 1)
    monkeypatch.setattr(teachers, "load_model", lambda *_: SimpleNamespace(spec=spec, network=lambda _: network))
    experiment, images = with_teacher(small("mmanet"), teacher), batch().images
    with pytest.raises(ConfigError, match="which has no feature maps to learn from"):
        read_teacher(experiment, BRAIN, features=True)
    assert torch.equal(read_teacher(experiment, BRAIN).logits(images), network(images))


def test_last_map_is_the_input_of_the_logits(teacher):
    images, found = batch().images, read_teacher(with_teacher(small("pmkl"), teacher), BRAIN, features=True)
    last, logits = found.last_map_and_logits(images)
    assert last.shape == (2, 4, 16, 16, 16) and torch.equal(logits, found.logits(images))
    assert torch.equal(found.network.decoder.heads[0](last), logits) and not last.requires_grad


def test_teacher_with_dropout_is_deterministic_during_training():
    dropping = teachers.Teacher(torch.nn.Dropout(0.5)).train()
    assert torch.equal(dropping.logits(torch.ones(100)), torch.ones(100))


def test_teacher_of_any_architecture_is_frozen():
    network = torch.nn.Conv3d(1, 1, 1)
    assert not any(parameter.requires_grad for parameter in teachers.Teacher(network).parameters())


def test_unknown_architecture_is_refused(teacher, tmp_path):
    folder = shutil.copytree(teacher, tmp_path / "model")
    spec = json.loads((folder / "model.json").read_text())
    spec["limited"]["architecture"] = "perceiver"
    (folder / "model.json").write_text(json.dumps(spec))
    with pytest.raises(Exception, match="architecture 'perceiver'"):
        read_teacher(with_teacher(small("mmanet"), folder), BRAIN)
