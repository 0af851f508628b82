from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.methods.bounds import untrained
from DanteTrainerLib.methods.distillation import cpmn
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def maps(seed, *sizes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, n, n, n, generator=generator) for n in sizes]


def alignment_by_hand(first, second):
    """The definition in float64, position by position."""
    values = []
    for a, b in zip(first[-3:], second[-3:]):
        for x, y in zip(a.double().numpy(), b.double().numpy()):
            x, y = x.reshape(3, -1).T, y.reshape(3, -1).T
            rows = [z @ z.T / np.linalg.norm(z @ z.T, axis=1, keepdims=True) for z in (x, y)]
            cosines = [p @ q / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(x, y)]
            values.append(np.abs(rows[0] - rows[1]).mean() + 1 - np.mean(cosines))
    return np.mean(values)  # every level has the same number of samples


def test_alignment_is_the_mean_over_the_bottleneck_and_the_two_levels_above():
    first, second = maps(0, 8, 4, 2, 1), maps(1, 8, 4, 2, 1)
    found = cpmn.inter_feature_alignment(first, second).item()
    assert found == pytest.approx(alignment_by_hand(first, second), rel=1e-5)
    assert cpmn.inter_feature_alignment([3 * first[0], *first[1:]], second).item() == found
    fewer = cpmn.inter_feature_alignment(first[-2:], second[-2:]).item()
    assert fewer == pytest.approx(alignment_by_hand(first[-2:], second[-2:]), rel=1e-5)


def test_alignment_is_zero_for_equal_directions_and_symmetric():
    first, second = maps(0, 4, 2), maps(1, 4, 2)
    assert cpmn.inter_feature_alignment(first, [3 * f for f in first]).item() == pytest.approx(0, abs=1e-6)
    there, back = cpmn.inter_feature_alignment(first, second), cpmn.inter_feature_alignment(second, first)
    assert there.item() == pytest.approx(back.item()) and there > 0.5


def features_of(inside, outside, foreground):
    columns = [torch.tensor(v).reshape(1, -1, 1, 1, 1) for v in (inside, outside)]
    return columns[0] * foreground + columns[1] * (1 - foreground)


def test_discrepancy_is_the_positive_part_of_the_cosine_of_lesion_and_background():
    foreground = torch.zeros(1, 1, 4, 4, 4)
    foreground[..., :2] = 1
    for inside, outside, wanted in [
        ([2.0, 0.0], [1.0, 1.0], 0.5**0.5),
        ([2.0, 0.0], [0.0, 3.0], 0.0),
        ([2.0, 0.0], [-1.0, 0.0], 0.0),
    ]:
        features = features_of(inside, outside, foreground)
        assert cpmn.intra_feature_discrepancy(features, foreground).item() == pytest.approx(wanted)
        coarse = features[..., ::2, ::2, ::2]
        assert cpmn.intra_feature_discrepancy(coarse, foreground).item() == pytest.approx(wanted)


def test_prototypes_are_means_over_voxels():
    foreground = torch.zeros(1, 1, 2, 1, 2)
    foreground[0, 0, 0, 0, :] = 1
    features = torch.tensor([[[[[1.0, 3.0]], [[0.0, 0.0]]], [[[0.0, 4.0]], [[1.0, 5.0]]]]])
    # inside (2, 2), outside (0, 3)
    assert cpmn.intra_feature_discrepancy(features, foreground).item() == pytest.approx(0.5**0.5)


def test_terms_are_weighted_and_reach_both_networks():
    stage = cpmn.stages(small("cpmn"), BRAIN)[0]
    terms = stage.loss(batch(), context(0)).terms
    assert {n: t.weight for n, t in terms.items()} == {"seg_L": 1, "seg_F": 1, "ifa": 0.5, "ifd": 0.1}
    for name in ("ifa", "ifd"):
        for network in stage.networks.values():
            (gradient,) = torch.autograd.grad(
                terms[name].value, [network.encoder.stages[0][0][0].weight], retain_graph=True
            )
            assert gradient.abs().max() > 0
    sum(t.weight * t.value for t in terms.values()).backward()
    unused = [n for n, p in stage.networks.named_parameters() if p.grad is None and "heads" not in n]
    assert not unused


def test_discrepancy_is_omitted_without_foreground_or_background():
    stage = cpmn.stages(small("cpmn"), BRAIN)[0]
    whole = batch()
    empty, full = torch.zeros_like(whole.regions), torch.ones_like(whole.regions)
    for regions in (empty, full):
        assert set(stage.loss(replace(whole, regions=regions), context(0)).terms) == {"seg_L", "seg_F", "ifa"}
    half = torch.stack((whole.regions[0], empty[1]))
    alone = Batch(whole.images[:1], whole.regions[:1], whole.foreground[:1])
    values = [stage.loss(b, context(0)).terms["ifd"].value.item() for b in (replace(whole, regions=half), alone)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_discrepancy_over_processes_equals_that_of_one(monkeypatch):
    stage = cpmn.stages(small("cpmn"), BRAIN)[0]
    alone = stage.loss(batch(), context(0)).terms["ifd"].value
    monkeypatch.setattr(cpmn, "share_of_chosen", lambda chosen, _: 0.25 * chosen.sum())
    torch.testing.assert_close(stage.loss(batch(), context(0)).terms["ifd"].value, 0.5 * alone)


def test_zero_features_give_finite_gradients():
    for zeros in ((..., 0), (...,)):  # at some positions, and everywhere
        first, second = maps(0, 4), maps(1, 4)
        first[0][zeros] = 0
        first[0].requires_grad_()
        cpmn.inter_feature_alignment(first, second).backward()
        # a position's divisor is at least 1e-4, and it is one of 128
        assert 1 < first[0].grad.abs().max() < 1e4 / 16


def test_networks_start_like_the_bounds_of_the_seed_and_both_are_deployed():
    experiment = small("cpmn")
    stage = cpmn.stages(experiment, BRAIN)[0]
    for name, role, modalities in (("f_L", "limited", BRAIN.limited), ("f_F", "full", BRAIN.full)):
        deployed = stage.deployed[role]
        assert (deployed.modalities, deployed.architecture) == (modalities, "unet")
        initial = untrained(experiment, BRAIN, modalities).state_dict()
        assert all(torch.equal(initial[key], value) for key, value in deployed.network().state_dict().items())
        assert deployed.network() is stage.networks[name]
    images = batch().images
    assert torch.equal(stage.also_predict["f_F"](images), stage.networks["f_F"](images))
    assert torch.equal(stage.predict(images), stage.networks["f_L"](images[:, BRAIN.limited_channels]))


def test_cpmn_learns_chest_ct():
    stage = cpmn.stages(smoke(load_experiment("chest-small", method="cpmn")), CHEST)[0]
    images, regions = torch.randn(2, 2, 16, 16, 16), (torch.rand(2, 1, 16, 16, 16) > 0.7).float()
    terms = stage.loss(Batch(images, regions, torch.ones_like(regions).bool()), context(0))
    assert set(terms.terms) == {"seg_L", "seg_F", "ifa", "ifd"}
    terms.total.backward()
    assert stage.predict(images).shape == stage.also_predict["f_F"](images).shape == (2, 2, 16, 16, 16)
