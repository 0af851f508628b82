"""Milliseconds of each formulation of instance norm, by map, number format and purpose; part of `make bench`.

`*` marks the choice of `DanteSegmenterLib.networks.instance_norm`. Alone: `python Testing/bench/norm.py [DEVICE]`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter")]

from DanteSegmenterLib.inference.devices import fastest_dtype, resolve_device, synchronise  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteSegmenterLib.networks.instance_norm import FORMULATIONS, fastest  # noqa: E402

# The levels of the 2 mm network with two windows, and one map with many channels.
SHAPES = [(2, 8, 64), (2, 16, 32), (2, 32, 16), (2, 64, 8), (2, 128, 4), (1, 32, 64)]


def bench_norm(device_name: str, repeats: int) -> list[dict]:
    """One row per map, format and purpose: `shape`, `dtype`, `purpose`, `chosen`, and `ms` by formulation."""
    device = resolve_device(device_name)
    rows = []
    for dtype in dict.fromkeys((fastest_dtype(device), torch.float32)):
        for batch, channels, size in SHAPES:
            x = torch.randn(batch, channels, size, size, size, device=device).to(dtype)
            x = x.to(memory_format=torch.channels_last_3d)
            for purpose in ("inference", "training"):
                with torch.set_grad_enabled(purpose == "training"):
                    ms = {
                        name: _median_ms(_run(norm, x), device, repeats)
                        for name, norm in FORMULATIONS.items()
                        if name != "rows" or device.type == "cpu"
                    }
                    chosen = fastest(x)
                rows.append(
                    {
                        "shape": [batch, channels, size],
                        "dtype": str(dtype).removeprefix("torch."),
                        "purpose": purpose,
                        "chosen": chosen,
                        "ms": ms,
                    }
                )
    return rows


def _run(norm: Callable, x: torch.Tensor) -> Callable[[], object]:
    """Forward pass and, if gradients are needed, backward pass."""
    wanted = torch.is_grad_enabled()
    # A deployed network uses one format; in training, weights are float32 and autocast mixes formats.
    dtype = torch.float32 if wanted else x.dtype
    weight, bias = (torch.ones(x.shape[1], device=x.device, dtype=dtype, requires_grad=wanted) for _ in range(2))
    inputs, gradient = (x.detach().requires_grad_(wanted), weight, bias), torch.randn_like(x)

    def run() -> None:
        with torch.autocast(x.device.type, x.dtype, enabled=wanted and x.dtype != torch.float32):
            y = norm(*inputs, 1e-5)
        if wanted:
            torch.autograd.grad(y, inputs, gradient.to(y.dtype))

    return run


def _median_ms(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    seconds = []
    for n in range(repeats + 2):
        synchronise(device)
        start = time.perf_counter()
        function()
        synchronise(device)
        if n >= 2:
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def show_norm(rows: list[dict]) -> None:
    print("instance norm, ms by formulation (* is what is chosen):")
    for row in rows:
        cells = "  ".join(f"{'*' if name == row['chosen'] else ' '}{name} {ms:6.2f}" for name, ms in row["ms"].items())
        batch, channels, size = row["shape"]
        print(f"  {batch} x {channels:>3} x {size}^3 {row['dtype']:<9} {row['purpose']:<9} {cells}")


if __name__ == "__main__":
    keep_freed_memory()
    show_norm(bench_norm(sys.argv[1] if len(sys.argv) > 1 else "auto", 7))
