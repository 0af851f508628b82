import torch

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.baselines.gated_unet import GatedNetwork
from DanteSegmenterLib.networks.unet import initialise

SPEC = NetworkSpec((4, 8, 8), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3, 1)


def test_network_without_a_modality_equals_the_whole_with_it_dropped():
    network = GatedNetwork(4, 3, SPEC)
    initialise(network)
    for parameter in network.fusions.parameters():  # including the norms, which are initialised to the identity
        torch.nn.init.normal_(parameter)
    image, keep = torch.randn(2, 4, 16, 16, 16), [0, 2, 3]
    present = torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    whole = network.decoder(network.encode(image, present))
    assert torch.allclose(network.restricted_to(keep)(image[:, keep]), whole, atol=1e-5)


def test_fused_maps_keep_their_magnitude_without_a_modality():
    torch.manual_seed(0)
    network = GatedNetwork(4, 3, SPEC)
    initialise(network)
    image = torch.randn(1, 4, 16, 16, 16)
    whole, less = (network.encode(image, torch.tensor([[1.0, n, n, 1.0]])) for n in (1.0, 0.0))
    for a, b in zip(whole, less):
        assert not torch.allclose(a, b, atol=0.01)
        assert 0.7 < (b.square().mean() / a.square().mean()).item() < 1.4
