"""Tiny dataset folders in common naming schemes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.volume import Volume

SHAPE = (20, 22, 24)
LPS_4MM = np.diag([-4.0, -4.0, 4.0, 1.0])
BRATS_2018 = {"t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair"}
BRATS_2023 = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}


def images(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Four modalities and a mask (1 necrotic, 2 oedema, 4 enhancing) of a box tumour that every modality shows."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    k, j, i = rng.integers(4, 8, 3)
    labels[k : k + 8, j : j + 8, i : i + 8] = 2
    labels[k + 2 : k + 6, j + 2 : j + 6, i + 2 : i + 6] = 4
    labels[k + 3 : k + 5, j + 3 : j + 5, i + 3 : i + 5] = 1
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    contrast = {"t1": (-1, -1, -1), "t1ce": (-1, -1, 4), "t2": (3, 2, 2), "flair": (1, 3, 2)}
    result = {}
    for modality, (necrotic, oedema, enhancing) in contrast.items():
        shift = np.select([labels == 1, labels == 2, labels == 4], [necrotic, oedema, enhancing], 0)
        result[modality] = np.where(brain, 10 + shift + rng.normal(0, 0.5, SHAPE), 0).astype(np.float32)
    return result, labels


def write_case(
    folder: Path, seed: int, naming: dict[str, str] = BRATS_2018, joint: str = "_", mask: str = "seg"
) -> Path:
    """Write a case folder; in BraTS 2023, enhancing tumour is 3."""
    folder.mkdir(parents=True)
    modalities, labels = images(seed)
    if naming is BRATS_2023:
        labels = np.where(labels == 4, 3, labels).astype(np.uint8)
    for modality, array in modalities.items():
        write_volume(folder / f"{folder.name}{joint}{naming[modality]}.nii.gz", Volume(array, LPS_4MM))
    if mask:
        write_volume(folder / f"{folder.name}{joint}{mask}.nii.gz", Volume(labels, LPS_4MM))
    return folder


def write_dataset(folder: Path, cases: int = 5) -> Path:
    """Write cases A, B, C ... and a split: one val, one test, the others train."""
    names = [chr(ord("A") + n) for n in range(cases)]
    for n, name in enumerate(names):
        write_case(folder / name, seed=n)
    split = {"train": names[:-2], "val": names[-2:-1], "test": names[-1:]}
    (folder / "split.json").write_text(json.dumps(split))
    return folder
