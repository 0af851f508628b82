"""Calibrate a model's probabilities on validation cases; the result is written to its model folder.

Fits a temperature and an offset per region (Guo et al. 2017, arXiv 1706.04599; Platt 1999), so that a mask's mean
probability matches its precision; and a margin, so that the volume range contains the true volume at its stated rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from tqdm import tqdm

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model
from DanteSegmenterLib.model_folder import Pathway, Scaling
from DanteSegmenterLib.model_folder.read_write import SPEC_FILE, spec_text
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result.regions import NEARLY_0, confidence_of, nested_probability, volume_range_ml

from ..data.dataset import Dataset, check_cases, check_masks
from ..whole_files import make_writable, write_text_whole
from .evaluate import segment_and_truth
from .evaluated_model import load_for, with_one_network

# Lowest raw probability used for fitting, and the maximum number of voxels per case.
WORTH_FITTING, VOXELS_PER_CASE = 0.1, 20_000
# Share of cases whose true volume the range should contain; candidate margins, in logits.
COVERAGE, MARGINS = 0.75, np.linspace(0.0, 7.0, 141)
FEWEST_CASES = 3


@dataclass(frozen=True)
class RegionOfCase:
    """Prediction and ground truth of one region in one case.

    Attributes:
        probability: raw, float32 [N], at the voxels used for fitting; `truth` is bool [N].
        mask: bool [N], whether they were predicted as this region.
        range_ml: volume range at each of MARGINS, [len(MARGINS), 2].
        truth_ml: true volume.
    """

    probability: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    range_ml: np.ndarray
    truth_ml: float


@dataclass(frozen=True)
class Fit:
    """Scaling of one region, and its effect: mean confidence before and after, precision, and range coverage."""

    region: str
    scaling: Scaling
    sure_before: float
    sure: float
    right: float
    range_holds: float


def calibrate(
    model_folder: Path, dataset: Dataset, names: Sequence[str], device: str = "auto", quiet: bool = False
) -> dict[str, list[Fit]]:
    """Fit both pathways of a model folder on these cases, and write the result to its model.json.

    Raises:
        InputError: too few cases, or one lacks a volume or a mask.
        ModelError: the model folder cannot be used.
        ResourceError: it cannot be written; it is unchanged.
    """
    model = load_for(dataset, model_folder, device)
    if len(names) < FEWEST_CASES:
        raise InputError(f"too few cases to calibrate on: {len(names)}; {FEWEST_CASES} at least, better dozens.")
    check_masks(dataset, names)
    make_writable(model_folder)
    spec, cases = model.spec, [dataset.cases[name] for name in names]
    fits = {name: _fit_pathway(model, own, dataset, cases, quiet) for name, own in spec.pathways.items()}
    scaled: dict[str, Any] = {name: _scaled(own, fits[name]) for name, own in spec.pathways.items()}
    spec = replace(spec, **scaled)
    write_text_whole(model_folder / SPEC_FILE, spec_text(spec))
    return fits


def _fit_pathway(model: Model, pathway: Pathway, dataset: Dataset, cases: Sequence[Case], quiet: bool) -> list[Fit]:
    check_cases(dataset, [case.name for case in cases], pathway.modalities)
    raw = with_one_network(model, replace(pathway, scaling={}))
    seen = list(_segmented(raw, cases, quiet))
    return [fit(region.id, [case[region.id] for case in seen]) for region in model.spec.regions]


def _scaled(pathway: Pathway, fits: Sequence[Fit]) -> Pathway:
    return replace(pathway, scaling={found.region: found.scaling for found in fits})


def fit(region: str, cases: Sequence[RegionOfCase]) -> Fit:
    """Fit one region's scaling; the identity if no case has a voxel to fit."""
    usable = [case for case in cases if len(case.probability)]
    temperature, offset = _fit_probabilities(usable) if usable else (1.0, 0.0)
    margin = _fit_margin(cases)
    scaling = Scaling(round(temperature, 4), round(offset, 4), round(margin, 4), len(cases))
    found = [case for case in usable if case.mask.any()]
    return Fit(
        region,
        scaling,
        _mean(confidence_of(case.probability, case.mask) for case in found),
        _mean(confidence_of(case.probability, case.mask, scaling) for case in found),
        _mean(float(case.truth[case.mask].mean()) for case in found),
        _mean(float(_holds(case, margin)) for case in cases),
    )


def _fit_probabilities(cases: Sequence[RegionOfCase]) -> tuple[float, float]:
    """Temperature and offset that minimise cross-entropy, with equal weight for every case."""
    p = np.clip(np.concatenate([case.probability for case in cases]).astype(np.float64), NEARLY_0, 1 - NEARLY_0)
    truth = np.concatenate([case.truth for case in cases])
    weight = np.concatenate([np.full(len(case.truth), 1 / len(case.truth)) for case in cases]) / len(cases)
    logit = np.log(p) - np.log1p(-p)

    def cross_entropy(parameters: np.ndarray) -> float:
        z = logit * math.exp(-parameters[0]) + parameters[1]
        return float((weight * np.logaddexp(0, np.where(truth, -z, z))).sum())

    bounds = ((math.log(0.05), math.log(20)), (-10, 10))
    result = minimize(cross_entropy, np.zeros(2), method="L-BFGS-B", bounds=bounds)
    return math.exp(result.x[0]), float(result.x[1])


def _fit_margin(cases: Sequence[RegionOfCase]) -> float:
    """Smallest margin whose range contains the truth in a share COVERAGE of cases; the largest if none does."""
    held = [np.mean([_holds(case, margin) for case in cases]) for margin in MARGINS]
    enough = np.flatnonzero(np.array(held) >= COVERAGE)
    return float(MARGINS[enough[0] if len(enough) else -1])


def _holds(case: RegionOfCase, margin: float) -> bool:
    low, high = case.range_ml[int(np.abs(MARGINS - margin).argmin())]
    return bool(low <= case.truth_ml <= high)


def _segmented(model: Model, cases: Sequence[Case], quiet: bool) -> Iterator[dict[str, RegionOfCase]]:
    """Each case's regions, predicted by the same `segment` as in the application."""
    pathway = model.spec.limited
    for case in tqdm(cases, desc="Calibrating", unit="case", disable=quiet):
        result, masks = segment_and_truth(model, case, pathway, SegmentOptions(probabilities=True))
        raw, voxel_ml = cast(np.ndarray, result.probabilities), result.reference.voxel_volume_ml
        yield {
            region.id: _region_of_case(
                nested_probability(raw, region, model.spec), masks[region.id], result.masks[region.id], voxel_ml
            )
            for region in model.spec.regions
        }


def _region_of_case(probability: np.ndarray, truth: np.ndarray, mask: np.ndarray, voxel_ml: float) -> RegionOfCase:
    places = np.flatnonzero((probability > WORTH_FITTING) | mask)
    step = max(1, math.ceil(len(places) / VOXELS_PER_CASE))
    chosen = places[::step]
    ranges = [volume_range_ml(probability, voxel_ml, float(margin)) for margin in MARGINS]
    p, true, called = (array.ravel()[chosen] for array in (probability, truth, mask))
    return RegionOfCase(p, true, called, np.array(ranges), float(truth.sum()) * voxel_ml)


def _mean(values: Iterator[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def fits_table(fits: dict[str, list[Fit]]) -> str:
    """The fits as a markdown table."""
    lines = [
        "| network | region | temperature | offset | sure before | sure | right | range holds | margin |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for network, regions in fits.items():
        for f in regions:
            numbers = f"{f.scaling.temperature:.2f} | {f.scaling.offset:+.2f} | {f.sure_before:.0%} | {f.sure:.0%}"
            held = f"{f.right:.0%} | {f.range_holds:.0%} | {f.scaling.range_margin:.2f}"
            lines.append(f"| {network} | {f.region} | {numbers} | {held} |")
    return "\n".join(lines)
