import math

import pytest
import torch

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder.architectures import UnetrOptions
from DanteSegmenterLib.networks.baselines.vision_transformer import (
    Transformer,
    VisionTransformer,
    blocks_of,
    initialise_transformers,
    waves,
)


def test_blocks_keep_voxel_order_with_channels_last():
    image = torch.arange(2 * 2 * 4 * 6 * 2).reshape(2, 2, 4, 6, 2)
    for laid in (image, image.to(memory_format=torch.channels_last_3d)):
        blocks = blocks_of(laid, 2)
        assert blocks.shape == (2, 2 * 3 * 1, 8 * 2)
        for number, (k, j) in enumerate([(0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4)]):
            block = image[1, :, k : k + 2, j : j + 2, 0:2]
            assert blocks[1, number].tolist() == [block[c, a, b, i].item() for a, b, i, c in places()]


def places():
    return [(a, b, i, c) for a in (0, 1) for b in (0, 1) for i in (0, 1) for c in (0, 1)]


def test_positions_are_sinusoidal_per_axis_and_unique():
    found = waves((2, 3, 4), 12)[0]
    # Two waves per axis, of frequencies 1 and 1/100; the token at (1, 2, 3) is the last.
    expected = [f(n * w) for n in (1, 2, 3) for f in (math.sin, math.cos) for w in (1, 0.01)]
    assert found[-1].tolist() == pytest.approx(expected, abs=1e-6)
    assert len(torch.unique(found, dim=0)) == 24


def small():
    torch.manual_seed(0)
    transformer = Transformer(hidden=12, layers=2, heads=3, mlp=20)
    initialise_transformers(transformer)
    for name, parameter in transformer.named_parameters():
        if parameter.ndim == 1:  # nonzero biases and norms other than the identity
            torch.nn.init.normal_(parameter, float("norm" in name and "weight" in name), 0.3)
    return transformer


def attended(layer, x, heads):
    """Softmax of the scaled products of queries and keys, times values, head by head."""
    weights, biases = layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
    q, k, v = (x @ weights.t() + biases).chunk(3, dim=2)
    width, parts = x.shape[2] // heads, []
    for h in range(heads):
        own = slice(h * width, (h + 1) * width)
        shares = torch.softmax(q[..., own] @ k[..., own].transpose(1, 2) / width**0.5, dim=2)
        parts.append(shares @ v[..., own])
    return layer.self_attn.out_proj(torch.cat(parts, dim=2))


def normed(norm, x):
    centred = x - x.mean(dim=2, keepdim=True)
    return centred / (centred.square().mean(dim=2, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


@torch.no_grad()
def test_layers_are_pre_norm_attention_and_mlp_with_residuals():
    transformer, x = small(), torch.randn(2, 7, 12)
    states, expected = transformer(x), []
    for layer in transformer.layers:
        x = x + attended(layer, normed(layer.norm1, x), 3)
        inner = layer.linear1(normed(layer.norm2, x))
        x = x + layer.linear2(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)))
        expected.append(x)
    for state, wanted in zip(states, [*expected, normed(transformer.norm, x)], strict=True):
        assert torch.allclose(state, wanted, atol=1e-5)


@torch.no_grad()
def test_inference_output_equals_training_output():
    transformer, x = small(), torch.randn(2, 7, 12)
    trained = transformer(x)[-1]
    assert torch.allclose(transformer.eval()(x)[-1], trained, atol=1e-5)
    halved = transformer.bfloat16()(x.bfloat16())[-1]
    assert halved.dtype == torch.bfloat16 and torch.allclose(halved.float(), trained, atol=0.1)


def test_paper_size_has_the_parameters_of_vit_b_with_16_voxel_tokens():
    with torch.device("meta"):
        network = VisionTransformer(3, (128, 128, 128), UnetrOptions())
    h, m = 768, 3072
    layer = (4 * h * h + 4 * h) + (2 * h * m + h + m) + 4 * h  # attention, MLP, two norms
    expected = (3 * 16**3 * h + h) + 8**3 * h + 12 * layer + 2 * h
    assert sum(p.numel() for p in network.parameters()) == expected == 94_887_168


@pytest.mark.parametrize("patch, token", [((16, 16, 24), 16), ((320, 320, 320), 8)])
def test_patch_of_partial_or_too_many_tokens_is_refused(patch, token):
    with torch.device("meta"), pytest.raises(ModelError, match="whole tokens"):
        VisionTransformer(1, patch, UnetrOptions(token))


def test_initial_weights_are_glorot():
    transformer = Transformer(96, 1, 2, 384)
    initialise_transformers(transformer)
    layer = transformer.layers[0]
    for weight in (layer.self_attn.in_proj_weight, layer.linear1.weight):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert weight.abs().max() <= bound and weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert not layer.self_attn.in_proj_bias.any() and not layer.linear2.bias.any()
