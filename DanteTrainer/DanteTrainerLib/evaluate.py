"""A model's scores on a split: the very `segment` of the button, compared with the experts' masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from DanteSegmenterLib.case_folder import Case
from DanteSegmenterLib.contact_sheet import Sheet
from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.inference import Model, load_model, segment
from DanteSegmenterLib.model_folder import ModelSpec, Pathway
from DanteSegmenterLib.volume import Volume

from .dataset_folder import Dataset, check_cases, read_split
from .metrics import bootstrap_mean, score_region

CASES_FILE, SUMMARY_FILE, PICTURE_FILE = "cases.csv", "summary.json", "contact_sheet.png"


@dataclass(frozen=True)
class Scores:
    """Per case and region: model, case, region, dice, hd95_mm, brats_dice, brats_hd95_mm, volume_ml, truth_ml."""

    rows: pd.DataFrame

    def summary(self) -> dict[str, dict[str, Any]]:
        """By region: mean Dice and HD95 with 95 % intervals, how many cases each is of, and the BraTS convention."""
        result = {}
        for region, rows in self.rows.groupby("region", sort=False):
            dice, hd95 = bootstrap_mean(rows.dice.tolist()), bootstrap_mean(rows.hd95_mm.tolist())
            result[str(region)] = {
                "dice": dice.mean, "dice_95": [dice.low, dice.high], "dice_cases": dice.count,
                "hd95_mm": hd95.mean, "hd95_mm_95": [hd95.low, hd95.high], "hd95_cases": hd95.count,
                "brats_dice": float(rows.brats_dice.mean()), "brats_hd95_mm": float(rows.brats_hd95_mm.mean()),
            }  # fmt: skip
        return result

    def table(self) -> str:
        """Markdown."""
        lines = [
            "| region | Dice (95 %) | cases | HD95 mm (95 %) | cases | BraTS Dice | BraTS HD95 mm |",
            "|---|---|---|---|---|---|---|",
        ]
        for region, s in self.summary().items():
            lines.append(
                f"| {region} | {s['dice']:.3f} ({s['dice_95'][0]:.3f}-{s['dice_95'][1]:.3f}) | {s['dice_cases']} "
                f"| {s['hd95_mm']:.1f} ({s['hd95_mm_95'][0]:.1f}-{s['hd95_mm_95'][1]:.1f}) | {s['hd95_cases']} "
                f"| {s['brats_dice']:.3f} | {s['brats_hd95_mm']:.1f} |"
            )
        return "\n".join(lines)


def evaluate(
    model_folder: Path | str, dataset: Dataset, split: str, out: Path, device: str = "auto", quiet: bool = False,
    full: bool = False,
) -> Scores:  # fmt: skip
    """Segment every case of a split and write cases.csv, summary.json and contact_sheet.png to `out`.

    The deployed network f_L is given its own modalities alone; with `full`, f_F is given all of them.

    Raises:
        InputError: the split does not exist, or a case lacks a volume or a mask.
        ModelError: the model folder cannot be used.
    """
    model = load_model(model_folder, device)
    if model.spec.task != dataset.task.id:
        raise InputError(f"the model is for '{model.spec.task}', '{dataset.folder}' holds '{dataset.task.id}' cases.")
    if full and model.spec.full is None:
        raise InputError(f"'{model.spec.name}' has no full-modality network to evaluate.")
    pathway = model.spec.full if full and model.spec.full else model.spec.limited
    names = read_split(dataset).part(split)
    check_cases(dataset, names, pathway.modalities)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"the folder '{out}' cannot be made: {error.strerror}.") from None
    rows, sheet = [], Sheet(model.spec)
    for name in tqdm(names, desc="Segmenting", unit="case", disable=quiet):
        rows += evaluate_case(model, dataset.cases[name], pathway, sheet)
    scores = Scores(pd.DataFrame(rows))
    scores.rows.to_csv(out / CASES_FILE, index=False, float_format="%.6g")
    summary = {
        "model": model.spec.name,
        "pathway": "full" if full else "limited",
        "split": split,
        "cases": len(names),
        "regions": scores.summary(),
    }
    (out / SUMMARY_FILE).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    sheet.save(out / PICTURE_FILE)
    return scores


def evaluate_case(model: Model, case: Case, pathway: Pathway, sheet: Sheet | None = None) -> list[dict[str, Any]]:
    """One row a region; exactly the modalities that the pathway reads are given to the model."""
    volumes = {modality: case.images[modality].read() for modality in pathway.modalities}
    truth = case.label.read() if case.label else None
    result = segment(model, volumes)
    if truth is None or not truth.same_grid(result.reference):
        raise InputError(f"case '{case.name}': the mask is missing or not on the grid of '{result.reference.name}'.")
    masks = truth_masks(truth, case, model.spec)
    if sheet is not None:
        sheet.add(case.name, result.reference, masks, result.masks)
    rows = []
    for region, mask in masks.items():
        score = score_region(mask, result.masks[region], result.reference.spacing_mm)
        rows.append(
            {
                "model": model.spec.name,
                "case": case.name,
                "region": region,
                "dice": score.dice,
                "hd95_mm": score.hd95_mm,
                "brats_dice": score.brats_dice,
                "brats_hd95_mm": score.brats_hd95_mm,
                "volume_ml": result.volumes_ml[region],
                "truth_ml": float(mask.sum()) * truth.voxel_volume_ml,
            }  # fmt: skip
        )
    return rows


def truth_masks(truth: Volume, case: Case, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The experts' masks, bool [K, J, I] by region id, from the case's own labels."""
    return {region.id: np.isin(truth.array, _labels(case, region.id)) for region in spec.regions}


def _labels(case: Case, region: str) -> Sequence[int]:
    if region not in case.regions:
        raise InputError(f"case '{case.name}' has no labels for region {region}; it has {', '.join(case.regions)}.")
    return case.regions[region]
