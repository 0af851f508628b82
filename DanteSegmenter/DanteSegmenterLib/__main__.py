"""Command line of the deployed half: `python -m DanteSegmenterLib segment | batch | info | sample`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import Cancelled, DanteError, InputError, ResourceError
from .files.images import SEGMENTATION_ENDING, read_volume, write_atomically, write_segmentation, write_volume
from .memory import keep_freed_memory
from .model_folder.about import about
from .model_folder.spec import ModelSpec, check_can_prepare, choose_pathway, read_spec
from .volume import Volume

if TYPE_CHECKING:  # torch is imported when it is needed
    from .inference.segmenting import Progress, Segmentation


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 success, 1 cancelled, 2 refused with one line of reason."""
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        options.command(options)
        return 0
    except (Cancelled, KeyboardInterrupt):
        print("Stopped; nothing was written.", file=sys.stderr)
        return 1
    except DanteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m DanteSegmenterLib", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True)

    _add_segment(commands)
    _add_batch(commands)
    _add_info_and_sample(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    segment = commands.add_parser("segment", help="segment image files with a model folder")
    segment.set_defaults(command=_segment)
    segment.add_argument("--model", required=True, type=Path, metavar="DIR", help="model folder")
    segment.add_argument(
        "--input", required=True, action="append", metavar="MODALITY=FILE", help="one per modality, e.g. t1=A.nii.gz"
    )
    segment.add_argument(
        "--output", required=True, type=Path, metavar="FILE",
        help=".seg.nrrd (or .nrrd): Slicer segmentation with names, colours and codes; .nii.gz, .mha: label map",
    )  # fmt: skip
    segment.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    segment.add_argument("--prepare", action="store_true", help="align the volumes and extract the brain (deepbet)")
    segment.add_argument("--brain-mask", type=Path, metavar="FILE", help="with --prepare: a mask of your own")
    segment.add_argument("--mirror", action="store_true", help="average over mirrored windows: 8 times as long")
    segment.add_argument("--probabilities", type=Path, metavar="FILE", help="4-D .nrrd or .nii.gz, one volume a region")
    segment.add_argument("--report", type=Path, metavar="FILE", help="volumes, seconds, device and notes as JSON")


def _add_batch(commands: argparse._SubParsersAction) -> None:
    batch = commands.add_parser("batch", help="segment all cases below a folder; go on if run again")
    batch.set_defaults(command=_batch)
    batch.add_argument("folder", type=Path, metavar="FOLDER", help="case folders (BraTS, paired CT), MSD or nnU-Net")
    batch.add_argument("--model", required=True, type=Path, metavar="DIR", help="model folder")
    batch.add_argument("--out", required=True, type=Path, metavar="DIR", help="NAME.seg.nrrd, summary.csv, picture")
    batch.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    batch.add_argument("--mirror", action="store_true", help="average over mirrored windows: 8 times as long")
    batch.add_argument("--limited", action="store_true", help="leave the privileged scan out where it is there")
    batch.add_argument("--cluster", default="", metavar="ADDRESS", help="of a Dask scheduler, e.g. tcp://host:8786")
    batch.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)  # end when standard input does
    batch.add_argument("--list", action="store_true", help="only show what would run")


def _add_info_and_sample(commands: argparse._SubParsersAction) -> None:
    info = commands.add_parser("info", help="what a model folder holds")
    info.set_defaults(command=_info)
    info.add_argument("model", type=Path, metavar="DIR")

    sample = commands.add_parser("sample", help="write a synthetic patient as a case folder, or a dataset of many")
    sample.set_defaults(command=_sample)
    sample.add_argument("folder", type=Path, metavar="DIR")
    sample.add_argument("--kind", choices=("brain", "chest"), default="brain")
    sample.add_argument("--seed", type=int, default=0, help="of the (first) patient")
    sample.add_argument("--cases", type=int, metavar="N", help="a dataset of N patients, one folder each in DIR")
    sample.add_argument("--spacing-mm", type=float, nargs="+", metavar="MM", help="one number, or three along K, J, I")
    sample.add_argument("--shape", type=int, nargs=3, metavar="N", help="voxels along K, J, I about the chest's centre")


def _segment(options: argparse.Namespace) -> None:
    outputs = [path for path in (options.output, options.probabilities, options.report) if path is not None]
    for path in outputs:  # before minutes of work, not after
        _check_output(path)
    spec = read_spec(options.model)
    paths = _inputs(options.input, spec)
    choose_pathway(spec, paths)
    volumes = {modality: read_volume(path) for modality, path in paths.items()}

    if options.brain_mask is not None and not options.prepare:
        raise InputError("--brain-mask is used by --prepare only.")
    volumes, prepared_notes = _prepared(volumes, spec, options) if options.prepare else (volumes, ())

    from tqdm import tqdm

    from .inference.segmenting import load_model, segment

    model = load_model(options.model, options.device)
    with tqdm(total=100, unit="%", leave=False, bar_format="{desc} {bar} {n:.0f}% {elapsed}") as bar:

        def show(progress: Progress) -> None:
            bar.set_description_str(progress.message, refresh=False)
            bar.update(round(100 * progress.fraction, 1) - bar.n)

        result = segment(model, volumes, mirror=options.mirror, progress=show)

    if options.output.name.lower().endswith(".nrrd"):
        write_segmentation(options.output, result.masks, spec.regions, result.reference)
    else:
        write_volume(options.output, result.reference.with_array(result.label_map))
    if options.probabilities:
        _write_probabilities(options.probabilities, result)
    report = {
        "model": {"name": spec.name, "version": spec.version},
        "volumes_ml": result.volumes_ml,
        "volume_ranges_ml": result.volume_ranges_ml,
        "confidence": {name: value if value == value else None for name, value in result.confidence.items()},
        "seconds": result.seconds,
        "device": result.device,
        "notes": [*prepared_notes, *result.notes],
    }
    if options.report:
        text = json.dumps(report, indent=1) + "\n"
        write_atomically(options.report, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    for note in (*prepared_notes, *result.notes):
        print(f"note: {note}")
    for region in spec.regions:
        low, high = result.volume_ranges_ml[region.id]
        print(f"{region.id:>4}  {result.volumes_ml[region.id]:8.1f} mL ({low:.1f} to {high:.1f})  {region.name}")
    print(f"{sum(result.seconds.values()):.1f} s on {result.device}; wrote {', '.join(str(path) for path in outputs)}")


def _batch(options: argparse.Namespace) -> None:
    from .batch.run import Options, Outcome, run_batch, to_do
    from .cases.case_list import find_cases

    if options.with_parent:
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
    cases, spec = find_cases(options.folder), read_spec(options.model)
    table = to_do(cases, spec, options.out)
    for case, obstacle in table:
        print(f"  {case.name:<30} {', '.join(case.images):<24} {obstacle or 'will run'}")
    if options.list:
        return

    def show(outcome: Outcome) -> None:
        volumes = ", ".join(f"{region} {ml:.1f} mL" for region, ml in outcome.volumes_ml.items())
        print(f"  {outcome.case:<30} {outcome.state:<8} {volumes or outcome.message}", flush=True)

    settings = Options(options.device, options.mirror, not options.limited)
    outcomes = run_batch(options.model, cases, options.out, settings, options.cluster, show)
    states = [outcome.state for outcome in outcomes]
    print(", ".join(f"{states.count(state)} {state}" for state in ("done", "skipped", "failed")))
    print(f"wrote {options.out}")
    if "failed" in states:
        raise InputError(f"{states.count('failed')} of {len(states)} cases failed; summary.csv says why.")


def _end_with_standard_input() -> None:
    """Whoever started this process holds its standard input open, and is gone when it closes."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _prepared(
    volumes: dict[str, Volume], spec: ModelSpec, options: argparse.Namespace
) -> tuple[dict[str, Volume], tuple[str, ...]]:
    """The volumes aligned with the one on whose grid the result will be, without skull."""
    from .preprocess.align import prepare_study

    check_can_prepare(spec)
    pathway, _ = choose_pathway(spec, volumes)
    mask = read_volume(options.brain_mask) if options.brain_mask else None

    def show(share: float, message: str) -> None:
        print(f"{message}...", file=sys.stderr, flush=True)

    study = prepare_study(volumes, pathway.modalities[0], mask, show)
    return study.volumes, study.notes


def _inputs(given: list[str], spec: ModelSpec) -> dict[str, Path]:
    """`MODALITY=FILE` pairs -> paths by modality id."""
    known = [modality.id for modality in spec.modalities]
    paths: dict[str, Path] = {}
    for pair in given:
        modality, equals, path = pair.partition("=")
        if not equals or not path or modality not in known:
            raise InputError(f"--input {pair}: MODALITY=FILE is needed, MODALITY one of {', '.join(known)}.")
        if modality in paths:
            raise InputError(f"--input {modality} is given twice.")
        paths[modality] = Path(path)
    return paths


def _check_output(path: Path) -> None:
    if not path.parent.is_dir():
        raise ResourceError(f"the folder '{path.parent}' does not exist. Create it or choose another.")
    if path.is_dir():
        raise ResourceError(f"'{path}' is a folder; give the name of a file to write.")
    if path.suffix == ".nrrd" or path.suffix == ".json" or path.name.lower().endswith((".nii", ".nii.gz", ".mha")):
        return
    raise InputError(f"'{path.name}': unknown ending; use {SEGMENTATION_ENDING} or .nii.gz.")


def _write_probabilities(path: Path, result: Segmentation) -> None:
    from .files.images import write_components

    write_components(path, result.probabilities, result.reference)


def _info(options: argparse.Namespace) -> None:
    spec = read_spec(options.model)
    print(f"{spec.name} {spec.version} ({spec.task})")
    for name, pathway in (("limited", spec.limited), ("full", spec.full)):
        if pathway is not None:
            print(f"  {name:<8} reads {', '.join(pathway.modalities)}; weights {pathway.weights}")
    for region in spec.regions:
        print(f"  {region.id:<8} {region.name}: {region.terminology.type.meaning}")
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    print(f"  grid     {spacing} mm, windows {' x '.join(map(str, spec.patch))}")
    if spec.intended_use:
        print(f"  use      {spec.intended_use}")
    print(f"\n{about(spec)}")


def _sample(options: argparse.Namespace) -> None:
    if not options.folder.parent.is_dir():
        raise ResourceError(f"the folder '{options.folder.parent}' does not exist. Create it or choose another.")
    options.folder.mkdir(exist_ok=True)
    if options.cases is None:
        _write_patient(options.folder, options.seed, options)
        return
    for seed in range(options.seed, options.seed + options.cases):
        _write_patient(options.folder / f"Synthetic{options.kind.capitalize()}{seed:03d}", seed, options)


def _write_patient(folder: Path, seed: int, options: argparse.Namespace) -> None:
    """A case folder in the naming its readers know: BraTS for the brain, plain names for paired chest CT."""
    from .synthetic.sample import brain_mr, chest_ct

    spacing = options.spacing_mm or ([1.0] if options.kind == "brain" else [2.0, 0.7, 0.7])
    if len(spacing) not in (1, 3) or min(spacing) <= 0 or (options.kind == "brain" and len(set(spacing)) > 1):
        raise InputError(f"--spacing-mm {spacing}: one positive number, for a chest also three, along K, J, I.")
    if options.shape and (options.kind == "brain" or min(options.shape) < 2):
        raise InputError("--shape takes three numbers of at least 2, and is for --kind chest.")
    if options.kind == "brain":
        patient, prefix, mask = brain_mr(seed, spacing[0]), f"{folder.resolve().name}_", "seg"
    else:
        shape = tuple(options.shape) if options.shape else None
        patient, prefix, mask = chest_ct(seed, tuple(spacing * (3 // len(spacing))), shape), "", "label"
    folder.mkdir(exist_ok=True)
    for name, volume in {**patient.volumes, mask: patient.labels}.items():
        write_volume(folder / f"{prefix}{name}.nii.gz", volume)
    print(f"wrote {patient.name} to {folder}")


if __name__ == "__main__":
    sys.exit(main())
