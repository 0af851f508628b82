"""Segment loaded volumes; the single implementation used by the GUI, the command line and evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..cases.modality_guess import doubts_of_names
from ..errors import Cancelled
from ..model_folder.choosing import check_can_prepare, choose_pathway
from ..model_folder.read_write import check_weights_file, read_spec
from ..model_folder.spec import Member, ModelSpec, Pathway
from ..networks.build import build
from ..networks.weights import load_weights
from ..options import DEFAULTS, SegmentOptions
from ..preprocess.prepared import Prepared
from ..preprocess.preparing import prepare
from ..result.regions import all_shown, cautions, findings_of, label_map_of
from ..result.report import Finding, Report
from ..result.result import Result
from ..volume import Volume
from .devices import fastest_dtype, memory_explained, resolve_device
from .members import together
from .sliding_window import Plan, Prediction, predict_logits

if TYPE_CHECKING:  # SimpleITK is imported when a study is prepared
    from ..preprocess.align import PreparedStudy

# Share of the progress taken by preparing a raw study.
PREPARE_SHARE = 0.7
# Digits of the weights' SHA-256 in a report: enough to identify a file.
WEIGHTS_DIGITS = 12
# Voxels per batch of windows: two 64^3 windows were 5 % faster than one on two CPU cores; a GPU takes more.
BATCH_VOXELS = {"cpu": 2 * 64**3, "mps": 2 * 64**3, "cuda": 4 * 128**3}


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        phase: "align", "load", "prepare", "network" or "restore".
        fraction: of the whole run, 0 to 1.
        message: for the user.
    """

    phase: str
    fraction: float
    message: str


@dataclass(eq=False)
class Model:
    """An opened model folder; networks are loaded when first needed and cached by their files."""

    folder: Path
    spec: ModelSpec
    device: torch.device
    networks: dict[tuple[str, ...], nn.Module] = field(default_factory=dict)

    def network(self, pathway: Pathway) -> nn.Module:
        """The pathway's network in evaluation mode; several members are averaged.

        Raises:
            ModelError: the weights are missing, were altered or do not fit.
        """
        if pathway.files not in self.networks:
            network = together([self._loaded(pathway, member) for member in pathway.members])
            self.networks[pathway.files] = network.eval().requires_grad_(False)
        return self.networks[pathway.files]

    def _loaded(self, pathway: Pathway, member: Member) -> nn.Module:
        path = check_weights_file(self.folder, member)
        # On the meta device: memory is allocated only after the file's header has been checked against model.json.
        with torch.device("meta"):
            network = build(self.spec, pathway)
        load_weights(network, path)
        return network


def load_model(folder: Path | str, device: str = "auto") -> Model:
    """Open a model folder and load the deployed network.

    Raises:
        ModelError: the folder cannot be used.
        ResourceError: the device does not exist.
    """
    model = Model(Path(folder), read_spec(folder), resolve_device(device))
    model.network(model.spec.limited)
    return model


def segment(
    model: Model,
    volumes: dict[str, Volume],
    options: SegmentOptions = DEFAULTS,
    brain_mask: Volume | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **choices: bool,
) -> Result:
    """Segment loaded volumes.

    Args:
        model: from `load_model`.
        volumes: by modality id, on any grids; the result is on the grid of the pathway's first modality.
        options: see `SegmentOptions`.
        brain_mask: for a study to be prepared, on any grid; computed by deepbet if not given.
        progress: called at least once per convolution.
        cancelled: called equally often; True ends the run.
        choices: single options by name, e.g. `mirror=True`.

    Raises:
        InputError: a volume is missing or unusable.
        ResourceError: memory ran out in spite of all fallbacks, or deepbet is needed and not installed.
        Cancelled: `cancelled` returned True.
    """
    options = replace(options, **choices)
    clock = _Clock(progress or (lambda _: None), cancelled or (lambda: False))
    pathway, notes = choose_pathway(model.spec, volumes, options.limited)
    study = None
    if options.prepare:
        check_can_prepare(model.spec)
        study = _prepared_study(volumes, pathway, brain_mask, clock)
        volumes, notes = study.volumes, (*study.notes, *notes)
    with clock.phase("load", 0.0, "Loading the network"):
        network = model.network(pathway)
        dtype = fastest_dtype(model.device)
    with clock.phase("prepare", 0.02, "Preparing the volumes"):
        prepared = prepare(volumes, pathway.modalities, model.spec.preprocessing)
    with clock.phase("network", 0.1, "Segmenting"):
        plan = _plan(model, dtype, options)
        prediction, fallbacks = _predicted(model.spec, network, prepared, plan, clock)
    with clock.phase("restore", 0.9, "Bringing the result onto the volume's grid"):
        probabilities = _on_the_image(prediction, prepared, model.spec)
        label_map = label_map_of(probabilities, model.spec)
        findings = findings_of(
            probabilities, label_map, model.spec, pathway, prepared.geometry.reference.voxel_volume_ml
        )
    clock.report("restore", 1.0, "Done")
    notes = (*notes, *_misplaced(model.spec, pathway, volumes), *prepared.notes, *fallbacks, *_not_mirrored(plan))
    return Result(
        spec=model.spec,
        reference=prepared.geometry.reference,
        modality=pathway.modalities[0],
        label_map=label_map,
        report=_report(model.spec, pathway, options, findings, clock.seconds, prediction.plan.where, notes),
        probabilities=all_shown(probabilities, model.spec, pathway) if options.probabilities else None,
        alignments={modality: motion.matrix for modality, motion in study.motions.items()} if study else {},
        brain=study.brain.array if study else None,
    )


def _report(
    spec: ModelSpec,
    pathway: Pathway,
    options: SegmentOptions,
    findings: tuple[Finding, ...],
    seconds: dict[str, float],
    device: str,
    notes: tuple[str, ...],
) -> Report:
    """Findings with their settings, timings and cautions."""
    notes = (*notes, *cautions(spec, pathway))
    return Report(spec.name, spec.version, pathway.digest[:WEIGHTS_DIGITS], options, findings, seconds, device, notes)


def _prepared_study(
    volumes: dict[str, Volume], pathway: Pathway, brain_mask: Volume | None, clock: _Clock
) -> PreparedStudy:
    """A raw study's volumes on the grid of the pathway's first modality, skull-stripped."""
    from ..preprocess.align import prepare_study

    clock.begins_at = PREPARE_SHARE

    def tell(share: float, message: str) -> None:
        clock.report("align", (share - 1) * PREPARE_SHARE / (1 - PREPARE_SHARE), message)

    with clock.phase("align", -PREPARE_SHARE / (1 - PREPARE_SHARE), "Preparing the study"):
        return prepare_study(volumes, pathway.modalities[0], brain_mask, tell, clock.cancelled)


def _predicted(
    spec: ModelSpec, network: nn.Module, prepared: Prepared, plan: Plan, clock: _Clock
) -> tuple[Prediction, tuple[str, ...]]:
    """Prediction on the network's grid, not covered where there is nothing to segment; and notes on every fallback."""
    prediction, fallbacks = predict_logits(
        network,
        torch.from_numpy(prepared.tensor),
        prepared.background,
        spec.patch,
        spec.out_channels,
        plan,
        lambda share: clock.report("network", 0.1 + 0.8 * share, "Segmenting"),
        clock.cancelled,
    )
    if all(prepared.background.outside):
        # Nothing is segmented outside the patient, whatever the edge of a window gives.
        prediction.covered.logical_and_(torch.from_numpy(prepared.background.foreground(prepared.tensor)))
    return prediction, fallbacks


def _misplaced(spec: ModelSpec, pathway: Pathway, volumes: dict[str, Volume]) -> tuple[str, ...]:
    """Warnings about volumes in the place of the scan that their names say."""
    labels = {modality.id: modality.label for modality in spec.modalities}
    return doubts_of_names({modality: volumes[modality].name for modality in pathway.modalities}, labels)


def _not_mirrored(plan: Plan) -> tuple[str, ...]:
    return () if plan.axes or not plan.mirror else ("This model was trained without mirroring: nothing was mirrored.",)


def _plan(model: Model, dtype: torch.dtype, options: SegmentOptions) -> Plan:
    plan = Plan(model.device, dtype, batch_of(model.device, model.spec.patch), mirror=options.mirror)
    steps = model.spec.preprocessing.nnunet
    return plan if steps is None else replace(plan, axes=steps.mirror)


def batch_of(device: torch.device, patch: Sequence[int]) -> int:
    """Number of windows of this size to compute at once."""
    return max(1, BATCH_VOXELS[device.type] // math.prod(patch))


def probabilities_of(prediction: Prediction, spec: ModelSpec) -> torch.Tensor:
    """Probability of each region [R, K, J, I]; 0 where nothing was computed because all inputs are background."""
    return _probabilities(prediction.logits, spec).masked_fill_(~prediction.covered, 0.0)


def _probabilities(logits: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    return logits.sigmoid() if spec.output == "regions" else logits.softmax(dim=0)[1:]


def _on_the_image(prediction: Prediction, prepared: Prepared, spec: ModelSpec) -> np.ndarray:
    """Probabilities [R, K, J, I] on the reference's grid; for nnU-Net's models, logits are resampled first."""
    if spec.preprocessing.nnunet is None:
        return prepared.geometry.restore(probabilities_of(prediction, spec).numpy())
    return prepared.geometry.restore(
        prediction.logits.numpy(), lambda logits: _probabilities(torch.from_numpy(logits), spec).numpy()
    )


class _Clock:
    """Measures phases, reports progress and checks for cancellation.

    begins_at: share of the run that is already over when the network is loaded; later shares are relative to it.
    """

    def __init__(self, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self._progress = progress
        self.cancelled = cancelled
        self.begins_at = 0.0
        self.seconds: dict[str, float] = {}

    def report(self, phase: str, share: float, message: str) -> None:
        fraction = self.begins_at + (1 - self.begins_at) * share
        self._progress(Progress(phase, min(1.0, max(0.0, fraction)), message))

    @contextmanager
    def phase(self, name: str, share: float, message: str) -> Iterator[None]:
        if self.cancelled():
            raise Cancelled("Stopped; nothing was changed.")
        self.report(name, share, message)
        start = time.perf_counter()
        with memory_explained():
            yield
        self.seconds[name] = time.perf_counter() - start
