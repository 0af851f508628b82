"""Number formats of a training step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from DanteSegmenterLib.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The format for "auto": bf16 where the hardware computes in it (GPUs since Ampere, CPUs with AMX), else fp32.

    On a CPU with AVX512-BF16 but without AMX, bf16 was faster forward and slower backward: 1.18 s a step for 1.00 s.

    Raises:
        ConfigError: fp16 on a CPU, which has no kernels for it.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return torch.bfloat16 if device.type == "cpu" and amx() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("run.precision = 'fp16' needs a GPU; use auto, bf16 or fp32 on a CPU.")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision, or nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
