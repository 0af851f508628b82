from dataclasses import replace

import pytest
import torch
from small_trainings import small, with_teacher
from steps import batch, context

from DanteSegmenterLib.networks.unet import UNet, initialise
from DanteTrainerLib.methods.distillation import mmanet
from DanteTrainerLib.settings.tasks import BRAIN


def test_mmanets_terms_begin_late_and_never_move_the_teacher(teacher):
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


def test_distillation_is_zero_for_equal_features_and_blind_to_their_scale():
    torch.manual_seed(0)
    features = [torch.randn(1, 4, n, n, n) for n in (8, 4, 2, 1)]
    logits = torch.randn(1, 3, 8, 8, 8)
    other = [torch.randn_like(f) for f in features]
    assert mmanet.margin_aware_distillation(features, features, logits, "regions") == 0
    scaled = mmanet.margin_aware_distillation([3 * f for f in features], features, logits, "regions")
    assert scaled.item() == pytest.approx(0, abs=1e-6)
    assert mmanet.margin_aware_distillation(other, features, logits, "regions") > 0.01


def test_a_network_without_its_zero_channel_is_the_same_function():
    network = UNet(4, 3, small("mmanet").network)
    initialise(network)
    image = torch.randn(1, 4, 16, 16, 16)
    image[:, 1] = 0
    part = mmanet.without_channels(network, [0, 2, 3])
    assert torch.allclose(part(image[:, [0, 2, 3]]), network(image), atol=1e-5)
