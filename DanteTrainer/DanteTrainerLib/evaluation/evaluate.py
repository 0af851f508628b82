"""Evaluate a model on a split with the same `segment` as in the application, against the experts' masks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model, segment
from DanteSegmenterLib.model_folder import Calibration, ModelSpec, Pathway, sha256_of
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.pictures.contact_sheet import CONTACT_SHEET_FILE, Sheet
from DanteSegmenterLib.result import Result
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain
from DanteSegmenterLib.volume import Volume

from ..data.dataset import Dataset, Split, check_cases, check_masks
from ..whole_files import files_together, make_writable
from .dropping import without
from .evaluated_model import load_for, pathway_of
from .metrics.intervals import bootstrap_mean
from .metrics.lesion_wise import score_lesions
from .metrics.region import score_region
from .metrics.whole_tumour import describe_dice_of_the_whole, dice_of_the_whole
from .tables import write_table

CASES_FILE, SUMMARY_FILE = "cases.csv", "summary.json"
MORE_PICTURES = re.compile(r"contact_sheet_\d+\.png")


@dataclass(frozen=True)
class RegionSummary:
    """Means over cases with 95 % bootstrap intervals and case counts, and two BraTS conventions (see `metrics`).

    None means undefined, for example the HD95 of a region that no case has, or the lesion-wise scores in summaries of
    older versions.
    """

    dice: float | None
    dice_95: tuple[float | None, float | None]
    dice_cases: int
    hd95_mm: float | None
    hd95_mm_95: tuple[float | None, float | None]
    hd95_cases: int
    brats_dice: float
    brats_hd95_mm: float
    calibration: Calibration | None
    lesion_dice: float | None = None
    lesion_hd95_mm: float | None = None


@dataclass(frozen=True)
class Summary:
    """`summary.json`: scores of one pathway ("limited" or "full") on one split, with or without mirroring.

    Attributes:
        dropped: modalities that the network reads but was not given (see `dropping`).
        weights: digest of the evaluated network; "" in summaries of older versions.
        table_sha256: digest of the matching cases.csv; "" in older versions.
        dice_of_the_whole: by region, Dice of the experts' mask of the outermost region (see `metrics`); {} in older
            versions.
    """

    model: str
    pathway: str
    split: str
    cases: int
    regions: dict[str, RegionSummary]
    mirror: bool = False
    weights: str = ""
    table_sha256: str = ""
    dropped: tuple[str, ...] = ()
    dice_of_the_whole: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """The summary as a markdown table."""
        lines = [
            f"{self.split} split, {self.cases} cases, {describe_mirroring(self.mirror)}{self._describe_dropping()}.",
            "",
            "| region | Dice (95 %) | cases | HD95 mm (95 %) | cases | BraTS Dice | BraTS HD95 mm "
            "| lesion-wise Dice | lesion-wise HD95 mm |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for region, s in self.regions.items():
            lines.append(
                f"| {region} | {_interval(s.dice, s.dice_95, 3)} | {s.dice_cases} "
                f"| {_interval(s.hd95_mm, s.hd95_mm_95, 1)} | {s.hd95_cases} "
                f"| {s.brats_dice:.3f} | {s.brats_hd95_mm:.1f} "
                f"| {_number(s.lesion_dice, 3)} | {_number(s.lesion_hd95_mm, 1)} |"
            )
        said = describe_dice_of_the_whole(self.dice_of_the_whole, next(iter(self.regions), ""))
        return "\n".join([*lines, "", said] if said else lines)

    def _describe_dropping(self) -> str:
        names = ", ".join(self.dropped)
        return f", without {names} (the network's value of background in its place)" if names else ""


def describe_mirroring(mirror: bool) -> str:
    """Description of test-time mirroring for tables; it affects scores as much as the method does."""
    return "averaged over the eight mirrorings of each window" if mirror else "without mirroring"


def read_summary(folder: Path) -> Summary:
    """Read the summary that `evaluate` wrote to a folder.

    Raises:
        InputError: not such a folder, or its files do not belong together.
    """
    try:
        plain = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        summary = from_plain(Summary, plain, f"{folder.name}/{SUMMARY_FILE}", InputError)
        whole = not summary.table_sha256 or summary.table_sha256 == sha256_of(folder / CASES_FILE)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{folder}' is no folder that `evaluate` wrote ({error}).") from None
    if not whole:
        raise InputError(
            f"'{folder / CASES_FILE}' is not the table that '{SUMMARY_FILE}' beside it was made of: one of them was "
            "cut, edited or exchanged. Evaluate again."
        )
    return summary


def summarise(rows: pd.DataFrame) -> RegionSummary:
    """Summarise one region's rows of `cases.csv`."""
    dice, hd95 = bootstrap_mean(rows.dice.tolist()), bootstrap_mean(rows.hd95_mm.tolist())
    return RegionSummary(
        dice=_finite(dice.mean),
        dice_95=(_finite(dice.low), _finite(dice.high)),
        dice_cases=dice.count,
        hd95_mm=_finite(hd95.mean),
        hd95_mm_95=(_finite(hd95.low), _finite(hd95.high)),
        hd95_cases=hd95.count,
        brats_dice=float(rows.brats_dice.mean()),
        brats_hd95_mm=float(rows.brats_hd95_mm.mean()),
        calibration=calibration_of(rows),
        lesion_dice=float(rows.lesion_dice.mean()),
        lesion_hd95_mm=float(rows.lesion_hd95_mm.mean()),
    )


def calibration_of(rows: pd.DataFrame) -> Calibration | None:
    """Calibration of one region's probabilities; None if no case has a voxel predicted as this region."""
    if not rows.precision.notna().any():
        return None
    holds = (rows.volume_low_ml <= rows.truth_ml) & (rows.truth_ml <= rows.volume_high_ml)
    means = (rows.confidence.mean(), rows.precision.mean(), holds.mean())
    return Calibration(len(rows), *(round(float(value), 4) for value in means))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(mean: float | None, interval: tuple[float | None, float | None], digits: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:.{digits}f} ({interval[0]:.{digits}f}-{interval[1]:.{digits}f})"


def evaluate(
    model_folder: Path | str,
    dataset: Dataset,
    split: Split,
    part: str,
    out: Path,
    device: str = "auto",
    quiet: bool = False,
    full: bool = False,
    mirror: bool = False,
    dropped: Sequence[str] = (),
) -> Summary:
    """Segment every case of a part of a split, and write cases.csv, summary.json and contact_sheet.png to `out`.

    f_L is given only its own modalities; with `full`, f_F is given all of them. With `mirror`, logits are averaged over
    the eight mirrorings of each window. `dropped` modalities are withheld from the network (see `dropping`).

    Raises:
        InputError: the part does not exist, a case lacks a volume or a mask, or a modality cannot be dropped.
        ModelError: the model folder cannot be used.
        ResourceError: `out` cannot be written; its existing files are kept.
    """
    model = load_for(dataset, model_folder, device)
    pathway = pathway_of(model.spec, full)
    if dropped:
        model = without(model, pathway, dropped)
        pathway = model.spec.limited
    names = split.part(part)
    check_cases(dataset, names, pathway.modalities)
    check_masks(dataset, names)
    make_writable(out)
    rows, sheet = [], Sheet(model.spec)
    for name in tqdm(names, desc="Segmenting", unit="case", disable=quiet):
        rows += evaluate_case(model, dataset.cases[name], pathway, sheet, mirror)
    table = pd.DataFrame(rows)
    regions = {str(region): summarise(own) for region, own in table.groupby("region", sort=False)}
    summary = Summary(
        model=model.spec.name,
        pathway="full" if full else "limited",
        split=part,
        cases=len(names),
        regions=regions,
        mirror=mirror,
        weights=pathway.digest,
        dropped=tuple(dropped),
        dice_of_the_whole=dice_of_the_whole(table, model.spec.regions),
    )
    return write_scores(out, table, summary, sheet)


def write_scores(out: Path, table: pd.DataFrame, summary: Summary, sheet: Sheet) -> Summary:
    """Write all files of an evaluation, or none; the summary stores the digest of its table.

    Raises:
        ResourceError: no space left or not writable; existing files are kept.
    """
    with files_together(out) as folder:
        write_table(table, folder / CASES_FILE)
        summary = replace(summary, table_sha256=sha256_of(folder / CASES_FILE))
        (folder / SUMMARY_FILE).write_text(json.dumps(to_plain(summary), indent=1) + "\n", encoding="utf-8")
        sheet.save(folder / CONTACT_SHEET_FILE)
        written = {file.name for file in folder.iterdir()}
    for page in out.iterdir():  # left by an earlier evaluation with more cases
        if MORE_PICTURES.fullmatch(page.name) and page.name not in written:
            page.unlink(missing_ok=True)
    return summary


def evaluate_case(
    model: Model, case: Case, pathway: Pathway, sheet: Sheet | None = None, mirror: bool = False
) -> list[dict[str, Any]]:
    """One row per region: scores (see `metrics`), volume with its range and true volume in mL, mean probability inside
    the mask (confidence), and the share of the mask that is correct (precision).

    The model is given exactly the modalities that the pathway reads.
    """
    result, masks = segment_and_truth(model, case, pathway, SegmentOptions(mirror=mirror))
    if sheet is not None:
        sheet.add(case.name, result.reference, masks, result.masks)
    rows = []
    for region, mask in masks.items():
        found = result.masks[region]
        score = score_region(mask, found, result.reference.spacing_mm)
        lesions = score_lesions(mask, found, result.reference.spacing_mm)
        finding = result.report.finding(region)
        rows.append(
            {
                "model": model.spec.name,
                "case": case.name,
                "region": region,
                "dice": score.dice,
                "hd95_mm": score.hd95_mm,
                "brats_dice": score.brats_dice,
                "brats_hd95_mm": score.brats_hd95_mm,
                "lesion_dice": lesions.dice,
                "lesion_hd95_mm": lesions.hd95_mm,
                "volume_ml": finding.volume_ml,
                "volume_low_ml": finding.low_ml,
                "volume_high_ml": finding.high_ml,
                "truth_ml": float(mask.sum()) * result.reference.voxel_volume_ml,
                "confidence": finding.confidence,
                "precision": float(mask[found].mean()) if found.any() else float("nan"),
            }
        )
    return rows


def segment_and_truth(
    model: Model, case: Case, pathway: Pathway, options: SegmentOptions
) -> tuple[Result, dict[str, np.ndarray]]:
    """Segment a case with the same `segment` as in the application; returns the result and the experts' masks.

    Raises:
        InputError: the mask is missing, on another grid, or does not fit the case's labels.
    """
    volumes = {modality: case.images[modality].read() for modality in pathway.modalities}
    truth = case.label.read() if case.label else None
    result = segment(model, volumes, options)
    if truth is None or not truth.same_grid(result.reference):
        raise InputError(f"case '{case.name}': the mask is missing or not on the grid of '{result.reference.name}'.")
    return result, truth_masks(truth, case, model.spec)


def truth_masks(truth: Volume, case: Case, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The experts' masks, bool [K, J, I] by region id, from the case's labels.

    Raises:
        InputError: the mask has a label unknown to its label scheme, or a region has no labels in it.
    """
    case.check_labels(truth)
    return {region.id: np.isin(truth.array, _labels(case, region.id)) for region in spec.regions}


def _labels(case: Case, region: str) -> Sequence[int]:
    if region not in case.regions:
        raise InputError(f"case '{case.name}' has no labels for region {region}; it has {', '.join(case.regions)}.")
    return case.regions[region]
