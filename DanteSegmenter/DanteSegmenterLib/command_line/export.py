"""Command `export`: convert a model folder to ONNX or a MONAI bundle."""

from __future__ import annotations

import argparse

from ..model_folder.read_write import read_spec
from ..program import StopRequest, say
from .outputs import check_outputs


def export(given: argparse.Namespace, stop: StopRequest) -> None:
    """Export, compare with the model, and report the difference."""
    read_spec(given.model)  # before torch is loaded
    if given.onnx is not None:
        check_outputs([(given.onnx, (".onnx",))], given.model.iterdir())
    from ..export.bundle import check_target, write_bundle
    from ..export.onnx_file import check_packages, write_onnx
    from ..export.source import source_of
    from ..inference import load_model

    if given.onnx is not None:
        check_packages()
    else:
        check_target(given.monai_bundle)
    source = source_of(load_model(given.model, "cpu"), given.pathway)
    found = write_onnx(source, given.onnx) if given.onnx is not None else write_bundle(source, given.monai_bundle)
    say(f"{given.pathway} pathway of {source.spec.name}: reads {', '.join(source.pathway.modalities)}")
    say(str(found))
    say(f"wrote {given.onnx or given.monai_bundle}")
