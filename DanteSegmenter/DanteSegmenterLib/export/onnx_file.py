"""Export a pathway as an ONNX file, verified with ONNX Runtime before it is kept."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ModelError, ResourceError
from ..guard.atomic import write_atomically
from .agreement import Agreement, check_agreement
from .onnx_metadata import metadata_of
from .source import Source, noise

if TYPE_CHECKING:
    from onnx import ModelProto

# The version that PyTorch's exporter targets; later ones are not needed.
OPSET = 18
INPUT, OUTPUT = "image", "logits"
# Limit of protobuf for one file; this project's networks have a few hundred MB at most.
PROTOBUF_BYTES = (1 << 31) - (1 << 20)


def check_packages() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
        ResourceError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            f"ONNX needs the packages onnx, onnxscript and onnxruntime ({error.name} is missing): pip install "
            '"slicer-dante[export]".'
        ) from None


def write_onnx(source: Source, path: Path) -> Agreement:
    """Write `path`: one file including weights, input "image" [batch, C, *patch], output "logits" of that size.

    Raises:
        ModelError: the network cannot be exported, or the export computes something else; nothing is kept.
        ResourceError: a package is missing, or the file cannot be written.
    """
    check_packages()
    bytes_needed = sum(p.numel() * p.element_size() for p in source.network.parameters())
    if bytes_needed > PROTOBUF_BYTES:
        raise ModelError(f"'{source.spec.name}' has {bytes_needed >> 20} MB of weights; one ONNX file holds 2 GB.")
    proto = _described(_recorded(source), source)
    found: list[Agreement] = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(proto.SerializeToString())
        found.append(check_agreement(source, _reader(temporary), "ONNX file"))

    write_atomically(path, write)
    return found[0]


def _recorded(source: Source) -> ModelProto:
    # Two samples: with one, the exporter would treat the batch size as a constant.
    example = noise(source).repeat(2, 1, 1, 1, 1)
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                source.network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # any error of the exporter
        raise ModelError(
            f"'{source.spec.name}' ({source.pathway.architecture}) cannot be written as ONNX with PyTorch "
            f"{torch.__version__}: {_first_line(error)}."
        ) from error
    if program is None:
        raise ModelError(f"PyTorch {torch.__version__} wrote no ONNX of '{source.spec.name}'. Update PyTorch.")
    return program.model_proto


def _first_line(error: Exception) -> str:
    """First line of an error, for the end of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(". ")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the exporter's messages for developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _described(proto: ModelProto, source: Source) -> ModelProto:
    import onnx

    onnx.helper.set_model_props(proto, metadata_of(source.spec, source.name))
    proto.doc_string = (
        f"{source.spec.name} {source.spec.version}, {source.name} pathway. {source.spec.intended_use}".strip()
    )
    onnx.checker.check_model(proto)
    return proto


def _reader(path: Path) -> Any:
    """The file as a function of a window."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits_of(window: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run([OUTPUT], {INPUT: window.numpy()})[0])
        except Exception as error:  # its errors have no common base class
            raise ModelError(
                f"ONNX Runtime cannot run {len(window)} window(s) with what PyTorch {torch.__version__} wrote: "
                f"{_first_line(error)}."
            ) from error

    return logits_of
