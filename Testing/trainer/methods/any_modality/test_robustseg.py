from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.methods.any_modality import robustseg
from DanteTrainerLib.methods.any_modality.modality_dropout import draw_present
from DanteTrainerLib.settings.tasks import BRAIN


def test_only_the_privileged_modality_is_dropped_and_half_the_time():
    drawn = torch.cat([draw_present(batch(), BRAIN, replace_seed(n)) for n in range(300)])
    assert (drawn[:, BRAIN.limited_channels] == 1).all()
    assert drawn[:, BRAIN.full.index("t1ce")].mean().item() == pytest.approx(0.5, abs=0.08)


def replace_seed(seed):
    return replace(context(0), generator=torch.Generator().manual_seed(seed))


def test_robustseg_has_segmentation_reconstruction_and_kl_terms_that_reach_all_parts():
    stage = robustseg.stages(small("robustseg"), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "reconstruction": 0.1, "kl": 0.1}
    terms.total.backward()
    silent = [n for n, p in stage.networks.named_parameters() if p.grad is None and "heads" not in n]
    assert not silent


def test_kl_of_a_standard_normal_is_zero_and_of_a_shifted_one_half_the_square():
    zeros = torch.zeros(2, 3)
    assert robustseg.kl_to_standard_normal(zeros, zeros) == 0
    assert robustseg.kl_to_standard_normal(zeros + 3, zeros).item() == pytest.approx(4.5)


def test_adaptive_instance_norm_gives_the_mean_and_deviation_asked_for():
    result = robustseg.adain(
        torch.randn(1, 2, 8, 8, 8) * 5 + 3, torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    )
    assert result.mean(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, -2], abs=1e-4)
    assert result.std(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, 2.71828], rel=1e-2)


def test_robustsegs_own_weight_decay_is_that_of_its_stage():
    stage = robustseg.stages(small("robustseg", "robustseg.weight_decay=0.5", "optimiser.learning_rate=0.03"), BRAIN)[0]
    assert (stage.optimiser.weight_decay, stage.optimiser.learning_rate) == (0.5, 0.03)
