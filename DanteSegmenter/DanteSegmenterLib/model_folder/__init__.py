"""The model folder: everything needed to run a model, read and checked without torch."""

from .spec import (
    MAX_STAGES,
    Calibration,
    Modality,
    ModelSpec,
    NetworkSpec,
    Normalisation,
    Pathway,
    Preprocessing,
    Region,
    Scaling,
    check_can_prepare,
    check_weights_file,
    choose_pathway,
    read_spec,
    sha256_of,
    write_spec,
)

__all__ = [
    "Calibration",
    "check_can_prepare",
    "check_weights_file",
    "choose_pathway",
    "MAX_STAGES",
    "Modality",
    "ModelSpec",
    "NetworkSpec",
    "Normalisation",
    "Pathway",
    "Preprocessing",
    "read_spec",
    "Region",
    "Scaling",
    "sha256_of",
    "write_spec",
]
