import pytest
import torch
from small_trainings import small, with_teacher
from steps import batch, context
from teachers import chest_batch, stage_factory, teacher_without_maps, unused_parameters
from torch.distributions import Bernoulli, kl_divergence

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteTrainerLib.methods import bounds
from DanteTrainerLib.methods.distillation import cmfd
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


@pytest.fixture
def make_stage(monkeypatch):
    return stage_factory(monkeypatch, cmfd, "cmfd")


def test_terms_update_everything_except_the_teacher(teacher):
    stage = cmfd.stages(with_teacher(small("cmfd"), teacher), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "features": 0.5, "distillation": 0.5}
    assert not unused_parameters(stage, terms)
    assert all(p.grad is None for p in stage.networks["teacher"].parameters())


def test_distillation_equals_the_divergence_of_distributions(make_stage):
    stage, data = make_stage(), batch()
    with torch.no_grad():
        value = stage.loss(data, context(0)).terms["distillation"].value
        s = stage.networks["student"](data.images[:, BRAIN.limited_channels]).double()
        t = stage.networks["teacher"].network(data.images).double()
    expected = 4 * kl_divergence(Bernoulli(logits=t / 2), Bernoulli(logits=s / 2)).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)


def test_deepest_three_levels_are_compared_with_equal_weights():
    projection = cmfd.Projection(NetworkSpec((2, 3, 4, 5), ((1, 1, 1),) + ((2, 2, 2),) * 3, ((3, 3, 3),) * 4))
    for layer in projection.layers:
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    maps = [torch.randn(2, channels, 16 >> n, 16 >> n, 16 >> n) for n, channels in enumerate((2, 3, 4, 5))]
    others = [map + shift for map, shift in zip(maps, (100, 1, 2, 3))]  # the finest is ignored
    assert projection(maps, others).item() == pytest.approx((1 + 4 + 9) / 3, rel=1e-5)


def test_projection_commutes_with_averaging():
    torch.manual_seed(0)
    projection = cmfd.Projection(small("cmfd").network)
    channels = [layer.in_channels for layer in projection.layers]
    student, teacher = ([torch.randn(1, c, 8 >> n, 8 >> n, 8 >> n) for n, c in enumerate(channels)] for _ in range(2))
    squares = [
        torch.nn.functional.avg_pool3d(phi(s) - t, 2).square().mean()
        for phi, s, t in zip(projection.layers, student, teacher)
    ]
    assert projection(student, teacher).item() == pytest.approx((sum(squares) / 3).item(), rel=1e-5)


def test_network_starts_like_the_lower_bound_and_sees_the_same_input(make_stage):
    lower = bounds.lower(small("lower"), BRAIN)[0]
    same = lower.loss(batch(), context(0)).terms["segmentation"].value
    assert torch.equal(make_stage().loss(batch(), context(0)).terms["segmentation"].value, same)


def test_without_the_feature_term_the_teacher_needs_no_maps_and_there_is_no_projection(make_stage):
    stage = make_stage(BRAIN, teacher_without_maps, "cmfd.feature_weight=0")
    terms = stage.loss(batch(), context(0))
    assert set(terms.terms) == {"segmentation", "distillation"} and "projection" not in stage.networks
    assert not unused_parameters(stage, terms)


def test_method_learns_exclusive_labels(make_stage):
    stage = make_stage(CHEST)
    terms = stage.loss(chest_batch(), context(0))
    assert terms.terms["distillation"].value > 0 and not unused_parameters(stage, terms)
    assert stage.deployed["limited"].modalities == CHEST.limited
