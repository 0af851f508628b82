"""An imported nnU-Net model against nnU-Net itself: seconds from the volumes to the label map, networks loaded.

`python imported.py REPEATS` prints JSON: by encoder ("plain", "residual") the medians, ours in this processor's fastest
number format and in float32, nnU-Net's on its CPU path (float32), and the share of equal voxels.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "Testing")]

from nnunet_models import Recipe, labels_by, patient, predictor_of, write_results  # noqa: E402

from DanteSegmenterLib.inference import load_model, segment, segmenting  # noqa: E402
from DanteSegmenterLib.memory import keep_freed_memory  # noqa: E402
from DanteSegmenterLib.nnunet import import_model  # noqa: E402


def measure(recipe: Recipe, repeats: int) -> dict[str, Any]:
    """Measure in turn, so that other load affects all; the first round is warm-up."""
    volumes, _ = patient(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        root = write_results(Path(scratch), recipe, steps=2)
        spec = import_model(root, Path(scratch) / "model")
        model, predictor = load_model(Path(scratch) / "model", "cpu"), predictor_of(root)
    by_id = {modality.id: volume for modality, volume in zip(spec.modalities, volumes.values())}
    fastest = segmenting.fastest_dtype

    def ours(choose: Callable[[torch.device], torch.dtype]) -> np.ndarray:
        segmenting.fastest_dtype = choose
        return segment(model, by_id).label_map

    contestants: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: ours(fastest),
        "ours_float32": lambda: ours(lambda device: torch.float32),
        "nnunet": lambda: labels_by(predictor, volumes),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    maps = {}
    for _round in range(repeats + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            maps[name] = run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    same = {f"same_{name}": float(np.mean(maps[name] == maps["nnunet"])) for name in ("ours", "ours_float32")}
    ratios = {f"nnunet_vs_{name}": medians["nnunet"] / medians[name] for name in ("ours", "ours_float32")}
    return {**medians, **ratios, **same}


def main() -> None:
    keep_freed_memory()
    warnings.simplefilter("ignore")
    report = {}
    if importlib.util.find_spec("nnunetv2") is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            for name, residual in (("plain", False), ("residual", True)):
                report[name] = measure(Recipe(residual=residual, large=True), int(sys.argv[1]))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
