"""Small model folders with deterministic weights, and a small study for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DanteSegmenterLib.model_folder import (
    Member,
    Modality,
    ModelSpec,
    NetworkSpec,
    Normalisation,
    Pathway,
    Preprocessing,
    Region,
    sha256_of,
    write_spec,
)
from DanteSegmenterLib.model_folder.spec import weights_file
from DanteSegmenterLib.model_folder.terminology import Code, Terminology
from DanteSegmenterLib.networks.unet import UNet, initialise
from DanteSegmenterLib.networks.weights import save_weights
from DanteSegmenterLib.volume import Volume

MODALITIES = ("t1", "t1ce", "t2", "flair")
LIMITED = ("t1", "t2", "flair")
# Voxel indices to world: 2 mm, rows to the left, columns to the back.
LPS_2MM = np.diag([-2.0, -2.0, 2.0, 1.0])
TINY_NETWORK = NetworkSpec(features=(2, 4), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3), (3, 3, 3)))


def brain_regions() -> tuple[Region, ...]:
    """WT, TC and ET with BraTS labels."""
    meaning = Terminology(
        Code("SCT", "49755003", "Morphologically Altered Structure"),
        Code("SCT", "108369006", "Neoplasm"),
        Code("SCT", "12738006", "Brain"),
    )
    return (
        Region("WT", "whole tumour", (0.2, 0.7, 0.3), meaning, (1, 2, 4), 2),
        Region("TC", "tumour core", (0.9, 0.6, 0.1), meaning, (1, 4), 1),
        Region("ET", "enhancing tumour", (0.9, 0.1, 0.1), meaning, (4,), 4),
    )


def brain_spec(
    sha256: str = "0" * 64, spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0), full: Pathway | None = None
) -> ModelSpec:
    return ModelSpec(
        name="test model",
        version="1",
        task="brain",
        modalities=tuple(Modality(id, id.upper()) for id in MODALITIES),
        privileged="t1ce",
        regions=brain_regions(),
        output="regions",
        preprocessing=Preprocessing("LPS", spacing_mm, {id: Normalisation("zscore_nonzero") for id in MODALITIES}),
        patch=(16, 16, 16),
        network=TINY_NETWORK,
        limited=Pathway("limited.safetensors", sha256, LIMITED),
        full=full,
    )


def write_brain_model(folder: Path, with_full: bool = False, seed: int = 0, more: Sequence[int] = ()) -> Path:
    """A model folder with a tiny network, He-initialised from `seed`, and further members from the seeds in `more`."""
    folder.mkdir(parents=True, exist_ok=True)
    pathways: dict[str, Any] = {}
    for name, modalities in (("limited", LIMITED), ("full", MODALITIES)) if with_full else (("limited", LIMITED),):
        members = []
        for number, own in enumerate((seed, *more), start=1):
            path = folder / weights_file(name, number)
            save_weights(_network(len(modalities), own), path)
            members.append(Member(path.name, sha256_of(path)))
        pathways[name] = Pathway("", "", modalities).with_members(members)
    write_spec(folder, replace(brain_spec(), **pathways))
    return folder


def _network(channels: int, seed: int) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(channels, 3, TINY_NETWORK)
        initialise(network)
    return network


def study(
    shape: tuple[int, int, int] = (20, 24, 28), matrix: np.ndarray = LPS_2MM, names: Sequence[str] = LIMITED
) -> dict[str, Volume]:
    """A block of noise in air for each modality."""
    rng = np.random.default_rng(0)
    volumes = {}
    for name in names:
        array = np.zeros(shape, np.float32)
        array[2:-2, 3:-3, 4:-4] = rng.uniform(1, 2, (shape[0] - 4, shape[1] - 6, shape[2] - 8))
        volumes[name] = Volume(array, matrix, name)
    return volumes
