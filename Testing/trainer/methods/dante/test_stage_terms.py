"""The terms of DANTE's losses, computed by hand from the networks of a stage."""

from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.loop.stage import Origin
from DanteTrainerLib.methods.dante import masking
from DanteTrainerLib.methods.dante.stages import stages
from DanteTrainerLib.settings.tasks import BRAIN


def experiment(**settings):
    plain = small("dante")
    return replace(plain, dante=replace(plain.dante, **settings))


def stage_2(**settings):
    return stages(experiment(**settings), BRAIN)[1]


def test_correction_is_compacted_and_features_of_both_encoders_are_aligned():
    stage, images = stage_2(), batch().images
    net = stage.networks
    z_l, z_a, z_p = net["E_L"](images[:, BRAIN.limited_channels]), net["E_A"](images), net["E_P"](images)
    corrections = [f - a for f, a in zip(net["psi"](z_a, z_p)[0], z_a)]
    terms = stage.loss(batch(), context(50)).terms
    torch.testing.assert_close(terms["pib"].value, sum(c.abs().mean() for c in corrections))
    torch.testing.assert_close(terms["align"].value, sum((a - z).abs().mean() for a, z in zip(z_a, z_l)))


@pytest.mark.parametrize("settings", [{"temperature": 0.5}, {"anchors": 7}])
def test_infonce_uses_the_settings(settings):
    plain, other = (stage_2(align="infonce", **own).loss(batch(), context(50)) for own in ({}, settings))
    assert not torch.allclose(plain.terms["align"].value, other.terms["align"].value)


def test_value_of_each_side_for_the_full_decoder_is_validated():
    stage, images = stage_2(), batch().images
    net = stage.networks
    z_a, z_l, z_p = net["E_A"](images), net["E_L"](images[:, BRAIN.limited_channels]), net["E_P"](images)
    by_hand = {"f_F": net["psi"](z_a, z_p)[0], "D_F(Z_A)": z_a, "D_F(Z_L)": z_l}
    assert stage.also_predict.keys() == by_hand.keys()
    for name, features in by_hand.items():
        assert torch.equal(stage.also_predict[name](images), net["D_F"](features)), name


def test_fusion_continues_from_stage_1_on_request_if_there_is_one():
    carried = stage_2(carry_fusion=True).carried
    assert carried["psi"] == Origin("psi_1", "stage-1") and carried["E_P"] == Origin("E_P", "stage-1")
    assert set(stage_2(carry_fusion=False).carried) == {"E_L", "E_A", "E_P"}
    assert set(stage_2(carry_fusion=True, naive=True).carried) == {"E_L", "E_A", "E_P"}


def test_gradients_of_each_stage_1_term_reach_the_parts_named_in_the_paper():
    """E_A occurs in no term with E_L: L is built from L, F from A and P and from L and P by one decoder."""
    reads = {
        "L_from_L": {"E_L", "rec_L"},
        "F_from_AP": {"E_A", "E_P", "psi_1", "rec_F"},
        "F_from_LP": {"E_L", "E_P", "psi_2", "rec_F"},
    }
    stage = stages(experiment(), BRAIN)[0]
    for name, parts in reads.items():
        stage.networks.zero_grad(set_to_none=True)
        stage.loss(batch(), context(0)).terms[name].value.backward()
        moved = {n for n, net in stage.networks.items() if any(p.grad is not None for p in net.parameters())}
        assert moved == parts, name


@pytest.mark.parametrize("sparse", [True, False])
def test_full_image_is_reconstructed_from_both_encoders(sparse):
    stage = stages(experiment(masking="sparse" if sparse else "dense"), BRAIN)[0]
    found = stage.loss(batch(), context(0)).terms["F_from_AP"].value
    chosen, images = experiment(), batch().images
    block = masking.block_size(chosen.network)
    mask = masking.draw_mask(2, (16, 16, 16), block, chosen.dante.mask_ratio, torch.Generator().manual_seed(0))
    seen = images * masking.mask_at(mask, (16, 16, 16))
    encode = (lambda e: masking.encode_visible(e, seen, mask)) if sparse else (lambda e: e(seen))
    fused, _ = stage.networks["psi_1"](encode(stage.networks["E_A"]), encode(stage.networks["E_P"]))
    made = stage.networks["rec_F"](fused, mask if sparse else None)
    hidden = masking.mask_at(mask, (16, 16, 16)).expand_as(images) == 0
    torch.testing.assert_close(found, (made - images)[hidden].square().mean())
