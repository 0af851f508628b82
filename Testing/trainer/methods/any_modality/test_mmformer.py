from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder import NetworkSpec
from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.methods.any_modality import mmformer
from DanteTrainerLib.methods.segmentation_loss import region_loss
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tasks import BRAIN, CHEST

PRIVILEGED = BRAIN.full.index("t1ce")


def stage_of(*overrides):
    return mmformer.stages(small("mmformer", *overrides), BRAIN)[0]


def always(monkeypatch, kept):
    """The privileged modality is present in every sample, or in none."""
    present = torch.ones(2, 4)
    present[:, PRIVILEGED] = kept
    monkeypatch.setattr(mmformer, "draw_present", lambda *_: present)


def test_every_term_is_weighted_and_together_they_reach_all_parts():
    stage = stage_of("mmformer.separate_weight=0.5", "mmformer.coarse_weight=0.25")
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "separate": 0.5, "coarse": 0.25}
    terms.total.backward()
    assert not [name for name, p in stage.networks.named_parameters() if p.grad is None or not p.grad.any()]


def test_dropped_modality_occurs_only_in_its_own_term(monkeypatch):
    always(monkeypatch, 0.0)
    stage = stage_of("mmformer.dropout=0")
    other = replace(batch(), images=batch().images.clone())
    other.images[:, PRIVILEGED] *= -2
    plain, changed = (stage.loss(b, context(0)).terms for b in (batch(), other))
    same = {name: torch.equal(plain[name].value, changed[name].value) for name in plain}
    assert same == {"segmentation": True, "separate": False, "coarse": True}


def test_present_modality_occurs_in_all_terms(monkeypatch):
    always(monkeypatch, 1.0)
    stage = stage_of("mmformer.dropout=0")
    other = replace(batch(), images=batch().images.clone())
    other.images[:, PRIVILEGED] *= -2
    plain, changed = (stage.loss(b, context(0)).terms for b in (batch(), other))
    assert not any(torch.equal(plain[name].value, changed[name].value) for name in plain)


def test_transformer_dropout_follows_the_setting():
    def value(dropout, seed):
        stage = stage_of(f"mmformer.dropout={dropout}")
        torch.manual_seed(seed)
        return stage.loss(batch(), context(0)).total.item()

    assert value(0.0, 1) == value(0.0, 2) and value(0.5, 1) == value(0.5, 1) != value(0.5, 2)


def test_logits_of_any_resolution_are_upsampled_to_the_image():
    example, fine = batch(), torch.randn(2, 3, 16, 16, 16)
    values = torch.tensor([0.3, -1.0, 2.0]).view(1, 3, 1, 1, 1)
    found = mmformer.full_resolution_loss([fine, values.expand(2, 3, 4, 4, 4)], example, BRAIN)
    wanted = [region_loss(logits, example.regions) for logits in (fine, values.expand_as(fine))]
    assert found.item() == pytest.approx(sum(wanted).item())


@pytest.mark.parametrize(("stages", "sizes"), [(3, [16, 8]), (6, [16, 8, 4, 2])])
def test_every_resolution_down_to_the_tokens_has_a_head(stages, sizes, monkeypatch):
    spec = NetworkSpec((2,) * stages, ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1), ((3, 3, 3),) * stages, 1)
    experiment = small("mmformer")
    experiment = replace(experiment, network=spec, data=replace(experiment.data, patch=(32, 32, 32)))
    stage, judged = mmformer.stages(experiment, BRAIN)[0], []

    def loss(all_logits, *_):
        judged.append([logits.shape[2] for logits in all_logits])
        return torch.zeros(())

    monkeypatch.setattr(mmformer, "full_resolution_loss", loss)
    images = torch.randn(2, 4, 32, 32, 32)
    stage.loss(Batch(images, torch.ones(2, 3, 32, 32, 32), images[:, :1] != 0), context(0))
    assert judged == [[32], [32] * 4, sizes]


def test_two_modalities_with_one_privileged_suffice():
    stage = mmformer.stages(small("mmformer"), CHEST)[0]
    images, regions = torch.randn(2, 2, 16, 16, 16), (torch.rand(2, 1, 16, 16, 16) > 0.7).float()
    example = Batch(images, regions, images[:, :1] != 0)
    terms = stage.loss(example, context(0))
    assert torch.isfinite(terms.total)
    deployed = stage.deployed["limited"]
    assert deployed.modalities == ("nct",)
    assert torch.allclose(deployed.network()(images[:, :1]), stage.predict(images), atol=1e-5)


def test_model_folder_stores_the_transformer_options():
    experiment = load_experiment("brats-1mm", ["mmformer.token_width=64", "mmformer.narrowing=1"], method="mmformer")
    options = experiment.mmformer.options
    assert (options.token_width, options.heads, options.mlp_width, options.layers, options.narrowing) == (
        64, 8, 4096, 1, 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mmformer.heads=7", "mmformer.token_width must be a multiple of heads, 7, got 128"),
        ("mmformer.layers=0", "mmformer.layers must be at least 1, got 0"),
        ("mmformer.dropout=1.0", "mmformer.dropout must be at most 0.9, got 1"),
    ],
)
def test_invalid_transformer_options_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment("brats-2mm", [setting])
