from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.networks.baselines.vision_transformer import blocks_of
from DanteTrainerLib.methods.vit import stages
from DanteTrainerLib.methods.vit.mae import draw_order, normalised, reconstruction_error, rows_at, visible_tokens
from DanteTrainerLib.settings.tasks import BRAIN

SEEN, TOKENS = 3, 8


@pytest.fixture(scope="module")
def networks():
    return stages.stages(small("vit"), BRAIN)[0].networks


def image():
    return batch().images[:, BRAIN.limited_channels]


def order():
    return torch.tensor([[3, 1, 4, 0, 2, 5, 6, 7], [7, 0, 6, 1, 5, 2, 4, 3]])


def test_every_block_is_standardised_over_voxels_and_channels_with_background_0():
    blocks = torch.stack([torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.zeros(4), torch.full((4,), 5.0)])[None]
    # Mean 3, variance (4 + 1 + 0 + 9) / 4.
    assert normalised(blocks)[0, 0].tolist() == pytest.approx([n / 3.5**0.5 for n in (-2, -1, 0, 3)], abs=1e-5)
    assert not normalised(blocks)[0, 1:].any()


@torch.no_grad()
def test_loss_is_the_squared_error_on_hidden_blocks(networks):
    encoder, decoder = networks["encoder"], networks["reconstruction"]
    loss, unlearned = reconstruction_error(encoder, decoder, image(), order(), SEEN)
    hidden = order()[:, SEEN:]
    states = encoder.encode(
        torch.stack([blocks_of(image(), 8)[n, order()[n, :SEEN]] for n in (0, 1)]),
        torch.stack([encoder.positions[0, order()[n, :SEEN]] for n in (0, 1)]),
    )
    predicted = decoder(states[-1], order()[:, :SEEN], hidden)
    errors, squares = [], []
    for sample in (0, 1):
        for place, number in enumerate(hidden[sample]):
            k, j, i = (8 * (int(number) >> shift & 1) for shift in (2, 1, 0))
            block = image()[sample, :, k : k + 8, j : j + 8, i : i + 8].movedim(0, -1).flatten()
            target = (block - block.mean()) / block.std(correction=0)
            errors.append((predicted[sample, place] - target).square().mean())
            squares.append(target.square().mean())
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert unlearned.item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-4)


@torch.no_grad()
def test_predictions_depend_on_visible_but_not_on_hidden_blocks(networks):
    encoder, decoder = networks["encoder"], networks["reconstruction"]
    visible, hidden = order().tensor_split([SEEN], dim=1)

    def predicted(blocks):
        positions = rows_at(encoder.positions.expand(2, -1, -1), visible)
        return decoder(encoder.encode(rows_at(blocks, visible), positions)[-1], visible, hidden)

    blocks = blocks_of(image(), 8)
    unseen = blocks.scatter(1, hidden[:, :, None].expand(-1, -1, blocks.shape[2]), 9.0)
    seen = blocks.scatter(1, visible[:, :1, None].expand(-1, -1, blocks.shape[2]), 9.0)
    assert torch.equal(predicted(blocks), predicted(unseen))
    assert not torch.allclose(predicted(blocks), predicted(seen))


@torch.no_grad()
def test_order_of_visible_tokens_does_not_matter(networks):
    """Positions move with their tokens, in both transformers."""
    encoder, decoder = networks["encoder"], networks["reconstruction"]
    turned = torch.cat([order()[:, [2, 0, 1]], order()[:, SEEN:].flip(1)], dim=1)
    results = [reconstruction_error(encoder, decoder, image(), o, SEEN)[0].item() for o in (order(), turned)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_loss_updates_everything_except_the_positions(networks):
    networks.zero_grad()
    reconstruction_error(networks["encoder"], networks["reconstruction"], image(), order(), SEEN)[0].backward()
    still = [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias of keys shifts all products of a query equally, which the softmax ignores: part of in_proj_bias only.
    assert still == ["encoder.positions"]


def test_seed_determines_the_order_and_processes_share_it():
    one = draw_order(4, TOKENS, context(0))
    assert torch.equal(one, draw_order(4, TOKENS, context(0)))
    assert all(sorted(row) == list(range(TOKENS)) for row in one.tolist()) and len({*map(tuple, one.tolist())}) == 4
    parts = [draw_order(2, TOKENS, replace(context(0), rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), one)


@pytest.mark.parametrize("tokens, ratio, seen", [(512, 0.75, 128), (512, 0.125, 448), (8, 0.75, 2)])
def test_published_ratios_give_the_expected_number_of_visible_tokens(tokens, ratio, seen):
    assert visible_tokens(tokens, ratio) == seen


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_ratio_hiding_all_or_no_tokens_is_refused(ratio):
    with pytest.raises(ConfigError, match="mask_ratio"):
        visible_tokens(8, ratio)
