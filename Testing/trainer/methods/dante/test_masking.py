import pytest
import torch

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Encoder, brats_1mm, chest_ct, initialise
from DanteTrainerLib.methods.dante.masking import (
    Densify,
    ReconstructionDecoder,
    block_size,
    draw_mask,
    encode_visible,
    mask_at,
    visible_norm,
)

SPEC = NetworkSpec((3, 4, 5), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3)


def mask_for(patch=(16, 16, 16), batch=2, ratio=0.75, seed=0):
    return draw_mask(batch, patch, block_size(SPEC), ratio, torch.Generator().manual_seed(seed))


def test_block_size_is_the_stride_of_the_penultimate_stage():
    assert block_size(SPEC) == (2, 2, 2)
    assert block_size(brats_1mm()) == (16, 16, 16)
    assert block_size(chest_ct()) == (8, 16, 16)  # 64x160x192 -> 8x10x12 blocks


@pytest.mark.parametrize("ratio", [0.3, 0.75, 0.9])
def test_exact_share_of_blocks_is_hidden_in_every_sample(ratio):
    mask = mask_for(ratio=ratio)
    assert mask.shape == (2, 1, 8, 8, 8)
    assert (mask == 0).sum(dim=(1, 2, 3, 4)).tolist() == [round(512 * ratio)] * 2
    assert not torch.equal(mask[0], mask[1])


def test_mask_repeats_its_blocks_at_finer_sizes_and_is_all_visible_at_coarser_ones():
    mask = mask_for()
    fine = mask_at(mask, (16, 16, 16))
    assert torch.equal(fine[:, :, ::2, ::2, ::2], mask) and torch.equal(fine[:, :, 1::2, 1::2, 1::2], mask)
    assert mask_at(mask, (4, 4, 4)).min() == 1


def test_hidden_voxels_do_not_influence_any_feature():
    encoder = Encoder(2, SPEC)
    initialise(encoder)
    mask = mask_for()
    image = torch.randn(2, 2, 16, 16, 16)
    other = torch.where(mask_at(mask, (16, 16, 16)) > 0, image, torch.randn_like(image) * 100)
    assert not torch.equal(image, other)
    for a, b in zip(encode_visible(encoder, image, mask), encode_visible(encoder, other, mask)):
        assert torch.equal(a, b)


def test_features_are_zero_where_masked_and_the_bottleneck_is_full():
    encoder = Encoder(1, SPEC)
    initialise(encoder)
    mask = mask_for()
    features = encode_visible(encoder, torch.randn(2, 1, 16, 16, 16), mask)
    for x in features[:2]:
        hidden = mask_at(mask, x.shape[2:]).expand_as(x) == 0
        assert not x[hidden].any() and x[~hidden].ne(0).float().mean() > 0.9
    assert features[2].ne(0).float().mean() > 0.9


def test_sparse_encoding_of_a_fully_visible_image_equals_the_dense_encoder():
    encoder = Encoder(1, SPEC)
    initialise(encoder)
    image = torch.randn(1, 1, 8, 8, 8)
    everything = torch.ones(1, 1, 4, 4, 4)
    for sparse, dense in zip(encode_visible(encoder, image, everything), encoder(image)):
        assert torch.allclose(sparse, dense, atol=1e-4)


def test_visible_norm_uses_only_statistics_of_visible_positions():
    x = torch.tensor([1.0, 3.0, 100.0, -50.0]).reshape(1, 1, 4, 1, 1)
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1, 1)
    result = visible_norm(x, mask, torch.ones(1), torch.zeros(1))  # mean 2, deviation 1
    assert result.ravel().tolist() == pytest.approx([-1, 1, 0, 0], abs=1e-4)


def test_fusion_is_anchor_plus_correction_without_norm_after_the_projection():
    fusion = Fusion(SPEC)
    assert [type(p) for p in fusion.projections] == [Conv3d] * 3
    anchor = [torch.randn(1, c, 2, 2, 2) for c in SPEC.features]
    privileged = [torch.randn(1, c, 2, 2, 2) for c in SPEC.features]
    fused, corrections = fusion(anchor, privileged)
    for p, a, z, f, c in zip(fusion.projections, anchor, privileged, fused, corrections):
        by_hand = (
            torch.einsum("oi,bikjh->bokjh", p.weight[:, :, 0, 0, 0], torch.cat((a, z), 1)) + p.bias[:, None, None, None]
        )
        assert torch.allclose(c, by_hand, atol=1e-5) and torch.allclose(f, a + by_hand, atol=1e-5)


def test_paper_fusion_has_584800_parameters():
    assert sum(p.numel() for p in Fusion(brats_1mm()).parameters()) == 584_800


def test_fusion_bias_at_hidden_positions_does_not_affect_the_reconstruction():
    encoder, decoder, mask = Encoder(1, SPEC), ReconstructionDecoder(1, SPEC), mask_for()
    initialise(encoder)
    features = encode_visible(encoder, torch.randn(2, 1, 16, 16, 16), mask)
    biased = [x + 9 * (1 - mask_at(mask, x.shape[2:])) for x in features]
    assert not torch.equal(features[0], biased[0]) and torch.equal(decoder(features, mask), decoder(biased, mask))


def test_decoder_reads_normalised_visible_features_and_a_learned_token_elsewhere():
    fill = Densify(1, convolve=False)
    torch.nn.init.constant_(fill.token, 7.0)
    x = torch.tensor([1.0, 3.0, 100.0, -50.0]).reshape(1, 1, 4, 1, 1)
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1, 1)
    assert fill(x, mask).ravel().tolist() == pytest.approx([-1, 1, 7, 7], abs=1e-4)  # mean 2, deviation 1


def test_reconstruction_decoder_output_has_the_target_channels():
    encoder, decoder = Encoder(2, SPEC), ReconstructionDecoder(4, SPEC)
    mask = mask_for()
    assert decoder(encode_visible(encoder, torch.randn(2, 2, 16, 16, 16), mask), mask).shape == (2, 4, 16, 16, 16)
    assert decoder(encoder(torch.randn(2, 2, 16, 16, 16)), None).shape == (2, 4, 16, 16, 16)
    assert isinstance(decoder.densify[0].convolution, torch.nn.Identity)
