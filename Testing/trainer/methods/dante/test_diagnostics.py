"""Diagnostics of Stage 2: magnitudes, gradient ratios, and D_F's output on either side."""

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.loop.stage import Term
from DanteTrainerLib.methods.dante import stage_2
from DanteTrainerLib.methods.dante.diagnostics import gradient_ratios, magnitudes
from DanteTrainerLib.methods.dante.stages import stages
from DanteTrainerLib.settings.tasks import BRAIN


def test_pull_is_the_ratio_of_weighted_gradients_per_level():
    fine, coarse = (torch.randn(1, 1, n, n, n, requires_grad=True) for n in (4, 2))
    segmentation = Term((3 * fine).sum() + (8 * coarse).sum())
    alignment = Term((6 * fine).sum() + (8 * coarse).sum(), weight=0.5)
    found = gradient_ratios([fine, coarse], segmentation, alignment)
    assert found == {"pull_1": pytest.approx(1.0), "pull_2": pytest.approx(0.5)}
    (segmentation.value + alignment.value).backward()  # the graph is still available


def test_gradient_ratio_in_half_precision_is_that_of_the_tiny_gradients():
    features = torch.randn(1, 1, 4, 4, 4).half().requires_grad_()  # its smallest number is 6e-8
    segmentation, alignment = (Term((size * features.float()).sum()) for size in (1e-8, 4e-8))
    assert gradient_ratios([features], segmentation, alignment)["pull_1"] == pytest.approx(4.0, rel=1e-2)


def test_gradient_ratios_are_logged_every_hundred_steps_after_the_onset_without_changing_gradients(monkeypatch):
    def gradients(every):
        monkeypatch.setattr(stage_2, "RATIOS_EVERY", every)
        [stage] = stages(without_stage_1(), BRAIN)
        terms = stage.loss(batch(), context(100, 200))
        terms.total.backward()
        return terms.logged, [p.grad for p in stage.networks.parameters()]

    with_pulls, theirs = gradients(100)
    without, plain = gradients(0)
    assert {"pull_1", "pull_2", "pull_3"} <= set(with_pulls) and not [key for key in without if "pull" in key]
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(theirs, plain))


def without_stage_1(*overrides):
    return small("dante", "run.pretrain_steps=0", *overrides)


def test_validation_covers_f_f_and_d_f_on_either_side():
    [stage] = stages(without_stage_1(), BRAIN)
    images = batch().images
    ways = {name: predict(images) for name, predict in stage.also_predict.items()}
    assert set(ways) == {"f_F", "D_F(Z_A)", "D_F(Z_L)"}
    encoders, d_f, psi = stage.networks, stage.networks["D_F"], stage.networks["psi"]
    z_a, z_p = encoders["E_A"](images), encoders["E_P"](images)
    assert torch.equal(ways["D_F(Z_A)"], d_f(z_a))
    assert torch.equal(ways["D_F(Z_L)"], d_f(encoders["E_L"](images[:, BRAIN.limited_channels])))
    assert torch.equal(ways["f_F"], d_f(psi(z_a, z_p)[0]))


def test_shrinking_features_lowers_the_magnitudes_but_not_the_relative_gap():
    anchor, limited = [torch.ones(1, 2, 2, 2, 2)], [0.5 * torch.ones(1, 2, 2, 2, 2)]
    [before] = magnitudes(anchor, limited, anchor)
    [after] = magnitudes([0.1 * a for a in anchor], [0.1 * z for z in limited], anchor)
    assert (before.gap, after.gap) == (pytest.approx(0.5), pytest.approx(0.5))
    assert after.anchor == pytest.approx(0.1 * before.anchor)


def test_mature_teacher_stage_trains_the_full_pathway_used_by_stage_2():
    first, teacher, second = stages(small("dante", "dante.mature_teacher=0.5"), BRAIN)
    assert [s.name for s in (first, teacher, second)] == ["stage-1", "teacher", "stage-2"] and teacher.steps == 5
    assert set(teacher.networks) == {"E_A", "E_P", "psi", "D_F"} and not teacher.deployed
    assert {name: o.stage for name, o in second.carried.items()} == {
        "E_L": "stage-1",
        "E_A": "teacher",
        "E_P": "teacher",
        "psi": "teacher",
        "D_F": "teacher",
    }
    assert set(second.frozen_until) == {"E_L"}
    alone, last = stages(without_stage_1("dante.mature_teacher=0.5"), BRAIN)
    assert not alone.carried and set(last.carried) == {"E_A", "E_P", "psi", "D_F"}
    terms = teacher.loss(batch(), context(0))
    terms.total.backward()
    assert set(terms.terms) == {"seg_F"} and all(p.grad is not None for p in teacher.networks["psi"].parameters())
