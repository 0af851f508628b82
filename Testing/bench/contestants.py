"""The network's part of Segment as computed by several programs, each in its own process, as its users run it.

All compute the same windows of the same prepared volumes with the same weights:
  * ours: `sliding_window.predict_logits`, in the fastest number format here, in a process that keeps freed memory;
  * monai: `sliding_window_inference` with its defaults (float32, one window at a time) and 50 % overlap, Gaussian
    weights, on the same network as usually written with torch: `InstanceNorm3d`, default memory layout;
  * nnunet, if `nnunetv2` is installed: its predictor as on a CPU (float32), without mirroring, same network;
  * convolutions: only the network's convolutions, in our number format and process: the lower bound.

`python contestants.py NAME MODEL DEVICE DTYPE [CASE]` computes once for every line it reads and answers with the
seconds; DTYPE is "fastest", or "float32" as on a processor without half precision.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter")]

from DanteSegmenterLib.cases.case_folder import read_case_folder  # noqa: E402
from DanteSegmenterLib.errors import DanteError  # noqa: E402
from DanteSegmenterLib.inference import batch_of, load_model  # noqa: E402
from DanteSegmenterLib.inference.devices import fastest_dtype, synchronise  # noqa: E402
from DanteSegmenterLib.inference.sliding_window import Plan, needed_windows, predict_logits  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteSegmenterLib.networks.convolution import Conv3d, ConvTranspose3d  # noqa: E402
from DanteSegmenterLib.networks.unet import InstanceNorm  # noqa: E402
from DanteSegmenterLib.preprocess import Background, prepare  # noqa: E402
from DanteSegmenterLib.synthetic.sample import brain_mr  # noqa: E402
from DanteSegmenterLib.volume import Volume  # noqa: E402

NOT_INSTALLED = 3
ROUNDS_NOT_COUNTED = 2


@dataclass(frozen=True)
class Setting:
    """The inputs shared by all contestants."""

    network: nn.Module
    image: torch.Tensor
    background: Background
    patch: tuple[int, int, int]
    channels_out: int
    plan: Plan


def volumes_of(case: Path | None) -> dict[str, Volume]:
    """The volumes of a case folder, or of the synthetic patient."""
    return read_case_folder(case).read_images() if case else brain_mr(seed=0, spacing_mm=1.0).volumes


def setting_of(model_folder: Path, device: str, dtype: str, case: Path | None) -> Setting:
    model = load_model(model_folder, device)
    pathway, spec = model.spec.limited, model.spec
    volumes = volumes_of(case)
    prepared = prepare({m: volumes[m] for m in pathway.modalities}, pathway.modalities, spec.preprocessing)
    number = fastest_dtype(model.device) if dtype == "fastest" else torch.float32
    plan = Plan(model.device, number, batch_of(model.device, spec.patch))
    image = torch.from_numpy(prepared.tensor)
    return Setting(model.network(pathway), image, prepared.background, spec.patch, spec.out_channels, plan)


def ours(s: Setting) -> Callable[[], object]:
    return lambda: predict_logits(
        s.network, s.image, s.background, s.patch, s.channels_out, s.plan, lambda share: None, lambda: False
    )


def monai(s: Setting) -> Callable[[], object]:
    from monai.inferers import sliding_window_inference

    network, batch = as_usually_written(s.network).to(s.plan.device), s.image[None].to(s.plan.device)

    def run() -> None:
        with torch.inference_mode():
            sliding_window_inference(batch, s.patch, 1, network, overlap=0.5, mode="gaussian")

    return run


def nnunet(s: Setting) -> Callable[[], object]:
    os.environ.update(dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "unused"))
    try:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError:
        sys.exit(NOT_INSTALLED)
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=s.plan.device.type == "cuda",
        device=s.plan.device,
        allow_tqdm=False,
    )
    predictor.network = as_usually_written(s.network)
    # As it would be read from a plans file.
    predictor.configuration_manager = SimpleNamespace(patch_size=s.patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=s.channels_out)
    return lambda: predictor.predict_sliding_window_return_logits(s.image)


def convolutions(s: Setting) -> Callable[[], object]:
    """Run every convolution once per window, on inputs recorded beforehand."""
    network = copy.deepcopy(s.network).to(s.plan.device, s.plan.dtype).to(memory_format=torch.channels_last_3d)
    calls: list[tuple[nn.Module, torch.Tensor]] = []
    parts = [part for part in network.modules() if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d))]
    hooks = [
        part.register_forward_pre_hook(lambda part, inputs: calls.append((part, inputs[0].clone()))) for part in parts
    ]
    window = torch.randn(s.plan.batch, len(s.image), *s.patch, device=s.plan.device, dtype=s.plan.dtype)
    with torch.inference_mode():
        network(window.to(memory_format=torch.channels_last_3d))
    for hook in hooks:
        hook.remove()
    batches = -(-len(needed_windows(s.image, s.background, s.patch)) // s.plan.batch)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                for part, recorded in calls:
                    part(recorded)

    return run


def as_usually_written(network: nn.Module) -> nn.Module:
    """The same network with torch's own layers, in float32 and the default memory layout."""
    twin = copy.deepcopy(network).float().to(memory_format=torch.contiguous_format)
    for part in list(twin.modules()):
        for name, child in part.named_children():
            if isinstance(child, InstanceNorm):
                norm = nn.InstanceNorm3d(child.num_channels, eps=child.eps, affine=True)
                norm.load_state_dict(child.state_dict())
                setattr(part, name, norm)
            elif isinstance(child, (Conv3d, ConvTranspose3d)):  # ours avoid a slow path of PyTorch
                plain = nn.Conv3d if isinstance(child, Conv3d) else nn.ConvTranspose3d
                own = plain(child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding)
                own.load_state_dict(child.state_dict())
                setattr(part, name, own)
    return twin.eval().requires_grad_(False)


CONTESTANTS = {"ours": ours, "monai": monai, "nnunet": nnunet, "convolutions": convolutions}


def measure_in_turn(model: Path, device: str, dtype: str, case: Path | None, repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant, measured in turn, so that a change in machine speed affects all.

    Args:
        dtype: of ours and of the bare convolutions, "fastest" or "float32"; the others always use float32.

    Raises:
        DanteError: a contestant failed.
    """
    processes = {name: _start(name, model, device, dtype, case) for name in CONTESTANTS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    try:
        for n in range(repeats + ROUNDS_NOT_COUNTED):
            for name, process in list(processes.items()):
                answer = _ask(process)
                if not answer and process.wait() == NOT_INSTALLED:
                    del processes[name], seconds[name]
                elif not answer:
                    raise DanteError(f"'{name}' could not be measured (exit code {process.returncode}).")
                elif n >= ROUNDS_NOT_COUNTED:
                    seconds[name].append(float(answer))
        return seconds
    finally:
        for process in processes.values():
            process.kill()


def _start(name: str, model: Path, device: str, dtype: str, case: Path | None) -> subprocess.Popen:
    command = [sys.executable, __file__, name, str(model), device, dtype, *([str(case)] if case else [])]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen) -> str:
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except OSError:
        return ""
    return process.stdout.readline().strip()


def main(name: str, model: str, device: str, dtype: str, case: str = "") -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries is not an answer
    if name in ("ours", "convolutions"):
        keep_freed_memory()
    setting = setting_of(Path(model), device, dtype, Path(case) if case else None)
    run = CONTESTANTS[name](setting)
    for _ in sys.stdin:
        synchronise(setting.plan.device)
        start = time.perf_counter()
        run()
        synchronise(setting.plan.device)
        print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
