from dataclasses import replace

import pytest
import torch
from small_trainings import small, with_teacher
from steps import batch, context
from teachers import chest_batch, stage_factory, teacher_without_maps, unet_teacher, unused_parameters
from torch.nn import functional

from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.loop.optimiser import optimiser_of
from DanteTrainerLib.methods import bounds
from DanteTrainerLib.methods.distillation import pmkl
from DanteTrainerLib.methods.distillation.losses import contrast
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


@pytest.fixture
def make_stage(monkeypatch):
    return stage_factory(monkeypatch, pmkl, "pmkl")


def test_terms_have_the_published_weights_and_update_everything_except_the_teacher(teacher):
    stage = pmkl.stages(with_teacher(small("pmkl"), teacher), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "contrast": 0.5, "distillation": 0.5}
    assert not unused_parameters(stage, terms)
    assert all(p.grad is None for p in stage.networks["teacher"].parameters())


def test_contrast_updates_both_heads_and_the_student(make_stage):
    stage = make_stage()
    stage.freeze(0.5)
    stage.loss(batch(), context(0)).terms["contrast"].value.backward()
    for part in ("student", "teacher"):
        assert all(p.grad.abs().sum() > 0 for p in stage.networks["heads"][part].parameters())
    assert stage.networks["student"].encoder.stages[0][0][0].weight.grad.abs().sum() > 0


def test_learning_rate_of_the_heads_is_low_enough_to_separate_images(make_stage):
    """At the networks' rate they soon output the same for every image: 1/2 apart, which costs 1/4, and stay so."""
    torch.manual_seed(0)
    images = [(torch.randn(2, 4, 16, 16, 16) + 1).relu() for _ in range(4)]
    last = {}
    for rate in ("1", "0.01"):
        stage = make_stage(BRAIN, unet_teacher, f"pmkl.head_rate={rate}")
        heads = torch.nn.ModuleDict({"heads": stage.networks["heads"]})
        optimiser = optimiser_of(replace(stage, networks=heads), small("pmkl").optimiser)
        for group in optimiser.param_groups:
            group["lr"] *= group["factor"]
        for n in range(200):
            optimiser.zero_grad()
            value = contrast(*(heads["heads"][name](images[n % 4]) for name in ("student", "teacher")), 1.0)
            value.backward()
            optimiser.step()
        last[rate] = value.item()
    assert last["1"] == pytest.approx(0.25, abs=0.01) and last["0.01"] < 0.1


def test_distillation_equals_its_formula(make_stage):
    stage, data = make_stage(), batch()
    with torch.no_grad():
        value = stage.loss(data, context(0)).terms["distillation"].value
        s = stage.networks["student"](data.images[:, BRAIN.limited_channels]).double()
        t = stage.networks["teacher"].network(data.images).double()
    y = data.regions.double()
    missed = [functional.binary_cross_entropy(z.sigmoid(), y, reduction="none") for z in (s, t)]
    weights = (missed[0] - missed[1]).clamp_min(0) * ((t.sigmoid() > 0.5) == y.bool())
    p, q = (t / 10).sigmoid(), (s / 10).sigmoid()
    expected = (weights * -(p * q.log() + (1 - p) * (1 - q).log())).sum() / weights.sum()
    assert weights.sum() > 0 and value.item() == pytest.approx(expected.item(), rel=1e-4)


def test_network_starts_like_the_lower_bound_and_sees_the_same_input(make_stage):
    lower = bounds.lower(small("lower"), BRAIN)[0]
    same = lower.loss(batch(), context(0)).terms["segmentation"].value
    assert torch.equal(make_stage().loss(batch(), context(0)).terms["segmentation"].value, same)


def test_contrast_of_a_single_image_is_finite(make_stage):
    data = batch()
    terms = make_stage().loss(Batch(data.images[:1], data.regions[:1], data.foreground[:1]), context(0))
    assert all(term.value.isfinite() for term in terms.terms.values()) and "contrast" in terms.terms


def test_without_the_contrast_term_the_teacher_needs_no_maps_and_there_are_no_heads(make_stage):
    stage = make_stage(BRAIN, teacher_without_maps, "pmkl.contrast_weight=0")
    terms = stage.loss(batch(), context(0))
    assert set(terms.terms) == {"segmentation", "distillation"} and "heads" not in stage.networks
    assert not unused_parameters(stage, terms)


def test_zero_weights_give_the_lower_bound(make_stage):
    stage = make_stage(BRAIN, teacher_without_maps, "pmkl.contrast_weight=0", "pmkl.kd_weight=0")
    assert set(stage.loss(batch(), context(0)).terms) == {"segmentation"}


def test_method_learns_exclusive_labels(make_stage):
    stage = make_stage(CHEST)
    terms = stage.loss(chest_batch(), context(0))
    assert terms.terms["distillation"].value > 0 and not unused_parameters(stage, terms)
    assert stage.deployed["limited"].modalities == CHEST.limited


def test_embedding_has_unit_length_for_any_patch():
    head = pmkl.Embedding(4, (16, 4, 8))
    assert head.hidden.in_features == 4 * 8 * 4 * 8
    assert head(torch.randn(2, 4, 16, 4, 8)).norm(dim=1).tolist() == pytest.approx([1, 1])
