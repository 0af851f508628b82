import math
from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.methods.any_modality import shaspec
from DanteTrainerLib.settings.tasks import BRAIN, CHEST

PRIVILEGED = BRAIN.full.index("t1ce")


def maps(*values):
    """One modality each, of two samples."""
    return [torch.full((2, 3, 2, 2, 2), value) for value in values]


def test_every_term_is_weighted_and_together_they_reach_all_parts():
    stage = shaspec.stages(small("shaspec"), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "similarity": 0.1, "domain": 0.02}
    terms.total.backward()
    unused = [n for n, p in stage.networks.named_parameters() if p.grad is None]
    assert unused == [f"segmentation.decoder.heads.1.{kind}" for kind in ("weight", "bias")]  # unused, as in nnU-Net


@pytest.mark.parametrize("substitute", ["first", "average"])
def test_nothing_is_dropped_in_the_first_fifth_of_the_steps(substitute, monkeypatch):
    dropped = torch.ones(2, 4)
    dropped[:, PRIVILEGED] = 0
    monkeypatch.setattr(shaspec, "draw_present", lambda *_: dropped)
    stage = shaspec.stages(small("shaspec", f"shaspec.substitute={substitute}"), BRAIN)[0]
    other = replace(batch(), images=batch().images.clone())
    other.images[:, PRIVILEGED] *= -2

    def unmoved(step):
        plain, changed = (stage.loss(b, context(step)).terms for b in (batch(), other))
        return {torch.equal(plain[name].value, changed[name].value) for name in plain}

    assert unmoved(19) == {False} and unmoved(20) == {True}
    shares = [stage.loss(batch(), context(step)).logged["without_privileged_share"] for step in (19, 20)]
    assert shares == [0.0, 1.0]


def test_neighbours_in_the_ring_of_present_modalities_are_compared():
    shared = maps(0.0, 5.0, 1.0, 7.0)
    all_there = torch.ones(2, 4)
    assert shaspec.ring_distance(shared, all_there).item() == pytest.approx(5 + 4 + 6 + 7)
    all_there[1, 1] = 0
    assert shaspec.ring_distance(shared, all_there).item() == pytest.approx((22 + (1 + 6 + 7)) / 2)


def test_two_modalities_form_one_pair_and_one_has_no_neighbour():
    assert shaspec.ring_distance(maps(1.0, 4.0), torch.tensor([[1.0, 1.0], [1.0, 0.0]])).item() == pytest.approx(1.5)
    assert shaspec.ring_distance(maps(1.0, 4.0), torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == 0


def test_absent_modality_is_not_classified():
    logits = torch.zeros(2, 3, 3)
    logits[0, 1] = torch.tensor([50.0, 0.0, 0.0])  # misclassified, but absent
    present = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    assert shaspec.domain_loss(logits, present).item() == pytest.approx(math.log(3))
    present[0, 1] = 1
    wanted = ((2 * math.log(3) + 50) / 3 + math.log(3)) / 2
    assert shaspec.domain_loss(logits, present).item() == pytest.approx(wanted)


def test_two_modalities_with_one_privileged_suffice():
    stage = shaspec.stages(small("shaspec"), CHEST)[0]
    images, regions = torch.randn(2, 2, 16, 16, 16), (torch.rand(2, 1, 16, 16, 16) > 0.7).float()
    example = Batch(images, regions, images[:, :1] != 0)
    for step in (0, 50):
        terms = stage.loss(example, context(step))
        assert torch.isfinite(terms.total)
    deployed = stage.deployed["limited"]
    assert deployed.modalities == ("nct",)
    assert torch.allclose(deployed.network()(images[:, :1]), stage.predict(images), atol=1e-5)
