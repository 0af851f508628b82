import pytest
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from DanteSegmenterLib.networks.convolution import Conv3d, ConvTranspose3d
from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.loop.stage import StepContext
from DanteTrainerLib.methods import method_named
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tasks import TASKS

KERNELS = [((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((1, 1, 1), (1, 1, 1))]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def kernels_of(function):
    with profile(activities=[ProfilerActivity.CPU]) as record:
        function()
    return {event.key for event in record.key_averages()}


def answers(function, inputs):
    """The result, and the gradients of a weighted sum of it."""
    inputs = [value.detach().requires_grad_() for value in inputs]
    y = function(*inputs)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, *torch.autograd.grad(y, inputs, weights.to(memory_format=torch.channels_last_3d))


def compared(module, reference, x):
    """Pairs of results and gradients: the module's in float32, the reference's in float64."""
    inputs = [x, module.weight, module.bias]

    def own(x, weight, bias):
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, x)

    return zip(answers(own, inputs), answers(reference, [value.double() for value in inputs]))


@pytest.mark.parametrize("kernel, stride", KERNELS)
@pytest.mark.parametrize("batch", [1, 2])
def test_convolution_and_gradients_equal_torch_in_float64(kernel, stride, batch, threads):
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    module = Conv3d(3, 5, kernel, stride, padding)
    x = torch.randn(batch, 3, 6, 8, 10).to(memory_format=torch.channels_last_3d)
    for found, right in compared(module, lambda *v: functional.conv3d(*v, stride, padding), x):
        assert torch.allclose(found.double(), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_single_sample_upsampling_and_gradients_equal_torch_in_float64(stride):
    torch.manual_seed(0)
    module = ConvTranspose3d(4, 3, stride)
    x = torch.randn(1, 4, 3, 4, 5).to(memory_format=torch.channels_last_3d)
    assert module(x).is_contiguous(memory_format=torch.channels_last_3d)
    for found, right in compared(module, lambda *v: functional.conv_transpose3d(*v, stride=stride), x):
        assert torch.allclose(found.double(), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", ["lower", "dante"])
def test_float32_training_step_never_takes_the_slow_path(method, batch, threads):
    experiment = load_experiment("brats-2mm", ["network.features=[4,8,16,16,16]"], method=method)
    task = TASKS["brain"]
    stage = method_named(method)(experiment, task)[-1]
    stage.networks.to(memory_format=torch.channels_last_3d)
    images = torch.randn(batch, 4, 32, 32, 32).to(memory_format=torch.channels_last_3d)
    last = StepContext(experiment.run.steps - 1, experiment.run.steps, torch.Generator().manual_seed(0))
    data = Batch(images, (images[:, :3] > 1).float(), images[:, :1] != 0)
    names = kernels_of(lambda: stage.loss(data, last).total.backward())
    assert not [name for name in names if "slow_conv3d" in name or "slow_conv_transpose3d_forward" in name]
    assert "aten::mkldnn_convolution" in names


@pytest.mark.slow  # imports the compiler
def test_one_voxel_convolution_compiles_into_one_graph():
    convolution, x = Conv3d(3, 2, 1), torch.randn(2, 3, 4, 4, 4)
    compiled = torch.compile(convolution, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), convolution(x), atol=1e-6)
