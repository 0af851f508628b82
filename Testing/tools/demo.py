"""Segment one case and show it: `make demo [KIND=chest] [CASE=FOLDER]`.

Without CASE a synthetic patient is segmented, who exists nowhere else: a brain, or with KIND=chest a chest CT with
embolism. With CASE a folder in any of the BraTS namings, or of paired chest CT.
Writes segmentation.seg.nrrd (for Slicer), segmentation.nii.gz (a label map), view.png and report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]

from DanteSegmenterLib.cases.case_folder import read_case_folder  # noqa: E402
from DanteSegmenterLib.errors import Cancelled, DanteError, ResourceError  # noqa: E402
from DanteSegmenterLib.files import write_atomically, write_segmentation, write_volume  # noqa: E402
from DanteSegmenterLib.model_folder import choose_pathway, read_spec  # noqa: E402
from DanteSegmenterLib.volume import Volume  # noqa: E402
from DanteTrainerLib.evaluation.metrics.region import dice  # noqa: E402

MODELS = REPOSITORY / "Resources" / "Models"
EMBEDDED = {"brain": "brats-without-t1ce", "chest": "embolism-without-contrast"}
# A patient that the embedded chest model has not seen: it was trained on small seeds.
CHEST_SEED = 900


@dataclass(frozen=True)
class Patient:
    """The volumes to segment, and the truth if known: bool masks by region id."""

    name: str
    volumes: dict[str, Volume]
    truth: dict[str, np.ndarray] | None


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    try:
        model = options.model or MODELS / EMBEDDED[options.kind]
        run(options.case, options.out, model, options.device, options.spacing_mm)
        return 0
    except (Cancelled, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        return 1
    except DanteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="a patient's folder")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo")
    parser.add_argument("--kind", choices=sorted(EMBEDDED), default="brain")
    parser.add_argument("--model", type=Path, help="model folder; default: the embedded one of the kind")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--spacing-mm", type=float, default=1.0, help="of the synthetic brain's grid")
    return parser.parse_args(arguments)


def run(case: Path | None, out: Path, model_folder: Path, device: str, spacing_mm: float = 1.0) -> dict:
    """Segment, write the four files, print a summary; returns the report."""
    spec = read_spec(model_folder)
    start = time.perf_counter()
    patient = _from_folder(case, spec) if case else _synthetic(spec.task, spacing_mm)
    # The privileged scan is left out: the point is to do without it.
    volumes = {
        modality: patient.volumes[modality] for modality in spec.limited.modalities if modality in patient.volumes
    }
    choose_pathway(spec, volumes)
    read_seconds = time.perf_counter() - start
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"the folder '{out}' cannot be made: {error.strerror}.") from None

    from tqdm import tqdm

    from DanteSegmenterLib.inference import load_model, segment
    from DanteSegmenterLib.pictures.three_planes import render_view

    start = time.perf_counter()
    model = load_model(model_folder, device)
    load_seconds = time.perf_counter() - start
    with tqdm(
        total=100, desc=f"Segmenting {patient.name}", bar_format="{desc} {bar} {n:.0f}% {elapsed}", leave=False
    ) as bar:
        result = segment(model, volumes, progress=lambda p: bar.update(round(100 * p.fraction, 1) - bar.n))
    scores = None
    if patient.truth is not None:
        scores = {region: _dice(patient.truth[region], mask) for region, mask in result.masks.items()}
    report = {
        "case": patient.name,
        "volumes_ml": {region: round(volume, 3) for region, volume in result.volumes_ml.items()},
        "dice": scores,
        "seconds": {"read": read_seconds, "open_model": load_seconds, **result.report.seconds},
        "device": result.device,
        "model": {"name": spec.name, "version": spec.version, "sha256": spec.limited.sha256},
        "notes": list(result.notes),
    }
    write_segmentation(out / "segmentation.seg.nrrd", result.masks, spec.regions, result.reference)
    write_volume(out / "segmentation.nii.gz", result.reference.with_array(result.label_map))
    shown = volumes.get("flair", result.reference)
    backdrop = shown if shown.same_grid(result.reference) else result.reference
    caption = f"{patient.name}: segmented from {', '.join(spec.modality(m).label for m in volumes)}"
    caption += " (dashed: true outlines)" if patient.truth is not None else ""
    render_view(out / "view.png", backdrop, result.masks, spec.regions, caption, patient.truth)
    text = json.dumps(report, indent=1) + "\n"
    write_atomically(out / "report.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    _print(report, out)
    return report


def _synthetic(task: str, spacing_mm: float) -> Patient:
    from DanteSegmenterLib.synthetic.sample import brain_mr, chest_ct

    if task == "chest":
        patient = chest_ct(seed=CHEST_SEED)
        return Patient(patient.name, patient.volumes, {"PE": patient.labels.array == 1})
    patient = brain_mr(seed=0, spacing_mm=spacing_mm)
    labels = patient.labels.array
    truth = {"WT": labels > 0, "TC": (labels == 1) | (labels == 4), "ET": labels == 4}
    return Patient(patient.name, patient.volumes, truth)


def _from_folder(folder: Path, spec) -> Patient:
    case = read_case_folder(folder)
    choose_pathway(spec, case.images)
    label = case.label.read() if case.label else None
    truth = None if label is None else {region: np.isin(label.array, values) for region, values in case.regions.items()}
    return Patient(case.name, case.read_images(), truth)


def _dice(truth: np.ndarray, mask: np.ndarray) -> float | None:
    """Dice for the report, with None if both are empty, as JSON has no NaN."""
    value = dice(truth, mask)
    return None if np.isnan(value) else round(value, 4)


def _print(report: dict, out: Path) -> None:
    for region, volume in report["volumes_ml"].items():
        dice = (report["dice"] or {}).get(region)
        print(f"  {region}  {volume:7.1f} mL" + (f"   Dice {dice:.3f}" if dice is not None else ""))
    for note in report["notes"]:
        print(f"  note: {note}")
    seconds = report["seconds"]
    print(
        f"  {sum(seconds.values()):.1f} s on {report['device']}: "
        + ", ".join(f"{phase} {value:.1f}" for phase, value in seconds.items())
    )
    print(f"  {out / 'segmentation.seg.nrrd'}\n  {out / 'view.png'}\n  {out / 'report.json'}")


if __name__ == "__main__":
    sys.exit(main())
