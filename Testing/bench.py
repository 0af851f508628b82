"""Seconds of Segment by phase, against MONAI's inferer and against the convolutions alone: `make bench [CASE=FOLDER]`.

All three compute the same windows of the same prepared volumes with the same weights in the same process, in turn:
  * ours: `sliding_window.predict_logits`, in the number format measured as fastest here;
  * MONAI: `sliding_window_inference` with its defaults (float32, one window at a time) and 50 % overlap, Gaussian
    weights, on the same network as one would write it with torch: `InstanceNorm3d`, default memory layout;
  * convolutions: only the network's convolutions on windows of that size, in our number format: the floor.
Then a training step of DANTE against its parts (`bench_training.py`) and the window
(`bench_window.py`). Prints a table and writes bench.json; ratios `segment_vs_*` above 1 mean that ours is faster.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "Testing")]

from bench_training import bench_training  # noqa: E402

from DanteSegmenterLib.case_folder import read_case_folder  # noqa: E402
from DanteSegmenterLib.devices import fastest_dtype, synchronise  # noqa: E402
from DanteSegmenterLib.errors import DanteError  # noqa: E402
from DanteSegmenterLib.inference import batch_of, load_model, segment  # noqa: E402
from DanteSegmenterLib.network import InstanceNorm  # noqa: E402
from DanteSegmenterLib.preprocess import prepare  # noqa: E402
from DanteSegmenterLib.sample import brain_mr  # noqa: E402
from DanteSegmenterLib.sliding_window import Plan, needed_windows, predict_logits  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="a patient's folder; default: the synthetic patient")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "Resources" / "Models" / "brats-without-t1ce")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench.json")
    options = parser.parse_args()
    try:
        report = bench(options.case, options.model, options.device, options.repeats)
        report |= bench_training("brats-2mm", options.device, options.repeats)
        report |= bench_window()
    except DanteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)
    print(f"wrote {options.out}")
    return 0


def bench(case: Path | None, model_folder: Path, device: str, repeats: int) -> dict:
    """All figures as one dictionary; the keys `segment_vs_monai` and `segment_vs_convolutions` are ratios."""
    from monai.inferers import sliding_window_inference

    model = load_model(model_folder, device)
    given = read_case_folder(case).read_images() if case else brain_mr(seed=0, spacing_mm=1.0).volumes
    limited = model.spec.limited.modalities
    volumes = {modality: given[modality] for modality in limited}
    whole = [segment(model, volumes).seconds for _ in range(repeats)]

    image = torch.from_numpy(prepare(volumes, limited, model.spec.preprocessing).tensor)
    network, dtype, patch = model.network(model.spec.limited), fastest_dtype(model.device), model.spec.patch
    plan = Plan(model.device, dtype, batch_of(model.device, patch))
    common = as_usually_written(network).to(model.device)
    batch = image[None].to(model.device)

    def ours() -> None:
        predict_logits(network, image, patch, model.spec.out_channels, plan, lambda share: None, lambda: False)

    def monai() -> None:
        with torch.inference_mode():
            sliding_window_inference(batch, patch, 1, common, overlap=0.5, mode="gaussian")

    windows = len(needed_windows(image, patch))
    floor = convolutions_alone(network, len(limited), plan, patch, windows)
    seconds = in_turn({"ours": ours, "monai": monai, "convolutions": floor}, model.device, repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "case": str(case.name) if case else "synthetic brain",
        "device": model.device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "windows": windows,
        "phases": {phase: statistics.median(run[phase] for run in whole) for phase in whole[0]},
        "seconds": seconds,
        "segment_vs_monai": medians["monai"] / medians["ours"],
        "segment_vs_convolutions": medians["convolutions"] / medians["ours"],
    }


def bench_window() -> dict:
    """The window's figures, from a process of its own: Qt and VTK end with it."""
    command = [sys.executable, str(REPOSITORY / "Testing" / "bench_window.py")]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise DanteError(f"the window could not be measured: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def as_usually_written(network: nn.Module) -> nn.Module:
    """The same network with torch's own instance norm, in float32 and the default memory layout."""
    twin = copy.deepcopy(network).float().to(memory_format=torch.contiguous_format)
    for part in list(twin.modules()):
        for name, child in part.named_children():
            if isinstance(child, InstanceNorm):
                norm = nn.InstanceNorm3d(child.num_channels, eps=child.eps, affine=True)
                norm.load_state_dict(child.state_dict())
                setattr(part, name, norm)
    return twin.eval().requires_grad_(False)


def convolutions_alone(
    network: nn.Module, channels: int, plan: Plan, patch: tuple[int, int, int], windows: int
) -> Callable[[], None]:
    """A function that runs every convolution once per window, on inputs recorded beforehand."""
    network = copy.deepcopy(network).to(plan.device, plan.dtype).to(memory_format=torch.channels_last_3d)
    calls: list[tuple[nn.Module, torch.Tensor]] = []
    parts = [part for part in network.modules() if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d))]
    hooks = [
        part.register_forward_pre_hook(lambda part, inputs: calls.append((part, inputs[0].clone()))) for part in parts
    ]
    window = torch.randn(plan.batch, channels, *patch, device=plan.device, dtype=plan.dtype)
    with torch.inference_mode():
        network(window.to(memory_format=torch.channels_last_3d))
    for hook in hooks:
        hook.remove()

    def run() -> None:
        with torch.inference_mode():
            for _ in range(-(-windows // plan.batch)):
                for part, recorded in calls:
                    part(recorded)

    return run


def in_turn(functions: dict[str, Callable[[], None]], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Seconds of each function, in turn, so that a machine that slows down slows all; the first round is warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for n in range(repeats + 1):
        for name, function in functions.items():
            synchronise(device)
            start = time.perf_counter()
            function()
            synchronise(device)
            if n:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(report: dict) -> None:
    print(
        f"{report['case']}, {report['windows']} windows, {report['device']} {report['dtype']}, "
        f"{report['threads']} threads"
    )
    for phase, value in report["phases"].items():
        print(f"  {phase:<14} {value:7.3f} s")
    print("the network's part, median (min - max):")
    for name, values in report["seconds"].items():
        print(f"  {name:<14} {statistics.median(values):7.3f} s  ({min(values):.3f} - {max(values):.3f})")
    print(f"segment_vs_monai         {report['segment_vs_monai']:.2f}")
    print(f"segment_vs_convolutions  {report['segment_vs_convolutions']:.2f}")
    print("a DANTE Stage 2 step and its parts, forward and backward:")
    for name, value in report["dante_step_seconds"].items():
        print(f"  {name:<14} {value:7.3f} s")
    print(f"dante_step_vs_parts      {report['dante_step_vs_parts']:.2f}")
    print(f"loader_wait_share        {report['loader_wait_share']:.3f}")
    print(f"peak memory              {report['dante_peak_memory_gib']:.1f} GiB")
    print("the window, from click to segments:")
    for name in ("first_click_seconds", "warm_click_seconds"):
        print(f"  {name:<20} " + ", ".join(f"{part} {value:.2f}" for part, value in report[name].items()))
    print(f"warm_click_vs_compute    {report['warm_click_vs_compute']:.2f}")
    print(f"window_max_gap_ms        {report['window_max_gap_ms']:.0f}")
    print(f"cancel_s                 {report['cancel_s']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
