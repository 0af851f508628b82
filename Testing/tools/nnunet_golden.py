"""Writes the fixture of Testing/segmenter/nnunet: a tiny nnU-Net model, a patient, and nnU-Net's results for them.

`python Testing/tools/nnunet_golden.py`; needs nnunetv2. A residual encoder, and sagittal slices four times as thick as
wide, so that axes are permuted and slices resampled individually; mirroring along two axes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("DanteSegmenter", "Testing")]

from nnunet_models import Recipe, patient, predicted, write_results  # noqa: E402

GOLDEN = REPOSITORY / "Testing" / "segmenter" / "nnunet" / "golden"
RECIPE = Recipe(residual=True, thick=True, tiny=True)


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = write_results(Path(scratch), RECIPE, steps=200)
        volumes, _ = patient(RECIPE)
        arrays = {name: volume.array.astype(np.int16) for name, volume in volumes.items()}
        matrix = next(iter(volumes.values())).ijk_to_ras
        for log in root.rglob("training_log*"):
            log.unlink()
        predictions = {
            name: predicted(root, volumes, mirror=mirror)[0] for name, mirror in (("plain", False), ("mirrored", True))
        }
        shutil.copytree(root, GOLDEN / root.name)
    np.savez_compressed(
        GOLDEN / "case.npz", matrix=matrix, **arrays, **{k: v.astype(np.uint8) for k, v in predictions.items()}
    )
    print({name: np.bincount(labels.ravel()).tolist() for name, labels in predictions.items()})


if __name__ == "__main__":
    main()
