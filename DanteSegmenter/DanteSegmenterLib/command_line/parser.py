"""Commands and arguments of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .. import __version__
from ..program import StopRequest, path
from .batch import batch
from .export import export
from .import_nnunet import import_nnunet
from .info import info
from .sample import sample
from .segment import segment

Verb = Callable[[argparse.Namespace, StopRequest], None]
DEVICE_HELP = "auto (default), cpu, cuda, cuda:N or mps"
MIRROR_HELP = "average over mirrored windows: 8 times as long"
FOLDER_HELP = "case folders (BraTS, paired CT), DICOM studies, MSD or nnU-Net"
OUTPUT_HELP = (
    ".seg.nrrd (or .nrrd): Slicer segmentation with names, colours and codes; .nii.gz, .mha: label map; .dcm: DICOM "
    "segmentation, with --dicom"
)
HOST_HELP = "compute on another computer, by ssh: ssh:USER@HOST, ssh:USER@HOST:PORT or ssh:NAME of ~/.ssh/config"
HOST_PYTHON_HELP = "the Python there that has slicer-dante (default: python3)"
PREPARE_HELP = "raw studies: align the volumes and extract the brain (deepbet)"


def parser() -> argparse.ArgumentParser:
    """Parser of `python -m DanteSegmenterLib segment | batch | info | import | sample | export`."""
    description = "Segment where the decisive scan is missing, without 3D Slicer."
    whole = argparse.ArgumentParser(prog="python -m DanteSegmenterLib", description=description)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(required=True)
    _add_segment(commands)
    _add_batch(commands)
    _add_import(commands)
    _add_info_and_sample(commands)
    _add_export(commands)
    return whole


def _add(commands: argparse._SubParsersAction, name: str, verb: Verb, words: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=words)
    command.set_defaults(command=verb)
    return command


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help=DEVICE_HELP)
    command.add_argument("--host", default="", metavar="ssh:HOST", help=HOST_HELP)
    command.add_argument("--host-python", default="", metavar="COMMAND", help=HOST_PYTHON_HELP)


def _add_segment(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "segment", segment, "segment image files with a model folder")
    command.add_argument("--model", required=True, type=path, metavar="DIR", help="model folder")
    command.add_argument(
        "--input", default=[], action="append", metavar="MODALITY=FILE", help="one per modality, e.g. t1=A.nii.gz"
    )
    _add_dicom(command)
    command.add_argument("--output", type=path, metavar="FILE", help=OUTPUT_HELP)
    _add_where(command)
    command.add_argument("--prepare", action="store_true", help=PREPARE_HELP)
    command.add_argument("--brain-mask", type=path, metavar="FILE", help="with --prepare: a mask of your own")
    command.add_argument("--mirror", action="store_true", help=MIRROR_HELP)
    command.add_argument("--probabilities", type=path, metavar="FILE", help="4-D .nrrd or .nii.gz, one volume a region")
    command.add_argument("--report", type=path, metavar="FILE", help="volumes, seconds, device and notes as JSON")


def _add_dicom(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dicom", type=path, metavar="FOLDER", help="a DICOM study instead of --input")
    command.add_argument("--study", default="", metavar="UID", help="with --dicom: which, where there are several")
    command.add_argument(
        "--series",
        default=[],
        action="append",
        metavar="MODALITY=NUMBER",
        help="with --dicom: which series (number or UID) is what, e.g. t1=5; t1ce=none leaves one out",
    )
    command.add_argument("--list", action="store_true", help="with --dicom: only show what each series was taken for")


def _add_batch(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "batch", batch, "segment all cases below a folder; run again to continue")
    command.add_argument("folder", type=path, metavar="FOLDER", help=FOLDER_HELP)
    command.add_argument("--model", required=True, type=path, metavar="DIR", help="model folder")
    command.add_argument("--out", required=True, type=path, metavar="DIR", help="NAME.seg.nrrd, summary.csv, picture")
    _add_where(command)
    command.add_argument("--prepare", action="store_true", help=PREPARE_HELP)
    command.add_argument("--mirror", action="store_true", help=MIRROR_HELP)
    command.add_argument("--limited", action="store_true", help="leave the privileged scan out where it is there")
    command.add_argument("--dicom-seg", action="store_true", help="NAME.dcm too, a DICOM segmentation of a DICOM study")
    command.add_argument("--cluster", default="", metavar="ADDRESS", help="of a Dask scheduler, e.g. tcp://host:8786")
    command.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)  # end when standard input does
    command.add_argument("--list", action="store_true", help="only show what would run")


def _add_import(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "import", import_nnunet, "convert a model trained by nnU-Net to a model folder")
    command.add_argument("kind", choices=("nnunet",), help="of which program (version 2)")
    command.add_argument("folder", type=path, metavar="FOLDER", help="TRAINER__PLANS__CONFIGURATION of its results")
    command.add_argument("--to", required=True, type=path, metavar="DIR", help="the model folder to write")
    command.add_argument("--fold", action="append", default=[], metavar="N", help="0, 1, ... or all; default: each")
    command.add_argument("--checkpoint", choices=("final", "best"), default="final")
    command.add_argument(
        "--channel", action="append", default=[], metavar="N=ID", help="which modality a channel is, e.g. 0=t1"
    )
    command.add_argument(
        "--label", action="append", default=[], metavar="LABEL=NAME", help="what a label is called, e.g. 2=Edema"
    )
    command.add_argument("--name", default="", help="of the model; default: the dataset's")
    command.add_argument("--orientation", default="", metavar="LPS", help="of the images that it was trained on")
    command.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)  # end when standard input does


def _add_info_and_sample(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "info", info, "show what a model folder contains")
    command.add_argument("model", type=path, metavar="DIR")

    command = _add(commands, "sample", sample, "write a synthetic patient as a case folder, or a dataset of many")
    command.add_argument("folder", type=path, metavar="DIR")
    command.add_argument("--kind", choices=("brain", "chest"), default="brain")
    command.add_argument("--seed", type=int, default=0, help="of the (first) patient")
    command.add_argument("--cases", type=int, metavar="N", help="a dataset of N patients, one folder each in DIR")
    command.add_argument("--spacing-mm", type=float, nargs="+", metavar="MM", help="one number, or three along K, J, I")
    command.add_argument("--shape", type=int, nargs=3, metavar="N", help="voxels along K, J, I about a chest's centre")


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "export", export, "write a model as an ONNX file or a MONAI bundle")
    command.add_argument("model", type=path, metavar="DIR")
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("--onnx", type=path, metavar="FILE", help="ends in .onnx; its metadata describe the input")
    form.add_argument("--monai-bundle", type=path, metavar="DIR", help="runs with python -m monai.bundle run")
    command.add_argument("--pathway", choices=("limited", "full"), default="limited", help="limited (default) or full")
