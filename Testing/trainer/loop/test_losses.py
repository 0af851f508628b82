import math

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional

from DanteTrainerLib.loop.optimiser import poly
from DanteTrainerLib.methods.segmentation_loss import (
    deep_supervision_weights,
    label_loss,
    region_loss,
    segmentation_loss,
    soft_dice,
)


def column(*values):
    return torch.tensor(values).reshape(1, 1, len(values), 1, 1)


def test_soft_dice_of_two_voxels_by_hand():
    # 2 * (0.5 * 1) / ((0.5 + 0.25) + 1) = 1 / 1.75
    assert soft_dice(column(0.5, 0.25), column(1.0, 0.0)).item() == pytest.approx(-1 / 1.75, abs=1e-4)


def test_perfect_and_empty_regions_score_minus_one():
    assert soft_dice(column(1.0, 0.0), column(1.0, 0.0)).item() == pytest.approx(-1)
    assert soft_dice(column(0.0, 0.0), column(0.0, 0.0)).item() == pytest.approx(-1)


def test_region_loss_agrees_with_monai():
    torch.manual_seed(0)
    logits, regions = torch.randn(2, 3, 4, 5, 6), (torch.rand(2, 3, 4, 5, 6) > 0.6).float()
    dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, regions) - 1
    expected = dice + functional.binary_cross_entropy(logits.sigmoid(), regions)
    assert region_loss(logits, regions).item() == pytest.approx(expected.item(), rel=1e-5)


def test_label_loss_agrees_with_monai_without_background_in_dice():
    torch.manual_seed(0)
    logits, regions = torch.randn(2, 2, 4, 5, 6), (torch.rand(2, 1, 4, 5, 6) > 0.6).float()
    both = torch.cat((1 - regions, regions), dim=1)
    ce = -(both * logits.log_softmax(1)).sum(1).mean()
    dice = DiceLoss(include_background=False, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, both) - 1
    assert label_loss(logits, regions).item() == pytest.approx((dice + ce).item(), rel=1e-5)


def test_deep_supervision_weights_of_five_levels_match_nnunet():
    assert deep_supervision_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])
    assert deep_supervision_weights(1) == [1]


def test_deeply_supervised_loss_is_the_weighted_sum_over_levels():
    torch.manual_seed(0)
    regions = (torch.rand(1, 2, 8, 8, 8) > 0.5).float()
    logits = [torch.randn(1, 2, 8 >> n, 8 >> n, 8 >> n) for n in range(3)]
    # The nearest of two voxels at half size is the second of each pair (nearest-exact).
    expected = 2 / 3 * region_loss(logits[0], regions) + 1 / 3 * region_loss(logits[1], regions[:, :, 1::2, 1::2, 1::2])
    assert segmentation_loss(logits, regions, "regions").item() == pytest.approx(expected.item(), rel=1e-6)


def test_half_precision_logits_are_reduced_in_single_precision():
    logits = [torch.full((1, 1, 64, 64, 64), -4.0, dtype=torch.bfloat16)]
    loss = segmentation_loss(logits, torch.zeros(1, 1, 64, 64, 64), "regions")
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-4)) - 1e-5 / (64**3 / (1 + math.exp(4))), abs=1e-4)


def test_learning_rate_decays_from_its_initial_value_to_zero():
    assert poly(0, 100, 0.01) == 0.01
    assert poly(50, 100, 0.01) == pytest.approx(0.01 * 0.5**0.9)
    assert poly(100, 100, 0.01) == 0
