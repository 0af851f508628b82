import pytest
import torch

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.model_folder.architectures import AVERAGE_PRESENT, FIRST_PRESENT, ShaSpecOptions
from DanteSegmenterLib.networks.baselines.shaspec import Composition, ShaSpec, substitute
from DanteSegmenterLib.networks.unet import brats_1mm, initialise

SPEC = NetworkSpec((4, 8, 8), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3, 1)


def network_of(how, modalities=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ShaSpec(modalities, range(modalities), 3, SPEC, ShaSpecOptions(how))
        initialise(network)
    return network


def masked(network, image, present):
    return network.decoder(network.fuse(network.shared_maps(image), network.specific_maps(image), present))


@pytest.mark.parametrize("how", [FIRST_PRESENT, AVERAGE_PRESENT])
@pytest.mark.parametrize("missing", [0, 1])
def test_network_without_a_modality_equals_the_whole_with_it_dropped(how, missing):
    network, keep = network_of(how), [n for n in range(4) if n != missing]
    image = torch.randn(2, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    present = torch.ones(2, 4)
    present[0, missing] = 0
    mixed, part = masked(network, image, present), network.restricted_to(keep)
    assert torch.allclose(part(image[:1, keep]), mixed[:1], atol=1e-5)
    assert torch.allclose(network(image[1:]), mixed[1:], atol=1e-5)
    assert len(part.specific) == 3


def test_single_modality_fills_every_slot():
    network, image = network_of(FIRST_PRESENT, modalities=2), torch.randn(1, 2, 16, 16, 16)
    alone = network.restricted_to([0])(image[:, :1])
    assert torch.allclose(masked(network, image, torch.tensor([[1.0, 0.0]])), alone, atol=1e-5)


@pytest.mark.parametrize(("how", "wanted"), [(FIRST_PRESENT, [2.0, 1.0]), (AVERAGE_PRESENT, [4.0, 3.5])])
def test_substitute_is_the_first_present_or_the_mean_of_those_present(how, wanted):
    shared = [torch.full((2, 1, 1, 1, 1), value) for value in (1.0, 2.0, 6.0)]
    present = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    assert substitute(shared, present, ShaSpecOptions(how)).flatten().tolist() == wanted


@pytest.mark.parametrize(("how", "wanted"), [(FIRST_PRESENT, 1.0), (AVERAGE_PRESENT, 3.0)])
def test_deployed_network_has_all_its_modalities(how, wanted):
    shared = [torch.full((1, 1, 1, 1, 1), value) for value in (1.0, 2.0, 6.0)]
    assert substitute(shared, None, ShaSpecOptions(how)).item() == wanted


def test_composition_adds_a_residual_to_the_shared_features():
    layer = Composition(1)
    with torch.no_grad():
        layer.correction.weight.zero_(), layer.correction.bias.fill_(0.5)
        layer.correction.weight[0, :, 1, 1, 1] = torch.tensor([2.0, 10.0])
    assert layer(torch.full((1, 1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1, 1), 0.1)).item() == pytest.approx(10.5)


def test_dropped_modality_gets_no_segmentation_gradient():
    network, image = network_of(FIRST_PRESENT), torch.randn(1, 4, 16, 16, 16)
    masked(network, image, torch.tensor([[1.0, 0.0, 1.0, 1.0]])).square().mean().backward()
    reached = [any(p.grad.abs().sum() > 0 for p in encoder.parameters()) for encoder in network.specific]
    assert reached == [True, False, True, True]


def test_parameter_count_matches_the_paper_backbone():
    """Five encoders of half the width, 3.5 million each; the U-Net's encoder has 14 million."""
    with torch.device("meta"):
        network = ShaSpec(4, range(4), 3, brats_1mm(), ShaSpecOptions())
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    # 16, 32, 64, 128, 160, 160 features; two convolutions per stage, a bias and two norm parameters per channel.
    pairs = [(1, 16), (16, 32), (32, 64), (64, 128), (128, 160), (160, 160)]
    encoder = sum(27 * (i * o + o * o) + 2 * 3 * o for i, o in pairs)
    assert count["shared"] == encoder and count["specific"] == 4 * encoder
    assert count["composition"] == 27 * 320 * 160 + 160
    skips = sum(4 * (f // 2) * f + 3 * f for f in (32, 64, 128, 256, 320))
    assert count["joining"] == skips + 4 * 160 * 320 + 320
