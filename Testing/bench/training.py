"""Times a training step against its convolutions and networks, and measures memory and data waiting (`make bench`).

Alone, at another size: `python Testing/bench/training.py brats-1mm data.patch=[96,96,96] data.batch_size=1`.
"""

from __future__ import annotations

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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]

from DanteSegmenterLib.inference.devices import resolve_device, synchronise  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteTrainerLib.data.patches import Batch  # noqa: E402
from DanteTrainerLib.loop.optimiser import Updater  # noqa: E402
from DanteTrainerLib.loop.precision import autocast, choose_precision  # noqa: E402
from DanteTrainerLib.loop.stage import Stage, StepContext  # noqa: E402
from DanteTrainerLib.methods import method_named  # noqa: E402
from DanteTrainerLib.methods.segmentation_loss import segmentation_loss  # noqa: E402
from DanteTrainerLib.settings.experiment import Experiment  # noqa: E402
from DanteTrainerLib.settings.loading import load_experiment  # noqa: E402
from DanteTrainerLib.settings.tasks import TASKS  # noqa: E402


def bench_training(experiment_name: str, device_name: str, repeats: int) -> dict:
    """Keys: `training` (one report per method and number format), loader_wait_share, training_seconds_per_step."""
    device, all_threads = resolve_device(device_name), torch.get_num_threads()
    formats = dict.fromkeys((choose_precision("auto", device), torch.float32))
    reports = []
    for threads in dict.fromkeys((1, all_threads)):  # one thread, as for trainings of a study that run side by side
        torch.set_num_threads(threads)
        for dtype in formats:
            for method in ("lower", "dante"):
                experiment = load_experiment(experiment_name, method=method)
                reports.append(step_against_parts(experiment, device, dtype, repeats))
    torch.set_num_threads(all_threads)
    return {"training": reports, **waiting(experiment_name, device_name)}


def step_against_parts(experiment: Experiment, device: torch.device, dtype: torch.dtype, repeats: int) -> dict:
    """A whole step of the last stage, in turn with only its convolutions and, for DANTE, only its networks.

    Keys: method, dtype, threads, seconds (medians by name), step_vs_convolutions, step_vs_parts (DANTE) and
    peak_memory_gib.
    """
    task = TASKS[experiment.task]
    stage = method_named(experiment.method)(experiment, task)[-1]
    batch = _random_batch(experiment, len(task.full), len(task.regions), device)
    last = StepContext(experiment.run.steps - 1, experiment.run.steps, torch.Generator().manual_seed(0))
    updater = Updater(stage, experiment.optimiser, device, dtype)

    def step() -> None:
        updater.step(batch, last)

    contestants = {"step": step, "convolutions": _convolutions(step)}
    if experiment.method == "dante":
        contestants |= _parts(stage, batch, task.limited_channels, task.output, lambda: autocast(device, dtype))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for n in range(repeats + 1):
        for name, function in contestants.items():
            updater.networks.zero_grad(set_to_none=True)
            synchronise(device)
            start = time.perf_counter()
            function()
            synchronise(device)
            if n:  # the first round is warm-up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report = {
        "method": experiment.method,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "seconds": medians,
        "step_vs_convolutions": medians["step"] / medians["convolutions"],
        "peak_memory_gib": _peak_memory_gib(device),
    }
    parts = [medians[name] for name in contestants if name not in ("step", "convolutions")]
    return report | ({"step_vs_parts": medians["step"] / sum(parts)} if parts else {})


class _Recorder(TorchDispatchMode):
    """Records every convolution, forward or backward, with its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution" in func.name():
            self.calls.append((func, tree_map_only(torch.Tensor, torch.Tensor.detach, args)))
        return func(*args, **(kwargs or {}))


def _convolutions(step: Callable[[], None]) -> Callable[[], None]:
    """The convolutions of one step, forward and backward, on their recorded inputs in the same number format."""
    with _Recorder() as recorder:
        step()

    @torch.no_grad()
    def run() -> None:
        for function, arguments in recorder.calls:
            function(*arguments)

    return run


def _parts(stage: Stage, batch: Batch, limited: list[int], output: str, cast: Callable) -> dict[str, Callable]:
    """Each network separately, forward and backward, on its inputs in the step."""
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
    return Batch(images.to(memory_format=torch.channels_last_3d), masks, images[:, :1] != 0)


def _peak_memory_gib(device: torch.device) -> float:
    """Of the device; on a CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def waiting(experiment_name: str, device_name: str, steps: int = 30) -> dict:
    """Train for some steps on synthetic patients, and read the share of waiting time from the log."""
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
        rows = pd.read_csv(run / "log.csv").iloc[1:]  # the first ten steps wait for the workers to start
    return {
        "loader_wait_share": float(rows.loader_wait_share.mean()),
        "training_seconds_per_step": float(rows.seconds_per_step.mean()),
    }


def show_training(report: dict) -> None:
    for part in report["training"]:
        threads = f"{part['threads']} thread(s)"
        print(f"a training step of {part['method']}, {part['dtype']}, {threads}, and its parts, forward and backward:")
        for name, value in part["seconds"].items():
            print(f"  {name:<14} {value:7.3f} s")
        prefix = "train_step" if part["method"] == "lower" else f"{part['method']}_step"
        for against in ("convolutions", "parts"):
            if f"step_vs_{against}" in part:
                print(f"{prefix + '_vs_' + against:<26} {part[f'step_vs_{against}']:.2f}")
        print(f"  peak memory    {part['peak_memory_gib']:7.1f} GiB")
    if "loader_wait_share" in report:
        print(f"loader_wait_share          {report['loader_wait_share']:.3f}")


if __name__ == "__main__":
    name, *settings = sys.argv[1:] or ["brats-2mm"]
    keep_freed_memory()
    place = resolve_device()
    of_dante = load_experiment(name, settings, method="dante")
    show_training({"training": [step_against_parts(of_dante, place, choose_precision("auto", place), 3)]})
