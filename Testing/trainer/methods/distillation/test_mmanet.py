from dataclasses import replace
from math import sqrt

import pytest
import torch
from small_trainings import small, with_teacher
from steps import batch, context
from teachers import stage_factory

from DanteSegmenterLib.networks.unet import UNet, initialise
from DanteTrainerLib.methods.distillation import mmanet
from DanteTrainerLib.methods.segmentation_loss import segmentation_loss
from DanteTrainerLib.settings.tasks import BRAIN


def test_terms_start_late_and_never_update_the_teacher(teacher):
    stage = mmanet.stages(with_teacher(small("mmanet"), teacher), BRAIN)[0]
    assert set(stage.loss(batch(), context(0)).terms) == {"segmentation"}
    for seed in range(8):
        terms = stage.loss(batch(), replace(context(50), generator=torch.Generator().manual_seed(seed))).terms
        if "weak" in terms:
            break
    assert {n: t.weight for n, t in terms.items()} == {"segmentation": 1, "distillation": 4.0, "weak": 0.2}
    stage.freeze(0.5)
    sum(t.value for t in terms.values()).backward()
    assert all(p.grad is None for p in stage.networks["teacher"].parameters())
    assert any(p.grad is not None for p in stage.networks["auxiliary"].parameters())


def test_auxiliary_decoder_learns_from_samples_without_the_scan_as_in_one_process(monkeypatch):
    present = torch.ones(2, 4)
    present[1, BRAIN.full.index("t1ce")] = 0
    monkeypatch.setattr(mmanet, "draw_present", lambda *_: present)
    monkeypatch.setattr(mmanet, "share_of_chosen", lambda chosen, _: 0.25 * chosen.sum())
    stage = stage_factory(monkeypatch, mmanet, "mmanet")()
    given, net = batch(), stage.networks
    features = net["student"].encoder((given.images * present[..., None, None, None])[1:])
    by_hand = segmentation_loss(net["auxiliary"].all_logits(features), given.regions[1:], BRAIN.output)
    torch.testing.assert_close(stage.loss(given, context(50)).terms["weak"].value, 0.25 * by_hand)


def test_distillation_is_zero_for_equal_features_and_scale_invariant():
    torch.manual_seed(0)
    features = [torch.randn(1, 4, n, n, n) for n in (8, 4, 2, 1)]
    logits = torch.randn(1, 3, 8, 8, 8)
    other = [torch.randn_like(f) for f in features]
    assert mmanet.margin_aware_distillation(features, features, logits, "regions") == 0
    scaled = mmanet.margin_aware_distillation([3 * f for f in features], features, logits, "regions")
    assert scaled.item() == pytest.approx(0, abs=1e-6)
    assert mmanet.margin_aware_distillation(other, features, logits, "regions") > 0.01


def maps(*rows):
    """A map of n positions with these features in one image, [1, C, n, 1, 1], for all three compared levels."""
    features = torch.tensor(rows).T[None, :, :, None, None]
    return [features] * 3 + [torch.zeros(1)]


# Two positions; the student's are orthogonal: G = 1. The teacher's G = [[1, 1], [1, 2]], with normalised rows
# (1, 1) / sqrt 2 and (1, 2) / sqrt 5, so that the squares of the differences add up to these.
ROWS = 2 - sqrt(2), 2 - 4 / sqrt(5)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [((0.0, 40.0), ROWS[0]), ((40.0, 0.0), ROWS[1]), ((0.0, 0.0), sum(ROWS) / 2), ((40.0, 40.0), 0)],
)
def test_distillation_of_two_positions_by_hand_where_the_teacher_is_uncertain(logits, expected):
    student, known = maps((1.0, 0.0), (0.0, 1.0)), maps((1.0, 0.0), (1.0, 1.0))
    answer = torch.tensor(logits).reshape(1, 1, 2, 1, 1)
    value = mmanet.margin_aware_distillation(student, known, answer, "regions")
    assert value.item() == pytest.approx(3 * expected, abs=1e-5)


def test_positions_of_all_images_in_a_batch_are_compared():
    together, apart = maps((1.0, 0.0), (0.0, 1.0)), maps((1.0, 0.0), (1.0, 1.0))
    in_two_images = [
        [x.movedim(2, 0).flatten(1)[..., None, None, None] for x in m[:3]] + m[3:] for m in (together, apart)
    ]
    value = mmanet.margin_aware_distillation(*in_two_images, torch.zeros(2, 1, 1, 1, 1), "regions")
    assert value.item() == pytest.approx(3 * sum(ROWS) / 2, abs=1e-5)


def test_teacher_logits_are_pooled_before_its_uncertainty():
    features = [torch.randn(1, 2, 1, 1, 2) for _ in range(2)]
    levels = [[f, f, f, f] for f in features]
    # Certain of each half of the first position, with opposite labels: uncertain of the position, as at a border.
    border, sure = (torch.tensor(values).reshape(1, 1, 1, 1, 4) for values in ((30.0, -30, 30, 30), (0.0, 0, 30, 30)))
    found = [mmanet.margin_aware_distillation(*levels, logits, "regions").item() for logits in (border, sure)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_network_without_its_zero_channel_is_the_same_function():
    network = UNet(4, 3, small("mmanet").network)
    initialise(network)
    image = torch.randn(1, 4, 16, 16, 16)
    image[:, 1] = 0
    part = mmanet.without_channels(network, [0, 2, 3])
    assert torch.allclose(part(image[:, [0, 2, 3]]), network(image), atol=1e-5)
