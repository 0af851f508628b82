import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from DanteSegmenterLib.networks import instance_norm as module
from DanteSegmenterLib.networks.instance_norm import FORMULATIONS, InstanceNorm

SHAPES = [(2, 8, 16, 16, 16), (1, 8, 16, 16, 16), (2, 3, 5, 6, 7), (1, 4, 3, 3, 3), (3, 64, 2, 2, 2), (2, 1, 1, 1, 5)]


def definition(x, weight, bias):
    mean = x.mean(dim=(2, 3, 4), keepdim=True)
    variance = x.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None, None] + bias[:, None, None, None]


def example(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 5).to(dtype)
    weight, bias = torch.rand(2, shape[1], generator=generator, dtype=torch.float64) + 0.5
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    layout = torch.channels_last_3d
    return x.to(memory_format=layout), weight, bias, gradient.to(memory_format=layout)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_every_formulation_and_its_gradients_equal_the_definition_in_float64(name, shape):
    # PyTorch 2.13's own instance norm fails this for one sample whose gradient arrives channels-last.
    x, weight, bias, gradient = example(shape)
    inputs = [value.clone().requires_grad_() for value in (x, weight, bias)]
    found, expected = FORMULATIONS[name](*inputs, 1e-5), definition(*inputs)
    assert torch.allclose(found, expected, atol=1e-10)
    for own, right in zip(*(torch.autograd.grad(y, inputs, gradient) for y in (found, expected))):
        assert torch.allclose(own, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_every_formulation_keeps_bfloat16_and_the_memory_layout(name, shape):
    x, weight, bias, gradient = example(shape, torch.bfloat16)
    inputs = [x.requires_grad_(), weight.float().requires_grad_(), bias.float().requires_grad_()]
    found = FORMULATIONS[name](*inputs, 1e-5)
    assert found.dtype == torch.bfloat16 and found.is_contiguous(memory_format=torch.channels_last_3d)
    exact = [value.detach().double().requires_grad_() for value in inputs]
    expected = definition(*exact)
    assert (found.double() - expected).norm() < 0.01 * expected.norm()
    pairs = zip(torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, exact, gradient.double()))
    for own, right in pairs:
        assert (own.double() - right).norm() < 0.01 * right.norm() + 0.01 * right.numel() ** 0.5 * (x.numel() < 300)


@pytest.mark.parametrize("shape", SHAPES)
def test_module_equals_torch_in_training_and_inference(shape, monkeypatch):
    x, weight, bias, _ = example(shape, torch.float32)
    norm = InstanceNorm(shape[1])
    norm.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    expected = definition(x, weight.float(), bias.float())
    for few in (0, module.FEW_NUMBERS):
        monkeypatch.setattr(module, "FEW_NUMBERS", few)
        assert torch.allclose(norm(x), expected, atol=1e-5)
        with torch.inference_mode():
            assert torch.allclose(norm(x), expected, atol=1e-5)


def test_fastest_formulation_is_chosen():
    finest, deep = torch.zeros(2, 8, 64, 64, 64), torch.zeros(2, 128, 4, 4, 4)
    middle = torch.zeros(2, 32, 16, 16, 16)
    assert [module.fastest(x) for x in (finest, middle, deep)] == ["rows", "torch", "torch"]
    with torch.no_grad():
        assert [module.fastest(x) for x in (finest, middle, deep)] == ["rows", "group_norm", "torch"]
    assert module.fastest(torch.zeros(1, 32, 64, 64, 64)) == "torch"
    assert module.fastest(torch.zeros(2, 8, 64, 64, 64, device="meta")) == "group_norm"


@pytest.mark.parametrize("batch", [1, 2])
def test_map_of_one_voxel_becomes_the_bias(batch):
    norm = InstanceNorm(3)
    norm.load_state_dict({"weight": torch.full((3,), 2.0), "bias": torch.tensor([1.0, -1.0, 0.5])})
    x = torch.full((batch, 3, 1, 1, 1), 7.0, requires_grad=True)
    assert norm(x)[:, :, 0, 0, 0].tolist() == [pytest.approx([1.0, -1.0, 0.5], abs=1e-3)] * batch
    norm(x).sum().backward()
    assert x.grad.abs().max() < 1e-3


@pytest.fixture
def autocast_on_cuda():
    """As within `torch.autocast("cuda")`, which is refused without a GPU."""
    torch.set_autocast_enabled("cuda", True)
    yield
    torch.set_autocast_enabled("cuda", False)


def test_mixed_precision_on_cuda_keeps_feature_maps_in_half_precision(autocast_on_cuda):
    with FakeTensorMode():  # tensors without memory, also of devices that are not there
        maps = {d: torch.empty(2, 8, 4, 4, 4, device="cuda", dtype=d) for d in (torch.bfloat16, torch.float32)}
        one_voxel = torch.empty(2, 8, 1, 1, 1, device="cuda", dtype=torch.bfloat16)
        # Autocast computes group norm in float32.
        assert [module.fastest(x) for x in maps.values()] == ["torch", "group_norm"]
        assert module.fastest(one_voxel) == "group_norm"  # the others refuse it
        torch.set_autocast_enabled("cuda", False)
        assert module.fastest(maps[torch.bfloat16]) == "group_norm"  # inference, where all weights are of one format
