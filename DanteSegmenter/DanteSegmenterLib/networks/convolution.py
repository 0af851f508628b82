"""3D convolutions that avoid PyTorch's slow float32 path on CPUs.

Two cases do not use oneDNN (PyTorch 2.13, `ConvParams::use_mkldnn`) but a kernel that is two to eight times slower. The
first is a single sample with channels x K x J of at most 20480: the last odd window of an image, a batch reduced for
lack of memory, deep levels of large patches, any training with batch size 1. The second, with one thread, is a 1x1x1
kernel. Here oneDNN is called directly; results are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .part import is_traced

Size = tuple[int, ...]

ONE = (1, 1, 1)
# PyTorch's limits: channels x K x J of a sample, and samples in a batch.
SLOW_UP_TO, SLOW_POINTWISE_BELOW = 20480, 16


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` (numeric zero padding, with bias, no groups, no dilation), fast in all cases."""

    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    bias: nn.Parameter

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(input, weight, bias, self.stride, self.padding)


class ConvTranspose3d(nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` with stride equal to its kernel, as in all decoders here; fast for a single sample too."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> None:
        super().__init__(channels_in, channels_out, stride, stride)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]  # no choice of an output size
        if _is_slow(input, self.kernel_size, self.stride):
            return _upsampled(input, self.weight, self.bias)
        return super().forward(input)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = ONE, padding: Size = (0, 0, 0)
) -> Tensor:
    """Like `torch.nn.functional.conv3d`; x [B, C_in, K, J, I], weight [C_out, C_in, k, j, i]."""
    if _is_slow(x, weight.shape[2:], stride):
        return _OneDnn.apply(x, weight, bias, stride, padding)
    return functional.conv3d(x, weight, bias, stride, padding)


def _is_slow(x: Tensor, kernel: Size, stride: Size) -> bool:
    """Whether PyTorch would use its slow path."""
    if is_traced():  # first, because a compiler cannot trace the call for the number of threads
        return False
    small = len(x) == 1 and x.shape[1:4].numel() <= SLOW_UP_TO
    pointwise = tuple(kernel) == tuple(stride) == ONE and len(x) < SLOW_POINTWISE_BELOW and torch.get_num_threads() == 1
    return (
        (small or pointwise)
        and type(x) is Tensor  # not a tensor subclass without memory
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


class _OneDnn(torch.autograd.Function):
    """oneDNN's convolution; the backward pass selects oneDNN through its own memory format."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.numbers = stride, padding, [len(bias)] if bias is not None else None
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, ONE, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, bias_size = ctx.numbers
        dx, d_weight, d_bias = torch.ops.aten.convolution_backward(
            gradient.to_mkldnn(),
            x.to_mkldnn(),
            weight,
            bias_size,
            stride,
            padding,
            ONE,  # dilation
            False,  # transposed
            (0, 0, 0),  # output padding
            1,  # groups
            ctx.needs_input_grad[:3],
        )
        if dx is not None:
            dx = dx.to_dense().contiguous(memory_format=torch.channels_last_3d)
        return dx, d_weight, d_bias, None, None


def _upsampled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Transposed convolution with stride = kernel: every voxel becomes its own block, by one matrix product."""
    batch, channels, *size = x.shape
    features, *kernel = weight.shape[1:]
    blocks = x.movedim(1, -1).reshape(-1, channels) @ weight.movedim(1, -1).reshape(channels, -1)
    blocks = blocks.view(batch, *size, *kernel, features).permute(0, 1, 4, 2, 5, 3, 6, 7)
    result = blocks.reshape(batch, *(n * k for n, k in zip(size, kernel)), features)
    return (result if bias is None else result + bias).movedim(-1, 1)
