import math

import pytest
import torch

from DanteTrainerLib.methods.dante.losses import (
    GRADIENT,
    Reduction,
    alignment_infonce,
    alignment_l1,
    alignment_l2,
    channel_normalised,
    compaction,
    masked_reconstruction,
)


def pyramid(*values, size=2):
    """Constant feature maps of two channels, each level half the size of the previous one."""
    return [torch.full((1, 2, size >> n, size >> n, size >> n), float(value)) for n, value in enumerate(values)]


def test_levels_are_averaged_within_and_summed_across():
    assert alignment_l1(pyramid(1, 5), pyramid(3, 4)).item() == 2 + 1
    assert alignment_l2(pyramid(1, 5), pyramid(3, 4)).item() == 4 + 1
    assert compaction(pyramid(-2, 3)).item() == 2 + 3


def test_terms_do_not_depend_on_the_patch_size():
    for size in (2, 8):
        assert alignment_l1(pyramid(1, 5, size=size), pyramid(3, 4, size=size)).item() == 3
        assert compaction(pyramid(1, 1, size=size)).item() == 2


@pytest.mark.parametrize(
    ("inside", "over_levels", "l1", "l2", "pib"),
    [
        # Two channels of 2^3 and of 1^3 voxels; differences 2 and 1, corrections 2 and 3.
        ("mean", "sum", 2 + 1, 4 + 1, 2 + 3),
        ("mean", "mean", (2 + 1) / 2, (4 + 1) / 2, (2 + 3) / 2),
        ("sum", "sum", 16 * 2 + 2 * 1, 16 * 4 + 2 * 1, 16 * 2 + 2 * 3),
        ("sum", "mean", (16 * 2 + 2 * 1) / 2, (16 * 4 + 2 * 1) / 2, (16 * 2 + 2 * 3) / 2),
    ],
)
@pytest.mark.parametrize("samples", [1, 3])
def test_reduction_settings_apply_for_any_number_of_samples(samples, inside, over_levels, l1, l2, pib):
    def batched(*values):
        return [x.repeat(samples, 1, 1, 1, 1) for x in pyramid(*values)]

    reduction = Reduction(inside, over_levels)
    assert alignment_l1(batched(1, 5), batched(3, 4), reduction).item() == l1
    assert alignment_l2(batched(1, 5), batched(3, 4), reduction).item() == l2
    assert compaction(batched(-2, 3), reduction).item() == pib


def test_reconstruction_averages_only_hidden_voxels_of_all_channels():
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1)
    prediction = torch.tensor([[9.0, 1.0], [9.0, 3.0]]).reshape(1, 2, 2, 1, 1)
    target = torch.zeros(1, 2, 2, 1, 1)
    assert masked_reconstruction(prediction, target, mask).item() == (1 + 9) / 2


def test_reconstruction_with_one_mask_per_modality_averages_over_each_mask():
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 2, 1, 1)
    prediction = torch.tensor([[9.0, 1.0], [2.0, 4.0]]).reshape(1, 2, 2, 1, 1)
    assert masked_reconstruction(prediction, torch.zeros(1, 2, 2, 1, 1), mask).item() == (1 + 4 + 16) / 3


@pytest.mark.parametrize(("side", "learns"), [("both", (True, True)), ("to_L", (False, True)), ("to_A", (True, False))])
def test_mutual_alignment_updates_both_sides_and_the_ablations_one(side, learns):
    anchor, limited = torch.zeros(1, 2, 2, 2, 2, requires_grad=True), torch.ones(1, 2, 2, 2, 2, requires_grad=True)
    loss = alignment_l1(*GRADIENT[side]([anchor * 1], [limited * 1]))
    loss.backward()
    moved = tuple(x.grad is not None and bool(x.grad.any()) for x in (anchor, limited))
    assert moved == learns


def test_gradient_of_a_mean_magnitude_is_the_sign_over_the_number_of_elements():
    x, z = (
        torch.tensor(v).reshape(1, 1, 4, 1, 1).requires_grad_() for v in ([2.0, -1.0, 0.0, 5.0], [3.0, -2.0, 0.0, 1.0])
    )
    (8 * compaction([x])).backward()
    assert x.grad.ravel().tolist() == [2, -2, 0, 2]  # 8 / 4
    x.grad = None
    (8 * alignment_l1([x], [z])).backward()
    assert x.grad.ravel().tolist() == [-2, 2, 0, 2] and torch.equal(z.grad, -x.grad)


def test_infonce_samples_a_limited_number_of_positions_per_level():
    features = torch.eye(4).T.reshape(1, 4, 4, 1, 1)
    everywhere, chance = torch.ones(1, 1, 4, 1, 1), torch.Generator().manual_seed(0)
    loss = alignment_infonce([features], [features], everywhere, chance, 2, 0.5)
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)))


def test_infonce_of_identical_one_hot_features_equals_the_cross_entropy():
    features = torch.eye(4).T.reshape(1, 4, 4, 1, 1)  # four positions, four orthogonal directions
    loss = alignment_infonce(
        [features], [features], torch.ones(1, 1, 4, 1, 1), torch.Generator().manual_seed(0), 512, 0.5
    )
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 3)))


def test_symmetric_infonce_is_the_mean_of_both_directions():
    a, z = (torch.randn(1, 4, 5, 1, 1, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    foreground = torch.ones(1, 1, 5, 1, 1)

    def asked(first, second, both_ways=False):
        chance = torch.Generator().manual_seed(0)
        return alignment_infonce([first], [second], foreground, chance, 512, 0.1, both_ways).item()

    assert asked(a, z, both_ways=True) == pytest.approx((asked(a, z) + asked(z, a)) / 2)
    assert abs(asked(a, z) - asked(z, a)) > 0.01


def test_infonce_ignores_the_background():
    features = torch.randn(1, 4, 4, 1, 1, requires_grad=True)
    foreground = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1, 1)
    alignment_infonce([features], [features.detach()], foreground, torch.Generator()).backward()
    used = features.grad.abs().sum(dim=1).ravel() > 0
    assert used.tolist() == [True, True, False, False]


def test_infonce_of_pure_background_is_zero_with_a_gradient():
    features = torch.randn(1, 4, 4, 1, 1, requires_grad=True)
    loss = alignment_infonce([features], [features], torch.zeros(1, 1, 4, 1, 1), torch.Generator())
    loss.backward()
    assert loss.item() == 0 and not features.grad.any()


def test_channel_normalised_features_have_unit_length():
    assert torch.allclose(channel_normalised([torch.randn(1, 3, 2, 2, 2)])[0].norm(dim=1), torch.ones(1, 2, 2, 2))
