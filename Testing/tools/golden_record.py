"""Digests of the program's results, to compare before and after a refactoring.

    python Testing/tools/golden_record.py --out before.json [--cases FOLDER]
    python Testing/tools/golden_record.py --against before.json [--cases FOLDER]

Covers label maps and probabilities of the synthetic patients and of the case folders in `--cases`, weights of smoke
trainings of each method, and the scores of a small study; all through the command lines, which stay stable while the
code behind them changes. Digests are specific to a computer: other processors round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "Resources" / "Models"
BRAIN, CHEST = MODELS / "brats-without-t1ce", MODELS / "embolism-without-contrast"
SUFFIXES = {"t1": ("t1", "t1n"), "t2": ("t2", "t2w"), "flair": ("flair", "t2f"), "nct": ("nct",)}
TAUGHT = ("mmanet", "pmkl", "cmfd")
STUDY = """
experiment = "brats-2mm"
set = ["run.steps=3", "run.pretrain_steps=2", "run.validate_every=0", "data.patch=[16,16,16]",
  "data.spacing_mm=[8.0,8.0,8.0]", "data.workers=0", "network.features=[2,4]",
  "network.strides=[[1,1,1],[2,2,2]]", "network.kernels=[[3,3,3],[3,3,3]]"]
[[entry]]
name = "lower"
method = "lower"
[[entry]]
name = "upper"
method = "upper"
[[entry]]
name = "DANTE"
method = "dante"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, help="case folders to segment too")
    parser.add_argument("--out", type=Path, help="write the record")
    parser.add_argument("--against", type=Path, help="compare with this record; exit code 1 if anything differs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = segmentations(Path(folder), options.cases) | trainings(Path(folder))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    before = json.loads(options.against.read_text()) if options.against else record
    changed = sorted(key for key in before.keys() | record.keys() if before.get(key) != record.get(key))
    print("\n".join(f"differs: {key}" for key in changed) or f"{len(record)} digests, none differs")
    return 1 if changed else 0


def segmentations(folder: Path, cases: Path | None) -> dict[str, str]:
    """Digests of each patient's label map and probabilities."""
    run("DanteSegmenterLib", "sample", folder / "brain", "--spacing-mm", "2")
    run("DanteSegmenterLib", "sample", folder / "chest", "--kind", "chest")
    patients = [(folder / "brain", BRAIN, ("t1", "t2", "flair")), (folder / "chest", CHEST, ("nct",))]
    patients += (
        [(case, BRAIN, ("t1", "t2", "flair")) for case in sorted(cases.iterdir()) if case.is_dir()] if cases else []
    )
    record = {}
    for patient, model, modalities in patients:
        inputs = [part for m in modalities for part in ("--input", f"{m}={image_of(patient, m)}")]
        labels, probabilities = folder / "labels.nrrd.nii.gz", folder / "probabilities.nrrd"
        outputs = ("--output", labels, "--probabilities", probabilities)
        run("DanteSegmenterLib", "segment", "--model", model, *inputs, *outputs, "--device", "cpu")
        record |= {f"{patient.name} {path.name.split('.')[0]}": digest(path) for path in (labels, probabilities)}
    return record


def image_of(patient: Path, modality: str) -> Path:
    stems = {path: path.name.split(".")[0].lower().replace("-", "_") for path in sorted(patient.iterdir())}
    return next(path for path, stem in stems.items() if stem.split("_")[-1] in SUFFIXES[modality])


def digest(path: Path) -> str:
    image = sitk.ReadImage(str(path))
    return hashlib.sha256(repr(image.GetSize()).encode() + sitk.GetArrayFromImage(image).tobytes()).hexdigest()[:16]


def trainings(folder: Path) -> dict[str, str]:
    """Digests of the weights of a smoke training of each method, and of a study's scores."""
    data = folder / "data"
    run("DanteSegmenterLib", "sample", data, "--cases", "4", "--spacing-mm", "8")
    record = {}
    for method in ("lower", "upper", "dante", "robustseg", "mmformer", "shaspec", "cpmn", "vit", *TAUGHT):
        out = folder / method
        teacher = ["--set", f"distillation.teacher={folder / 'upper' / 'model'}"] if method in TAUGHT else []
        run(
            "DanteTrainerLib",
            "train",
            method,
            "--data",
            data,
            "--out",
            out,
            "--smoke",
            "--quiet",
            "--device",
            "cpu",
            *teacher,
        )
        for weights in sorted((out / "model").glob("*.safetensors")):
            record[f"{method} {weights.stem}"] = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    (folder / "study.toml").write_text(STUDY)
    run(
        "DanteTrainerLib",
        "study",
        folder / "study.toml",
        "--data",
        data,
        "--out",
        folder / "study",
        "--quiet",
        "--device",
        "cpu",
    )
    record["study"] = hashlib.sha256((folder / "study" / "results.csv").read_bytes()).hexdigest()[:16]
    return record


def run(module: str, *arguments: object) -> None:
    paths = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")


if __name__ == "__main__":
    sys.exit(main())
