"""Instance normalisation in several equivalent formulations; the fastest is chosen for device and size.

    y = (x - mean) / sqrt(variance + eps) * weight + bias

with mean and (biased) variance over the voxels of each channel of each sample (Ulyanov et al. 2016, arXiv 1607.08022).
Networks keep their feature maps in the channels-last memory layout, in which convolutions are fastest. PyTorch's own
`instance_norm` leaves it, which costs copies; its `group_norm` keeps it, but its backward pass on CPUs handles bfloat16
element by element (three fifths of a training step). `make bench` prints the timings of each formulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .part import is_traced

# Row length in `_ByRows`: long enough for vector registers, short enough for accurate sums.
ROW = 256
# For maps this small, the overhead of calling operators dominates; PyTorch's own norm needs the fewest.
FEW_NUMBERS = 1 << 18
# Channels that fill a vector register; without gradients, group norm is then fastest for maps of this many voxels.
WIDE, LARGE_MAP = 16, 1024


class InstanceNorm(nn.Module):
    """Instance norm with weight and bias; [B, C, K, J, I] -> same shape, dtype and memory layout."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}"


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Instance norm as defined above, in the fastest formulation for this device, size and purpose.

    Args:
        x: [B, C, K, J, I], channels-last for speed.
        weight, bias: [C].
    """
    return FORMULATIONS[fastest(x)](x, weight, bias, eps)


def fastest(x: Tensor) -> str:
    """Key of the fastest formulation in `FORMULATIONS`."""
    if x.device.type != "cpu" or is_traced():  # a compiler fuses the plain operations
        return "torch" if _is_widened(x) else "group_norm"
    if not torch.is_grad_enabled() and x.shape[1] >= WIDE and x[0, 0].numel() >= LARGE_MAP:
        return "group_norm"
    if x[0, 0].numel() == 1:  # refused by PyTorch's own norms; the result is the bias
        return "rows"
    one_wide_sample = len(x) == 1 and x.shape[1] >= WIDE
    return "torch" if one_wide_sample or x.numel() <= FEW_NUMBERS else "rows"


def _is_widened(x: Tensor) -> bool:
    """Whether autocast would compute group norm in float32, and so keep all feature maps of a training in that format.

    On CUDA it does (PyTorch's list `AT_FORALL_FP32`), but not with instance and batch norm, which nnU-Net uses.
    """
    autocast = x.device.type == "cuda" and torch.is_autocast_enabled("cuda") and not is_traced()
    return autocast and x.dtype in (torch.float16, torch.bfloat16) and x.shape[2:].numel() > 1


def _group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group norm with one group per channel: equal by definition."""
    return functional.group_norm(x, x.shape[1], weight, bias, eps)


def _torch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """PyTorch's own instance norm, converted back to channels-last. For a single sample, its gradients are wrong if
    they arrive channels-last (PyTorch 2.13), so batch norm is used, which is equivalent."""
    exact = torch.promote_types(x.dtype, torch.float32)  # else half-precision weights give half-precision moments
    weight, bias = weight.to(exact), bias.to(exact)
    if len(x) == 1:
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    normalised = functional.instance_norm(x, weight=weight, bias=bias, eps=eps)
    return normalised.contiguous(memory_format=torch.channels_last_3d)


class _ByRows(torch.autograd.Function):
    """For CPUs: batch norm's vectorised kernels on channels-last memory, without copies.

    A sample's memory is a table of [voxels, C] numbers. Viewed as [voxels / t, t C] it has enough columns to fill
    vector registers; the moments of a channel are combined from those of its t columns.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        means, variances = torch.stack([_moments(sample) for sample in x]).unbind(dim=1)
        roots = (variances + eps).rsqrt()
        scales = weight.to(roots.dtype) * roots
        ctx.save_for_backward(x, weight, means, roots)
        return _scaled(x, scales, bias.to(roots.dtype) - means * scales)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """With n = (x - mean) root, root = 1 / sqrt(variance + eps), and gradient g:

        d bias = sum g, d weight = sum g n, dx = weight root (g - mean(g) - n mean(g n)), per channel and sample.
        """
        x, weight, means, roots = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        sums = torch.stack([_sums(*parts) for parts in zip(gradient, x, means, roots)])
        of_n, of_g = (sums / x[0, 0].numel()).unbind(dim=1)
        scales = weight.to(roots.dtype) * roots
        slopes = -scales * roots * of_n
        dx = _scaled(x, slopes, -scales * of_g - slopes * means)
        dx += _scaled(gradient, scales, torch.zeros_like(scales))
        d_weight, d_bias = sums.sum(dim=0).to(weight.dtype)
        return dx, d_weight, d_bias, None


def _table(sample: Tensor) -> Tensor:
    """View a channels-last sample [C, K, J, I] as [1, t C, voxels / t, 1], also channels-last; same memory."""
    channels, voxels = len(sample), sample[0].numel()
    fold = math.gcd(voxels, 1 << max(0, math.ceil(math.log2(ROW / channels))))
    return sample.movedim(0, -1).view(-1, fold * channels).t()[None, :, :, None]


def _columns(values: Tensor, table: Tensor) -> Tensor:
    """Repeat one value per channel for each column of the table."""
    return values.repeat(table.shape[1] // len(values))


def _moments(sample: Tensor) -> Tensor:
    """Mean and variance of every channel, [2, C]."""
    table = _table(sample)
    exact = torch.promote_types(sample.dtype, torch.float32)  # this argument sets the precision of PyTorch's function
    no_mean, no_variance = torch.zeros(2, table.shape[1], dtype=exact)
    found = torch.batch_norm_update_stats(table, no_mean, no_variance, 0.0)
    means, variances = (m.view(-1, len(sample)) for m in found)
    mean = means.mean(dim=0)
    return torch.stack((mean, (variances + (means - mean).square()).mean(dim=0)))


def _scaled(x: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
    """x * scale + shift with [B, C] scales and shifts, computed as batch norm with mean 0 and variance 1."""
    result = torch.empty_like(x)
    for sample, scale, shift, out in zip(x, scales, shifts, result):
        table = _table(sample)
        zero, one = torch.zeros_like(scale), torch.ones_like(scale)
        arguments = (_columns(values, table) for values in (scale, shift, zero, one))
        unused = scale.new_empty(0)
        torch.ops.aten.native_batch_norm.out(
            table, *arguments, False, 0.0, 0.0, out=_table(out), save_mean=unused, save_invstd=unused.clone()
        )
    return result


def _sums(gradient: Tensor, sample: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """Sums over voxels of g n and of g, [2, C], computed as batch norm's gradients of weight and bias."""
    table = _table(sample)
    columns = [_columns(values, table) for values in (torch.ones_like(mean), mean, root.pow(-2))]
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        _table(gradient), table, *columns, None, None, False, 0.0, (False, True, True)
    )
    return torch.stack((of_weight, of_bias)).view(2, -1, len(sample)).sum(dim=1)


def _rows(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _ByRows.apply(x, weight, bias, eps)


FORMULATIONS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "group_norm": _group_norm,
    "torch": _torch,
    "rows": _rows,
}
