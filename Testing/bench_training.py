"""A DANTE Stage 2 step against its parts, its memory, and how long training waits for data; part of `make bench`.

Alone, at another size: `python Testing/bench_training.py brats-1mm data.patch=[96,96,96] data.batch_size=1`.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]

from DanteSegmenterLib.devices import resolve_device, synchronise  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteTrainerLib.config import Experiment, load_experiment  # noqa: E402
from DanteTrainerLib.losses import segmentation_loss  # noqa: E402
from DanteTrainerLib.methods import method_named  # noqa: E402
from DanteTrainerLib.patches import Batch  # noqa: E402
from DanteTrainerLib.precision import autocast, choose_precision  # noqa: E402
from DanteTrainerLib.stage import Stage, StepContext  # noqa: E402
from DanteTrainerLib.tasks import TASKS  # noqa: E402


def bench_training(experiment_name: str, device_name: str, repeats: int) -> dict:
    """Keys: dante_step_vs_parts, loader_wait_share, seconds of step and parts, peak memory."""
    report = step_against_parts(load_experiment(experiment_name, method="dante"), device_name, repeats)
    return {**report, **waiting(experiment_name, device_name)}


def step_against_parts(experiment: Experiment, device_name: str, repeats: int) -> dict:
    """The whole step, and three encoders and two decoders forward and backward alone, in turn."""
    device, task = resolve_device(device_name), TASKS[experiment.task]
    stage = method_named("dante")(experiment, task)[-1]
    stage.networks.to(device).to(memory_format=torch.channels_last_3d)
    dtype = choose_precision(experiment.run.precision, device)
    batch = _random_batch(experiment, len(task.full), len(task.regions), device)
    last = StepContext(experiment.run.steps - 1, experiment.run.steps, torch.Generator().manual_seed(0))

    def step() -> None:
        with autocast(device, dtype):
            total = stage.loss(batch, last).total
        total.backward()

    parts = _parts(stage, batch, task.limited_channels, task.output, lambda: autocast(device, dtype))
    seconds: dict[str, list[float]] = {name: [] for name in ("step", *parts)}
    for n in range(repeats + 1):
        for name, function in {"step": step, **parts}.items():
            stage.networks.zero_grad(set_to_none=True)
            synchronise(device)
            start = time.perf_counter()
            function()
            synchronise(device)
            if n:  # the first round is warm-up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "dante_step_vs_parts": medians["step"] / sum(medians[name] for name in parts),
        "dante_step_seconds": medians,
        "dante_peak_memory_gib": _peak_memory_gib(device),
    }


def _parts(stage: Stage, batch: Batch, limited: list[int], output: str, cast: Callable) -> dict[str, Callable]:
    """Each network alone, forward and backward, on what it reads in the step."""
    networks = stage.networks
    with torch.no_grad(), cast():
        z_l = networks["E_L"](batch.images[:, limited])
        z_a, z_p = networks["E_A"](batch.images), networks["E_P"](batch.images)
        fused, _ = networks["psi"](z_a, z_p)

    def encoder(name: str, image: torch.Tensor) -> Callable[[], None]:
        def run() -> None:
            with cast():
                features = networks[name](image)
            torch.autograd.backward(features, [torch.ones_like(f) for f in features])

        return run

    def decoder(name: str, features: list[torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            leaves = [f.detach().requires_grad_(True) for f in features]
            with cast():
                loss = segmentation_loss(networks[name].all_logits(leaves), batch.regions, output)
            loss.backward()

        return run

    return {
        "E_L": encoder("E_L", batch.images[:, limited]),
        "E_A": encoder("E_A", batch.images),
        "E_P": encoder("E_P", batch.images),
        "D_L": decoder("D_L", z_l),
        "D_F": decoder("D_F", fused),
    }


def _random_batch(experiment: Experiment, channels: int, regions: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (experiment.data.batch_size, channels, *experiment.data.patch)
    images = torch.randn(shape, generator=generator).to(device)
    masks = (torch.rand((shape[0], regions, *shape[2:]), generator=generator) > 0.8).float().to(device)
    return Batch(images.to(memory_format=torch.channels_last_3d), masks)


def _peak_memory_gib(device: torch.device) -> float:
    """Of the device; on a CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def waiting(experiment_name: str, device_name: str, steps: int = 30) -> dict:
    """Train for some steps on synthetic patients, as users do, and read the share of waiting from the log."""
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        sample = ["DanteSegmenterLib", "sample", str(data), "--cases", "4", "--spacing-mm", "2"]
        subprocess.run([*python, *sample], check=True, stdout=subprocess.DEVNULL)
        settings = [f"run.steps={steps}", "run.pretrain_steps=0", "run.validate_every=0"]
        train = ["DanteTrainerLib", "train", "dante", "--data", str(data), "--out", str(run), "--quiet"]
        train += ["--experiment", experiment_name, "--device", device_name]
        train += [part for text in settings for part in ("--set", text)]
        subprocess.run([*python, *train], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = pd.read_csv(run / "log.csv").iloc[1:]  # the first ten steps wait for the workers' start
    return {
        "loader_wait_share": float(rows.loader_wait_share.mean()),
        "training_seconds_per_step": float(rows.seconds_per_step.mean()),
    }


if __name__ == "__main__":
    name, *settings = sys.argv[1:] or ["brats-2mm"]
    keep_freed_memory()
    print(json.dumps(step_against_parts(load_experiment(name, settings, method="dante"), "auto", 3), indent=1))
