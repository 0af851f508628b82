from dataclasses import replace

import pytest
import torch
from torch import nn

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.model_folder.architectures import MmFormerOptions
from DanteSegmenterLib.networks.baselines.mmformer import (
    InterModal,
    MmFormer,
    TransformerLayer,
    encoder_spec,
    reductions,
    token_level,
)
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.unet import Decoder, brats_1mm, chest_ct, initialise

OPTIONS = MmFormerOptions(token_width=8, heads=2, mlp_width=16, layers=1, narrowing=2)
SPEC = NetworkSpec((4, 8, 8), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3, 1)
# One stage deeper than the tokens, like the network at 1 mm.
DEEP = NetworkSpec((2,) * 6, ((1, 1, 1),) + ((2, 2, 2),) * 5, ((3, 3, 3),) * 6, 1)
# The authors' size.
PUBLISHED = NetworkSpec((8, 16, 32, 64, 128), ((1, 1, 1),) + ((2, 2, 2),) * 4, ((3, 3, 3),) * 5, 3)


def network_of(spec, patch):
    """A network with nonzero positions, which are initialised to zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MmFormer(4, range(4), 3, spec, patch, OPTIONS)
        initialise(network)
        nn.init.normal_(network.positions)
    return network


@pytest.mark.parametrize(("spec", "patch"), [(SPEC, (16, 16, 16)), (DEEP, (32, 64, 32))])
def test_network_without_a_modality_equals_the_whole_with_it_dropped(spec, patch):
    network, keep = network_of(spec, patch), [0, 2, 3]
    image = torch.randn(2, 4, *patch, generator=torch.Generator().manual_seed(0))
    whole = network.decoder(network.fuse(network.pyramids(image), torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(2, 4)))
    part = network.restricted_to(keep)
    assert torch.allclose(part(image[:, keep]), whole, atol=1e-5)
    assert len(part.encoders) == len(part.intra) == 3 and part.positions.shape[0] == 4
    assert not torch.allclose(network(image), whole, atol=1e-2)


def test_dropping_a_modality_in_one_sample_does_not_affect_others():
    network, image = network_of(SPEC, (16, 16, 16)), torch.randn(2, 4, 16, 16, 16)
    present = torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    mixed = network.decoder(network.fuse(network.pyramids(image), present))
    assert torch.allclose(mixed[1:], network(image[1:]), atol=1e-5)
    assert torch.allclose(mixed[:1], network.restricted_to([0, 2, 3])(image[:1, [0, 2, 3]]), atol=1e-5)


def test_tokens_are_at_one_sixteenth_resolution_or_the_deepest_level():
    assert token_level(brats_1mm()) == 4 and reductions(brats_1mm())[4] == (16, 16, 16)
    assert token_level(chest_ct()) == 4 and reductions(chest_ct())[4] == (8, 16, 16)
    assert token_level(SPEC) == 2 and reductions(SPEC)[2] == (4, 4, 4)
    with torch.device("meta"):
        chest = MmFormer(2, [0], 2, chest_ct(), (64, 160, 192), OPTIONS)
    assert chest.size == (8, 10, 12) and chest.positions.shape == (2, 960, 8)


def test_layer_equals_pytorch_pre_norm_layer():
    layer = TransformerLayer(OPTIONS)
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": layer.queries_keys_values.weight,
            "self_attn.in_proj_bias": torch.zeros(24),
            "self_attn.out_proj.weight": layer.mix.weight,
            "self_attn.out_proj.bias": layer.mix.bias,
            "linear1.weight": layer.widen.weight,
            "linear1.bias": layer.widen.bias,
            "linear2.weight": layer.narrow.weight,
            "linear2.bias": layer.narrow.bias,
            **{f"norm1.{n}": p for n, p in layer.attention_norm.named_parameters()},
            **{f"norm2.{n}": p for n, p in layer.mlp_norm.named_parameters()},
        }
    )
    tokens = torch.randn(2, 5, 8)
    assert torch.allclose(layer(tokens, 0.0), theirs(tokens), atol=1e-6)


def test_output_at_a_position_comes_from_the_tokens_at_that_position():
    inter = InterModal(3, 8, OPTIONS)
    for layer in inter.layers:  # zero outputs: tokens pass through
        for last in (layer.mix, layer.narrow):
            nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    with torch.no_grad():
        inter.back.weight.copy_(torch.eye(24)), inter.back.bias.zero_()
    tokens = torch.randn(2, 3, 5, 8)
    found = inter(tokens, torch.zeros(3, 5, 8))
    assert torch.equal(found[1, 8 * 2 + 7, 4], tokens[1, 2, 4, 7])
    assert torch.equal(found, tokens.permute(0, 1, 3, 2).flatten(1, 2))


def test_positions_of_a_missing_modality_still_take_part():
    part, image = network_of(SPEC, (16, 16, 16)).restricted_to([0, 2, 3]), torch.randn(1, 3, 16, 16, 16)
    before = part(image)
    with torch.no_grad():
        part.positions[1].normal_()
    assert not torch.allclose(part(image), before, atol=1e-3)


def test_dropout_is_an_argument_not_a_mode():
    network, image = network_of(SPEC, (16, 16, 16)).train(), torch.randn(1, 4, 16, 16, 16)
    pyramids = network.pyramids(image)
    assert torch.equal(network.fuse(pyramids)[-1], network.fuse(pyramids)[-1])
    assert not torch.equal(network.fuse(pyramids, dropout=0.5)[-1], network.fuse(pyramids, dropout=0.5)[-1])


def conv(channels_in, channels_out, kernel):
    return channels_in * channels_out * kernel**3 + channels_out


def total(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameter_count_matches_the_authors_except_norms_upsampling_and_unused_layers():
    """The authors' count, from the published layer sizes: 36,654,416."""
    features, width, mlp = PUBLISHED.features, 512, 4096
    encoder = conv(1, 8, 3) + sum(conv(i, o, 3) for i, o in zip(features, features[1:]))
    encoder += 2 * sum(conv(f, f, 3) for f in features)
    layer = 3 * width**2 + width**2 + width + 4 * width + width * mlp + mlp + mlp * width + width
    transformers = 5 * layer + 4 * 8**3 * width + 4 * conv(128, width, 1) + conv(4 * width, 4 * 128, 1)
    unused = 4 * conv(width, 128, 1)  # projection back from the intra-modal tokens, never called
    fusions = sum(conv(4 * f, f, 1) + conv(f, f, 3) + conv(f, f, 1) for f in features)
    decoder = sum(2 * conv(2 * f, f, 3) + conv(f, f, 1) for f in features[:-1])
    heads = sum(conv(f, 4, 1) for f in features) + conv(8, 4, 1)
    published = 4 * encoder + transformers + unused + fusions + 2 * decoder + heads
    assert published == 36_654_416

    options = MmFormerOptions(narrowing=1)
    with torch.device("meta"):
        network = MmFormer(4, range(4), 3, PUBLISHED, (128, 128, 128), options)
        separate, deepest = Decoder(3, encoder_spec(PUBLISHED, options)), Conv3d(128, 3, 1)
    separate.heads = separate.heads[:1]
    norms = 2 * 3 * sum(features)  # a weight and a bias per channel of three convolutions; the authors' have none
    assert total(network.encoders) == 4 * (encoder + norms)
    assert total(network.intra, network.inter) + network.positions.numel() == transformers
    assert total(network.fusions, network.join) == fusions + norms
    # Ours upsamples by a transposed convolution, the authors' by interpolation and another 3^3 convolution.
    levels = [conv(2 * f, f, 2) + conv(2 * f, f, 3) + 2 * conv(f, f, 3) + 2 * 3 * f for f in features[:-1]]
    assert total(network.decoder.ups, network.decoder.stages) == total(separate.ups, separate.stages) == sum(levels)
    ours = total(network, separate, deepest)
    assert ours == published - unused + 5 * norms + 2 * (sum(levels) - decoder) - (heads - heads // 4 * 3)
    assert ours == 36_563_818


def test_heads_must_divide_the_token_dimension():
    with pytest.raises(ModelError, match="token_width must be a multiple of heads, 3, got 8"):
        replace(OPTIONS, heads=3).check()
