from math import log, sqrt

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from DanteTrainerLib.methods.distillation.losses import (
    contrast,
    entropy,
    halved,
    hard_cross_entropy,
    is_right,
    soft_cross_entropy,
    soft_divergence,
    teacher_advantage,
    weighted_mean,
)

# For probabilities 3/4 and 1/4, in nats: entropy and cross entropy.
ENTROPY = -(0.75 * log(0.75) + 0.25 * log(0.25))
CROSSED = -(0.75 * log(0.25) + 0.25 * log(0.75))


def voxels(*values):
    """One region's or label's values at n voxels, [1, 1, n, 1, 1]."""
    return torch.tensor(values).reshape(1, 1, len(values), 1, 1)


def listed(tensor):
    return pytest.approx(tensor.flatten().tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_soft_labels_of_a_region_by_hand(temperature):
    certain = temperature * log(3)  # sigmoid(ln 3) = 3/4
    student, teacher = voxels(certain, -certain, 0.0), voxels(certain, certain, certain)
    assert listed(soft_cross_entropy(student, teacher, temperature, "regions")) == [ENTROPY, CROSSED, log(2)]


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_soft_exclusive_labels_by_hand(temperature):
    certain = temperature * log(3)  # softmax(ln 3, 0) = (3/4, 1/4)
    student = torch.cat((voxels(certain, 0.0, 1.0), voxels(0.0, certain, 1.0)), dim=1)
    teacher = torch.cat((voxels(certain, certain, certain), voxels(0.0, 0.0, 0.0)), dim=1)
    values = soft_cross_entropy(student, teacher, temperature, "labels")
    assert values.shape == (1, 1, 3, 1, 1) and listed(values) == [ENTROPY, CROSSED, log(2)]


def test_entropy_is_maximal_at_one_half_and_vanishes_far_from_it():
    assert listed(entropy(voxels(0.0, log(3), 40.0), "regions")) == [log(2), ENTROPY, 0]
    assert listed(entropy(torch.zeros(1, 3, 1, 1, 1), "labels")) == [log(3)]


def test_divergence_equals_bernoulli_and_categorical_divergence_times_squared_temperature():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5, 6).unbind()
    regions = kl_divergence(Bernoulli(logits=teacher / 2), Bernoulli(logits=student / 2)).mean()
    assert soft_divergence(student, teacher, 2.0, "regions").item() == pytest.approx(4 * regions.item(), rel=1e-4)
    labels = kl_divergence(*(Categorical(logits=z.movedim(1, -1) / 2) for z in (teacher, student))).mean()
    assert soft_divergence(student, teacher, 2.0, "labels").item() == pytest.approx(4 * labels.item(), rel=1e-4)


@pytest.mark.parametrize("output", ["regions", "labels"])
def test_identical_predictions_give_no_gradient(output):
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    value = soft_divergence(logits, logits.detach(), 2.0, output)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and logits.grad.abs().max() < 1e-7


def test_half_precision_is_converted_before_summation():
    logits, regions = torch.randn(1, 2, 2, 2, 2).bfloat16(), torch.zeros(1, 2, 2, 2, 2)
    for output, truth in (("regions", regions), ("labels", regions[:, :1])):
        assert soft_cross_entropy(logits, logits, 10.0, output).dtype == torch.float32
        assert hard_cross_entropy(logits, truth, output).dtype == torch.float32
    assert halved(logits).dtype == contrast(logits[:, :, 0, 0, 0], logits[:, :, 0, 0, 0], 1.0).dtype == torch.float32


def test_teacher_weight_is_its_advantage_where_it_is_right():
    # better and right; wrong; right, but the student is more certain; better at an empty voxel
    student, teacher = voxels(0.0, -log(9), log(9), 0.0), voxels(log(3), -log(3), log(3), -log(3))
    truth = voxels(1.0, 1.0, 1.0, 0.0)
    assert is_right(teacher, truth, "regions").flatten().tolist() == [True, False, True, True]
    ahead = log(2) - log(4 / 3)  # -ln 1/2 against -ln 3/4
    assert listed(teacher_advantage(student, teacher, truth, "regions")) == [ahead, 0, 0, ahead]


def test_teacher_of_exclusive_labels_counts_where_its_argmax_is_right():
    student = torch.zeros(1, 2, 2, 1, 1)
    teacher = torch.cat((voxels(0.0, 0.0), voxels(log(3), log(3))), dim=1)  # the second label, p = 3/4
    truth = voxels(1.0, 0.0)
    assert listed(hard_cross_entropy(student, truth, "labels")) == [log(2), log(2)]
    assert listed(teacher_advantage(student, teacher, truth, "labels")) == [log(1.5), 0]


def test_advantage_of_the_teacher_is_a_constant():
    student = voxels(0.0, 1.0).requires_grad_()
    weights = teacher_advantage(student, voxels(2.0, 3.0), voxels(1.0, 1.0), "regions")
    assert (weights > 0).all() and not weights.requires_grad


def test_teacher_without_advantage_gives_no_gradient():
    values = voxels(1.0, 2.0, 5.0).requires_grad_()
    assert weighted_mean(values, voxels(1.0, 3.0, 0.0)).item() == pytest.approx(7 / 4)
    nothing = weighted_mean(values, voxels(0.0, 0.0, 0.0))
    nothing.backward()
    assert nothing == 0 and (values.grad == 0).all()


def test_contrast_of_two_images_by_hand():
    one, other = torch.eye(2)
    apart, same = torch.stack((one, other)), torch.stack((one, one))
    assert contrast(apart, apart, 1.0) == 0  # equal ones at distance 0, others at sqrt 2 > 1
    # (1, 1) at 0, (2, 2) at sqrt 2, (1, 2) at sqrt 2, (2, 1) at 0
    assert contrast(same, apart, 1.0).item() == pytest.approx((0 + 2 + 0 + 1) / 4)
    assert contrast(same, apart, 2.0).item() == pytest.approx((0 + 2 + (2 - sqrt(2)) ** 2 + 4) / 4)


def test_contrast_is_defined_for_equal_embeddings_and_for_one_image():
    point = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    contrast(point, point.detach(), 1.0).backward()
    assert point.grad.isfinite().all()
    assert contrast(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 1.0).item() == pytest.approx(2)


def test_maps_are_halved_by_averaging_except_axes_of_one_voxel():
    assert listed(halved(voxels(0.0, 1.0, 2.0, 3.0))) == [0.5, 2.5]
    assert halved(torch.zeros(1, 2, 4, 5, 6)).shape == (1, 2, 2, 2, 3)
