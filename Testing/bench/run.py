"""Seconds of Segment by phase, and against others: `make bench [CASE=FOLDER]`. Prints a table, writes bench.json.

The network's part is compared with MONAI's inferer, nnU-Net's predictor and the bare convolutions
(`contestants.py`); ratios `segment_vs_*` above 1 mean that ours is faster. Also measured: a training step of DANTE
against its parts (`training.py`), the window (`window.py`) an imported nnU-Net model against nnU-Net (`imported.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "Testing")]

from contestants import CONTESTANTS, measure_in_turn, volumes_of  # noqa: E402
from norm import bench_norm, show_norm  # noqa: E402
from training import bench_training, show_training  # noqa: E402

from DanteSegmenterLib.errors import DanteError  # noqa: E402
from DanteSegmenterLib.inference import load_model, segment  # noqa: E402
from DanteSegmenterLib.inference.devices import fastest_dtype  # noqa: E402
from DanteSegmenterLib.inference.sliding_window import needed_windows  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteSegmenterLib.preprocess import prepare  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="a patient's folder; default: the synthetic patient")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "Resources" / "Models" / "brats-without-t1ce")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench.json")
    options = parser.parse_args()
    keep_freed_memory()
    try:
        report = bench(options.case, options.model, options.device, options.repeats)
        report |= bench_training("brats-2mm", options.device, options.repeats)
        report["norm"] = bench_norm(options.device, options.repeats)
        report |= bench_window()
        report["imported"] = bench_imported(options.repeats)
    except DanteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)
    print(f"wrote {options.out}")
    return 0


def bench(case: Path | None, model_folder: Path, device: str, repeats: int) -> dict:
    """Segment's phases, and `network`: one report per number format (the fastest, and float32 if different)."""
    model, given = load_model(model_folder, device), volumes_of(case)
    volumes = {modality: given[modality] for modality in model.spec.limited.modalities}
    segment(model, volumes)  # warm-up
    whole = [segment(model, volumes).report.seconds for _ in range(repeats)]
    prepared = prepare(volumes, model.spec.limited.modalities, model.spec.preprocessing)
    fastest = str(fastest_dtype(model.device)).removeprefix("torch.")
    formats = {fastest: "fastest"} | ({} if fastest == "float32" else {"float32": "float32"})
    return {
        "case": str(case.name) if case else "synthetic brain",
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "windows": len(needed_windows(torch.from_numpy(prepared.tensor), prepared.background, model.spec.patch)),
        "phases": {phase: statistics.median(run[phase] for run in whole) for phase in whole[0]},
        "network": [
            network_against_others(model_folder, device, name, dtype, case, repeats) for name, dtype in formats.items()
        ],
    }


def network_against_others(
    model_folder: Path, device: str, name: str, dtype: str, case: Path | None, repeats: int
) -> dict:
    """Keys: dtype, seconds by contestant, `segment_vs_...` (ratios, None for missing contestants)."""
    seconds = measure_in_turn(model_folder, device, dtype, case, repeats)
    medians = {contestant: statistics.median(values) for contestant, values in seconds.items()}
    ratios = {
        f"segment_vs_{other}": medians[other] / medians["ours"] if other in medians else None
        for other in CONTESTANTS
        if other != "ours"
    }
    return {"dtype": name, "seconds": seconds, **ratios}


def bench_window() -> dict:
    """The window's figures, from a separate process, with which Qt and VTK exit."""
    command = [sys.executable, str(REPOSITORY / "Testing" / "bench" / "window.py")]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise DanteError(f"the window could not be measured: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def bench_imported(repeats: int) -> dict:
    """An imported model against nnU-Net (`imported.py`); empty if nnU-Net is not installed."""
    command = [sys.executable, str(REPOSITORY / "Testing" / "bench" / "imported.py"), str(repeats)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if result.returncode:
        raise DanteError(f"the imported model could not be measured: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def show(report: dict) -> None:
    print(f"{report['case']}, {report['windows']} windows, {report['device']}, {report['threads']} threads")
    for phase, value in report["phases"].items():
        print(f"  {phase:<14} {value:7.3f} s")
    for network in report["network"]:
        print(f"the network's part, ours in {network['dtype']}, median (min - max):")
        for name, values in network["seconds"].items():
            print(f"  {name:<14} {statistics.median(values):7.3f} s  ({min(values):.3f} - {max(values):.3f})")
        for name in CONTESTANTS:
            ratio = network.get(f"segment_vs_{name}")
            if ratio is not None:
                print(f"{'segment_vs_' + name:<26} {ratio:.2f}")
    show_training(report)
    show_norm(report["norm"])
    print("the window, from click to segments:")
    for name in ("first_click_seconds", "warm_click_seconds"):
        print(f"  {name:<20} " + ", ".join(f"{part} {value:.2f}" for part, value in report[name].items()))
    print(f"warm_click_vs_compute    {report['warm_click_vs_compute']:.2f}")
    print(f"window_max_gap_ms        {report['window_max_gap_ms']:.0f}")
    print(f"cancel_s                 {report['cancel_s']:.2f}")
    for name, found in report["imported"].items():
        print(f"a model of nnU-Net ({name} encoder), from volumes to label map:")
        for key, value in found.items():
            print(f"  {key:<24} {value:.5g}")


if __name__ == "__main__":
    sys.exit(main())
