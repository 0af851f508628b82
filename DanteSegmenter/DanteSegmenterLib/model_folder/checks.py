"""Validation of `model.json`: values must be consistent and within sensible limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import ModelError
from .architectures import check_options
from .spec import AS_STORED

if TYPE_CHECKING:
    from .spec import (
        Calibration,
        ModelSpec,
        NetworkSpec,
        NnunetSteps,
        Normalisation,
        Pathway,
        Preprocessing,
        Scaling,
        SplineSteps,
    )

# Limits for model.json: generous for any real network, far below what would exhaust a machine.
MAX_FEATURES = 2048
MAX_STAGES = 10
MAX_CONVS_OF_A_STAGE = 16
MAX_PATCH_VOXELS = 512**3
MAX_MODALITIES = 64
MAX_LABEL = 1 << 15
MAX_MEMBERS = 8  # of a pathway: each takes its own time and memory, and two pathways of them fit a zip file
MAX_INTENSITY = 1e6
# Kinds of normalisation: of models trained here, and of those imported from nnU-Net.
OWN_KINDS = ("zscore_nonzero", "ct_window")
NNUNET_KINDS = (*OWN_KINDS, "zscore", "none", "rescale_01", "rgb_01")
# Ids appear in commands, table columns and scene references; file names of weights must work on any file system.
ID = re.compile(r"\w[\w +.-]{0,63}")
WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,99}\.safetensors")
DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows, with any extension


def check_spec(spec: ModelSpec) -> None:
    """Validate a model description.

    Raises:
        ModelError: it is inconsistent or exceeds a limit.
    """
    if not spec.name:
        raise ModelError("the model has no name")
    _check_modalities(spec)
    for pathway in spec.pathways.values():
        _check_pathway(pathway, [modality.id for modality in spec.modalities])
    _check_regions(spec)
    check_network(spec.network, spec.patch)
    _check_preprocessing(spec.preprocessing, [modality.id for modality in spec.modalities])


def is_device_name(name: str) -> bool:
    """Whether a file name is a reserved device name on Windows, for example "con.zip"."""
    return DEVICE_NAMES.fullmatch(name) is not None


def _check_ids(what: str, ids: list[str]) -> None:
    if not ids or len(set(ids)) != len(ids):
        raise ModelError(f"{what} must be a non-empty list of different ids, got {ids}")
    for wrong in (name for name in ids if not ID.fullmatch(name)):
        raise ModelError(f"{what}: the id '{wrong}' is not 1 to 64 letters, digits, '_', '-', '+', '.' or spaces")


def _check_modalities(spec: ModelSpec) -> None:
    ids = [modality.id for modality in spec.modalities]
    _check_ids("modalities", ids)
    if len(ids) > MAX_MODALITIES:
        raise ModelError(f"{len(ids)} modalities are more than {MAX_MODALITIES}")
    for modality in spec.modalities:
        if not modality.label:
            raise ModelError(f"modality '{modality.id}' has no label")
    if spec.privileged is not None and spec.privileged not in ids:
        raise ModelError(f"privileged modality '{spec.privileged}' is not among {ids}")


def _check_pathway(pathway: Pathway, ids: list[str]) -> None:
    if not pathway.modalities or not set(pathway.modalities) <= set(ids):
        raise ModelError(f"a pathway reads {list(pathway.modalities)}, the model knows {ids}")
    if len(set(pathway.modalities)) != len(pathway.modalities):
        raise ModelError(f"a pathway reads a modality twice: {list(pathway.modalities)}")
    _check_members(pathway)
    check_options(pathway)
    for region, calibration in pathway.calibration.items():
        _check_calibration(region, calibration)
    for region, scaling in pathway.scaling.items():
        _check_scaling(region, scaling)


def _check_members(pathway: Pathway) -> None:
    if len(pathway.members) > MAX_MEMBERS:
        raise ModelError(f"a pathway has {len(pathway.members)} members, at most {MAX_MEMBERS} are allowed")
    for name in pathway.files:
        if not WEIGHTS.fullmatch(name) or is_device_name(name):
            raise ModelError(
                f"weights '{name}' must be a .safetensors file inside the model folder, its name of Latin "
                "letters, digits, '_', '-', '+' and '.'"
            )
    names = {name.lower() for name in pathway.files}  # as on case-insensitive file systems
    if min(len(names), len({member.sha256 for member in pathway.members})) < len(pathway.members):
        raise ModelError(f"two members of a pathway are the same network, among {', '.join(pathway.files)}")


def _check_calibration(region: str, calibration: Calibration) -> None:
    shares = (calibration.confidence, calibration.precision, calibration.range_holds)
    if not all(0 <= share <= 1 for share in shares) or not 0 <= calibration.cases <= 1e9:
        raise ModelError(f"calibration of '{region}' needs a number of cases and shares of 0 to 1, got {calibration}")


def _check_scaling(region: str, scaling: Scaling) -> None:
    within = 0.01 <= scaling.temperature <= 100 and abs(scaling.offset) <= 100 and 0 <= scaling.range_margin <= 100
    if not within or not 0 <= scaling.cases <= 1e9:
        raise ModelError(
            f"scaling of '{region}' needs a temperature of 0.01 to 100, an offset of -100 to 100, a range_margin of 0 "
            f"to 100 and a number of cases, got {scaling}"
        )


def _check_preprocessing(preprocessing: Preprocessing, ids: list[str]) -> None:
    letters, pairs = preprocessing.orientation, ("LR", "AP", "IS")
    as_stored = preprocessing.nnunet is not None and letters == AS_STORED
    found = sorted(axis for letter in letters for axis, pair in enumerate(pairs) if letter in pair)
    if found != [0, 1, 2] and not as_stored:
        raise ModelError(f"orientation '{letters}' is not three letters such as 'LPS' or 'RAS'")
    if not all(0.01 <= spacing <= 100 for spacing in preprocessing.spacing_mm):
        raise ModelError(f"spacing_mm {preprocessing.spacing_mm} is not within 0.01 to 100 mm")
    if preprocessing.nnunet is not None:
        _check_nnunet(preprocessing.nnunet)
    kinds = OWN_KINDS if preprocessing.nnunet is None else NNUNET_KINDS
    for modality_id in ids:
        normalisation = preprocessing.normalisation.get(modality_id)
        if normalisation is None:
            raise ModelError(f"modality '{modality_id}' has no normalisation")
        if normalisation.kind == "hu_window":
            raise ModelError(
                "it was trained by an older version, for which air in a CT was as dense as blood (normalisation "
                "'hu_window'): no version reads it any more, train it again"
            )
        if normalisation.kind not in kinds:
            raise ModelError(f"normalisation '{normalisation.kind}' is none of {', '.join(kinds)}")
        if normalisation.hounsfield:
            _check_window(modality_id, normalisation)


def _check_nnunet(steps: NnunetSteps) -> None:
    if sorted(steps.axes) != [0, 1, 2]:
        raise ModelError(f"axes {steps.axes} are not 0, 1 and 2 in some order")
    if len(set(steps.mirror)) != len(steps.mirror) or not set(steps.mirror) <= {0, 1, 2}:
        raise ModelError(f"mirror {steps.mirror} names an axis twice, or another one than 0, 1 and 2")
    for splines in (steps.to_network, steps.to_image):
        _check_splines(splines)


def _check_splines(splines: SplineSteps) -> None:
    if not 0 <= splines.order <= 5 or not 0 <= splines.order_between <= 5 or not 1 <= splines.thick <= 1000:
        raise ModelError(f"splines need an order of 0 to 5 and thick of 1 to 1000, got {splines}")


def _check_window(modality_id: str, window: Normalisation) -> None:
    if not (window.low < window.high and window.std > 0):
        raise ModelError(f"ct_window of '{modality_id}' needs low < high and std > 0, got {window}")
    numbers = (window.low, window.high, window.mean, window.std, 1 / window.std)
    if max(map(abs, numbers)) > MAX_INTENSITY:
        raise ModelError(f"ct_window of '{modality_id}' holds numbers beyond {MAX_INTENSITY:g}, got {window}")


def _check_regions(spec: ModelSpec) -> None:
    if spec.output not in ("regions", "labels"):
        raise ModelError(f"output '{spec.output}' is neither 'regions' nor 'labels'")
    _check_ids("regions", [region.id for region in spec.regions])
    values = [region.label_value for region in spec.regions]
    if len(set(values)) != len(values):
        raise ModelError(f"two regions have the same label_value, got {values}")
    for region in spec.regions:
        if not region.name:
            raise ModelError(f"region '{region.id}' has no name")
        if not all(0 <= part <= 1 for part in region.color):
            raise ModelError(f"colour {region.color} of region '{region.id}' is not within 0 to 1")
        if not 1 <= region.label_value <= 255:
            raise ModelError(f"label_value {region.label_value} of region '{region.id}' is not within 1 to 255")
        if not all(0 <= label <= MAX_LABEL for label in region.labels):
            raise ModelError(f"labels {region.labels} of region '{region.id}' are not within 0 to {MAX_LABEL}")


def check_network(network: NetworkSpec, patch: tuple[int, int, int]) -> None:
    """Check that a network can be built and that the patch fits it.

    Raises:
        ModelError: it cannot, or does not fit.
    """
    stages = len(network.features)
    if not 2 <= stages <= MAX_STAGES or len(network.strides) != stages or len(network.kernels) != stages:
        raise ModelError(
            f"features, strides and kernels must have the same length of 2 to {MAX_STAGES}, got {stages}, "
            f"{len(network.strides)}, {len(network.kernels)}"
        )
    if not all(1 <= feature <= MAX_FEATURES for feature in network.features):
        raise ModelError(f"features {network.features} are not within 1 to {MAX_FEATURES}")
    if not 1 <= network.convs_per_stage <= 8:
        raise ModelError(f"convs_per_stage {network.convs_per_stage} is not within 1 to 8")
    _check_convs("encoder_convs", network.encoder_convs, stages)
    _check_convs("decoder_convs", network.decoder_convs, stages - 1)
    if not all(1 <= s <= 4 for stride in network.strides for s in stride) or network.strides[0] != (1, 1, 1):
        raise ModelError(f"strides {network.strides} must be 1 to 4, the first stage's all 1")
    if not all(k in (1, 3, 5, 7) for kernel in network.kernels for k in kernel):
        raise ModelError(f"kernels {network.kernels} must be odd, 1 to 7")
    _check_patch(network, patch)


def _check_convs(name: str, convs: tuple[int, ...], stages: int) -> None:
    """Check that `convs` is empty or has one number per stage."""
    if convs and (len(convs) != stages or not all(1 <= n <= MAX_CONVS_OF_A_STAGE for n in convs)):
        raise ModelError(f"{name} {convs} must be {stages} numbers of 1 to {MAX_CONVS_OF_A_STAGE}")


def _check_patch(network: NetworkSpec, patch: tuple[int, int, int]) -> None:
    voxels = 1
    for axis, size in enumerate(patch):
        reduction = 1
        for stride in network.strides:
            reduction *= stride[axis]
        if size < 1 or size % reduction:
            raise ModelError(
                f"patch {patch} must be divisible by the network's strides: axis {axis} needs a multiple of "
                f"{reduction}, got {size}"
            )
        voxels *= size
    if voxels > MAX_PATCH_VOXELS:
        raise ModelError(f"patch {patch} is larger than {MAX_PATCH_VOXELS} voxels")
