"""Segment: loaded volumes in, masks on the reference's own grid out; the one path of button, shell and evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import Cancelled
from ..model_folder.spec import ModelSpec, Pathway, check_weights_file, choose_pathway, read_spec
from ..networks.build import build
from ..networks.weights import load_weights
from ..preprocess.preparing import prepare
from ..result.regions import (
    calibration_note,
    confidence_of,
    label_map_of,
    mask_of,
    nested_probability,
    volume_range_ml,
)
from ..volume import Volume
from .devices import fastest_dtype, resolve_device
from .sliding_window import Plan, predict_logits

# Voxels of the windows computed at once: two 64^3 windows were 5 % faster than one on two CPU cores; a GPU takes more.
BATCH_VOXELS = {"cpu": 2 * 64**3, "mps": 2 * 64**3, "cuda": 4 * 128**3}


@dataclass(frozen=True)
class Progress:
    """How far a run is: `phase` is "load", "prepare", "network" or "restore"; `fraction` of the whole run, 0 to 1."""

    phase: str
    fraction: float
    message: str


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result on the grid of `reference`.

    Attributes:
        spec: the model's description.
        reference: the volume whose grid everything is on.
        probabilities: float32 [R, K, J, I] in the order of `spec.regions`.
        label_map: uint8 [K, J, I], each region's `label_value`.
        masks: bool [K, J, I] by region id, nested as the regions are (ET in TC in WT).
        volumes_ml: by region id.
        confidence: mean probability inside each mask, by region id; NaN for an empty one.
        volume_ranges_ml: of each region at a strict and at a lenient threshold (`regions.RANGE_THRESHOLDS`).
        seconds: by phase.
        device: where the network ran, and in which number format.
        notes: what the user should know.
    """

    spec: ModelSpec
    reference: Volume
    probabilities: np.ndarray
    label_map: np.ndarray
    masks: dict[str, np.ndarray]
    volumes_ml: dict[str, float]
    confidence: dict[str, float]
    volume_ranges_ml: dict[str, tuple[float, float]]
    seconds: dict[str, float]
    device: str
    notes: tuple[str, ...]


@dataclass(eq=False)
class Model:
    """A model folder that is ready to run; networks are loaded when first needed and then kept."""

    folder: Path
    spec: ModelSpec
    device: torch.device
    networks: dict[str, nn.Module] = field(default_factory=dict)

    def network(self, pathway: Pathway) -> nn.Module:
        """The pathway's network in evaluation mode.

        Raises:
            ModelError: the weights are missing, were altered or do not fit.
        """
        if pathway.weights not in self.networks:
            path = check_weights_file(self.folder, pathway)
            # Without memory behind it until the file's header proved to be as model.json says.
            with torch.device("meta"):
                network = build(self.spec, pathway)
            load_weights(network, path)
            self.networks[pathway.weights] = network.eval().requires_grad_(False)
        return self.networks[pathway.weights]


def load_model(folder: Path | str, device: str = "auto") -> Model:
    """Open a model folder and load the deployed network.

    Raises:
        ModelError: the folder cannot be used. ResourceError: the device does not exist.
    """
    model = Model(Path(folder), read_spec(folder), resolve_device(device))
    model.network(model.spec.limited)
    return model


def segment(
    model: Model,
    volumes: dict[str, Volume],
    *,
    mirror: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Segmentation:
    """Segment loaded volumes.

    Args:
        model: from `load_model`.
        volumes: by modality id, on any grids; the result is on the grid of the pathway's first modality.
        mirror: average over the eight mirrorings of each window; takes eight times as long.
        progress: called at least once per convolution.
        cancelled: asked as often; True ends the run.

    Raises:
        InputError: a volume is missing or unusable. Cancelled. ResourceError: memory ran out at every step down.
    """
    clock = _Clock(progress or (lambda _: None), cancelled or (lambda: False))
    pathway, notes = choose_pathway(model.spec, volumes)
    with clock.phase("load", 0.0, "Loading the network"):
        network = model.network(pathway)
        dtype = fastest_dtype(model.device)
    with clock.phase("prepare", 0.02, "Preparing the volumes"):
        prepared = prepare(volumes, pathway.modalities, model.spec.preprocessing)
    with clock.phase("network", 0.1, "Segmenting"):
        plan = Plan(model.device, dtype, batch_of(model.device, model.spec.patch), mirror=mirror)
        logits, fallbacks = predict_logits(
            network,
            torch.from_numpy(prepared.tensor),
            model.spec.patch,
            model.spec.out_channels,
            plan,
            lambda share: clock.report("network", 0.1 + 0.8 * share, "Segmenting"),
            clock.cancelled,
        )
        if _zero_is_background(model.spec, pathway):
            # Where every input is background there is nothing to find, whatever a window's edge may say.
            logits.masked_fill_(torch.from_numpy(~prepared.tensor.any(axis=0)), float("nan"))
    with clock.phase("restore", 0.9, "Bringing the result onto the volume's grid"):
        probabilities = prepared.geometry.restore(probabilities_of(logits, model.spec).numpy())
        label_map = label_map_of(probabilities, model.spec)
        masks = {region.id: mask_of(label_map, region, model.spec.regions) for region in model.spec.regions}
        voxel_ml = prepared.geometry.reference.voxel_volume_ml
        doubt = {}
        for region in model.spec.regions:
            nested = nested_probability(probabilities, region, model.spec)
            doubt[region.id] = confidence_of(nested, masks[region.id]), volume_range_ml(nested, voxel_ml)
    clock.report("restore", 1.0, "Done")
    doubtful = calibration_note(model.spec, pathway)
    reference = prepared.geometry.reference
    return Segmentation(
        spec=model.spec,
        reference=reference,
        probabilities=probabilities,
        label_map=label_map,
        masks=masks,
        volumes_ml={name: float(mask.sum()) * voxel_ml for name, mask in masks.items()},
        confidence={name: confidence for name, (confidence, _) in doubt.items()},
        volume_ranges_ml={name: volumes for name, (_, volumes) in doubt.items()},
        seconds=clock.seconds,
        device=f"{model.device.type} ({str(dtype).removeprefix('torch.')})",
        notes=(*notes, *prepared.notes, *fallbacks, *([doubtful] if doubtful else [])),
    )


def _zero_is_background(spec: ModelSpec, pathway: Pathway) -> bool:
    """Of skull-stripped volumes; in a normalised CT zero is just the density in the middle of the window."""
    return all(spec.preprocessing.normalisation[m].kind == "zscore_nonzero" for m in pathway.modalities)


def batch_of(device: torch.device, patch: Sequence[int]) -> int:
    """How many windows of this size are computed at once."""
    return max(1, BATCH_VOXELS[device.type] // math.prod(patch))


def probabilities_of(logits: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Logits [O, K, J, I] -> probability of each region [R, K, J, I]; 0 where the inputs are background (NaN)."""
    probabilities = logits.sigmoid() if spec.output == "regions" else logits.softmax(dim=0)[1:]
    return probabilities.nan_to_num_(0.0)


class _Clock:
    """Measures phases, reports progress and asks whether to go on."""

    def __init__(self, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self._progress = progress
        self.cancelled = cancelled
        self.seconds: dict[str, float] = {}

    def report(self, phase: str, fraction: float, message: str) -> None:
        self._progress(Progress(phase, fraction, message))

    @contextmanager
    def phase(self, name: str, fraction: float, message: str) -> Iterator[None]:
        if self.cancelled():
            raise Cancelled("Stopped; nothing was changed.")
        self.report(name, fraction, message)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
