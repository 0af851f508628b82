"""The model folder: everything needed to run a model, read and checked without torch."""

from .checks import MAX_STAGES
from .choosing import check_can_prepare, choose_pathway
from .read_write import check_weights_file, read_spec, sha256_of, write_spec
from .spec import (
    Calibration,
    Member,
    Modality,
    ModelSpec,
    NetworkSpec,
    Normalisation,
    Pathway,
    Preprocessing,
    Region,
    Scaling,
)

__all__ = [
    "Calibration",
    "check_can_prepare",
    "check_weights_file",
    "choose_pathway",
    "MAX_STAGES",
    "Member",
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
