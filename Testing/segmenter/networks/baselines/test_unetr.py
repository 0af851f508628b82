import pytest
import torch

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder.architectures import UnetrOptions
from DanteSegmenterLib.networks.baselines.unetr import Residual, Unetr, UnetrDecoder, as_map
from DanteSegmenterLib.networks.baselines.vision_transformer import initialise_transformers
from DanteSegmenterLib.networks.unet import initialise

# The last axis is flat, and twice as wide as high.
SIZES = [(2, (8, 8, 8)), (4, (16, 8, 12)), (8, (16, 16, 16)), (16, (16, 32, 32))]


def network(token, patch, channels=2):
    torch.manual_seed(0)
    result = Unetr(channels, 3, patch, UnetrOptions(token, hidden=12, layers=4, heads=2, mlp=24, features=2))
    initialise_transformers(result)
    initialise(result)
    return result


@pytest.mark.parametrize("token, patch", SIZES)
def test_all_parameters_are_used_and_logits_have_patch_size(token, patch):
    unetr = network(token, patch)
    logits = unetr(torch.randn(2, 2, *patch))
    assert logits.shape == (2, 3, *patch)
    logits.square().mean().backward()
    assert not [name for name, p in unetr.named_parameters() if p.grad is None]


@pytest.mark.parametrize("token, layers, taps", [(16, 12, [3, 6, 9]), (8, 12, [4, 8]), (2, 12, []), (8, 1, [0, 0])])
def test_decoder_reads_the_published_hidden_states(token, layers, taps):
    with torch.device("meta"):
        assert UnetrDecoder(1, 2, UnetrOptions(token, layers=layers)).taps == taps


def test_tokens_return_to_the_positions_of_their_blocks():
    tokens = torch.arange(2 * 12 * 5).reshape(2, 12, 5)
    found = as_map(tokens, (2, 3, 2))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(found[1, :, 1, 2, 0], tokens[1, (1 * 3 + 2) * 2 + 0])


@pytest.mark.parametrize("channels", [3, 5])
def test_residual_block_projects_its_input_only_when_channels_grow(channels):
    torch.manual_seed(0)
    block, x = Residual(channels, 5), torch.randn(2, channels, 4, 4, 4)
    conv, norm = torch.nn.functional.conv3d, torch.nn.functional.instance_norm
    inner = torch.nn.functional.leaky_relu(norm(conv(x, block.first[0].weight, padding=1)), 0.01)
    around = x if channels == 5 else norm(conv(x, block.around[0].weight))
    expected = torch.nn.functional.leaky_relu(norm(conv(inner, block.second[0].weight, padding=1)) + around, 0.01)
    assert torch.allclose(block(x), expected, atol=1e-4)


@pytest.mark.slow  # imports MONAI
def test_decoder_equals_monai_unetr():
    from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock

    decoder = network(16, (16, 32, 16)).decoder
    theirs = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}
    image = UnetrBasicBlock(in_channels=2, out_channels=2, stride=1, **theirs)
    rising = [
        UnetrPrUpBlock(
            in_channels=12, out_channels=2 << n, num_layer=3 - n, stride=1, upsample_kernel_size=2, conv_block=True,
            **theirs
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    wide = (4, 8, 16, 12)
    ups = [
        UnetrUpBlock(in_channels=w, out_channels=2 << n, upsample_kernel_size=2, **theirs) for n, w in enumerate(wide)
    ]
    copy_residual(image.layer, decoder.image)
    for block, own in zip(rising, decoder.rising):
        copy_weight(block.transp_conv_init, own[0])
        for n, (up, residual) in enumerate(block.blocks):
            copy_weight(up, own[1 + 2 * n])
            copy_residual(residual, own[2 + 2 * n])
    for block, up, stage in zip(ups, decoder.ups, decoder.stages):
        copy_weight(block.transp_conv, up)
        copy_residual(block.conv_block, stage)
    x, states, grid = torch.randn(2, 2, 16, 32, 16), [torch.randn(2, 2, 12) for _ in range(5)], (1, 2, 1)
    # Of four layers, the states 1, 2 and 3; the last is normalised.
    skips = [image(x), *(block(as_map(states[n], grid)) for n, block in enumerate(rising, start=1))]
    features = as_map(states[4], grid)
    for block, skip in zip(reversed(ups), reversed(skips)):
        features = block(features, skip)
    assert torch.allclose(decoder(x, states, grid), decoder.head(features), atol=1e-3)


def copy_weight(theirs, ours):
    theirs.conv.weight.data.copy_(ours.weight)


def copy_residual(theirs, ours):
    copy_weight(theirs.conv1, ours.first[0])
    copy_weight(theirs.conv2, ours.second[0])
    if hasattr(theirs, "conv3"):
        copy_weight(theirs.conv3, ours.around[0])


def test_paper_size_has_99_million_parameters_and_93_with_one_channel():
    with torch.device("meta"):
        three, one = (Unetr(channels, 3, (128, 128, 128), UnetrOptions()) for channels in (3, 1))
    # A channel adds the 16^3 voxels of a token for each of its 768 features, and two convolutions of the decoder.
    per_channel = 16**3 * 768 + (27 + 1) * 16
    sizes = [sum(p.numel() for p in network.parameters()) for network in (three, one)]
    assert sizes[0] - sizes[1] == 2 * per_channel
    assert sizes[0] / 1e6 == pytest.approx(99.335, abs=0.001)


@pytest.mark.parametrize("wrong", [{"token": 1}, {"token": 12}, {"heads": 5}, {"hidden": 16, "heads": 4}])
def test_invalid_unetr_options_are_refused(wrong):
    with pytest.raises(ModelError, match="wanted a"):
        UnetrOptions(**wrong).check()


@pytest.mark.slow  # imports the compiler
def test_encoder_and_decoder_compile_to_one_graph_each():
    unetr = network(4, (16, 8, 12))
    image = torch.randn(2, 2, 16, 8, 12)
    expected = unetr(image)
    for part in (unetr.encoder.transformer, unetr.decoder):
        part.compile(backend="eager", fullgraph=True)
    assert torch.allclose(unetr(image), expected, atol=1e-5)
