import pytest
import torch

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.unet import InstanceNorm, UNet, brats_1mm, chest_ct, initialise


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_network_has_31_million_parameters():
    # Counted by hand from nnU-Net's plan: encoder 14.027 M, decoder 17.171 M (3 in, 3 out).
    with torch.device("meta"):
        network = UNet(3, 3, brats_1mm())
    assert parameters(network.encoder) / 1e6 == pytest.approx(14.027, abs=0.001)
    assert parameters(network.decoder) / 1e6 == pytest.approx(17.171, abs=0.001)


def test_anisotropic_ct_network_has_the_feature_maps_of_the_paper():
    with torch.device("meta"):
        features = UNet(1, 2, chest_ct()).encoder(torch.empty(1, 1, 64, 160, 192))
    sizes = [tuple(f.shape[2:]) for f in features]
    assert sizes == [(64, 160, 192), (64, 80, 96), (32, 40, 48), (16, 20, 24), (8, 10, 12), (4, 5, 6)]


def test_instance_norm_equals_torch():
    image = torch.randn(2, 4, 5, 6, 7) * 3 + 1
    assert torch.allclose(InstanceNorm(4)(image), torch.nn.InstanceNorm3d(4, affine=True)(image), atol=1e-5)


@pytest.mark.parametrize("channels, shape", [(4, (5, 6, 7)), (8, (16, 16, 16)), (64, (8, 8, 8)), (3, (1, 1, 3))])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_instance_norm_in_inference_equals_torch(channels, shape, dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    image = (torch.randn(2, channels, *shape, generator=generator) * 3 + 5).to(memory_format=torch.channels_last_3d)
    norm = InstanceNorm(channels)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=generator)
        norm.bias.uniform_(-1, 1, generator=generator)
        expected = torch.nn.functional.instance_norm(image, weight=norm.weight, bias=norm.bias)
        result = norm.to(dtype)(image.to(dtype))
    assert result.dtype == dtype and result.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(result.float(), expected, atol=tolerance)


def test_every_resolution_except_the_bottleneck_has_a_segmentation_head():
    spec = NetworkSpec((2, 3, 4), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3)))
    network = UNet(1, 5, spec)
    logits = network.all_logits(torch.randn(2, 1, 4, 8, 8))
    assert [tuple(x.shape) for x in logits] == [(2, 5, 4, 8, 8), (2, 5, 4, 4, 4)]
    assert torch.equal(network.eval()(torch.ones(1, 1, 4, 8, 8)), network.all_logits(torch.ones(1, 1, 4, 8, 8))[0])


def test_initialisation_is_he_normal_without_bias():
    network = UNet(8, 1, NetworkSpec((32, 32), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (3, 3, 3))))
    initialise(network)
    first = network.encoder.stages[0][0][0]
    assert first.weight.std().item() == pytest.approx((2 / (8 * 27 * (1 + 0.01**2))) ** 0.5, rel=0.05)
    assert not first.bias.any()
