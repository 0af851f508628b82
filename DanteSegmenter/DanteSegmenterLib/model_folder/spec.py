"""The model folder: everything needed to run a model, read without torch.

A model folder holds `model.json` (this file's `ModelSpec`), the weights as safetensors, a model card `README.md` and
`provenance.json`. It is the only thing that crosses from training to deployment. Reading it never executes code and
allocates nothing in proportion to what it claims.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..guard.plain_text import LONG, SHORT, one_line
from ..strict_dataclass import from_plain, to_plain
from .checks import MAX_STAGES as MAX_STAGES
from .checks import check_spec
from .terminology import Terminology

FORMAT_VERSION = 1
SPEC_FILE = "model.json"
MAX_SPEC_BYTES = 1 << 20
# Texts that may be some sentences long; any other is a name.
PROSE = {"training_data", "intended_use", "licence", "citations"}


@dataclass(frozen=True)
class Modality:
    """One input image the model knows: its id in commands, its label in the window."""

    id: str
    label: str


@dataclass(frozen=True)
class Region:
    """One thing the model segments.

    Attributes:
        id: short name, e.g. "ET".
        name: what the segment is called in the scene.
        color: red, green, blue in 0..1.
        terminology: coded meaning.
        labels: integer labels of the training data that make up this region; regions may overlap (ET in TC in WT).
        label_value: this region's value in an exported label map; regions are written in the order of the list, each
            overwriting the ones before (nnU-Net's `regions_class_order`), which makes the map's regions nested.
    """

    id: str
    name: str
    color: tuple[float, float, float]
    terminology: Terminology
    labels: tuple[int, ...]
    label_value: int


@dataclass(frozen=True)
class Normalisation:
    """How raw voxel values become network input.

    kind "zscore_nonzero": background is 0; mean and deviation over each volume's own non-zero voxels.
    kind "ct_window": clip to [low, high] HU, then subtract `mean` and divide by `std`, the training set's figures;
        background is (low - mean) / std, and 0 nothing but the mean.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0

    @property
    def hounsfield(self) -> bool:
        """Whether it reads CT."""
        return self.kind == "ct_window"


@dataclass(frozen=True)
class Preprocessing:
    """What `preprocess.prepare` does to the input volumes.

    Attributes:
        orientation: where the array axes I, J, K point to, e.g. "LPS".
        spacing_mm: of the network's grid, along K, J, I.
        normalisation: by modality id.
    """

    orientation: str
    spacing_mm: tuple[float, float, float]
    normalisation: dict[str, Normalisation]


@dataclass(frozen=True)
class NetworkSpec:
    """Numbers of the plain convolutional U-Net; lists run from the finest stage to the bottleneck, axes are K, J, I."""

    features: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    kernels: tuple[tuple[int, int, int], ...]
    convs_per_stage: int = 2


@dataclass(frozen=True)
class Calibration:
    """What the probabilities of a region were worth on test cases.

    Attributes:
        cases: how many.
        confidence: mean probability in the voxels that were called this region, averaged over cases.
        precision: the share of these voxels that experts call so too, averaged over the same cases.
        range_holds: the share of all cases whose true volume lay within the volume range that was shown.
    """

    cases: int
    confidence: float
    precision: float
    range_holds: float


@dataclass(frozen=True)
class Scaling:
    """How a region's raw probability p becomes the one that is shown: sigmoid(logit(p) / temperature + offset).

    Masks are made of raw probabilities, so they stay what they are (temperature: Guo et al. 2017, arXiv 1706.04599;
    with an offset: Platt 1999).

    Attributes:
        cases: of validation, that it was fitted on.
        range_margin: a volume range counts the voxels whose raw logit is above so much, and above minus so much.
    """

    temperature: float = 1.0
    offset: float = 0.0
    range_margin: float = math.log(3)
    cases: int = 0


@dataclass(frozen=True)
class Pathway:
    """One way through the model: its weights file, the modalities it reads, in channel order, and what network it is.

    `options` are the architecture's own numbers, see `architectures`; by region id, `calibration` is what was measured
    on test cases and `scaling` what was fitted on validation cases before.
    """

    weights: str
    sha256: str
    modalities: tuple[str, ...]
    architecture: str = "unet"
    options: dict[str, int] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    scaling: dict[str, Scaling] = field(default_factory=dict)

    def scaling_of(self, region_id: str) -> Scaling:
        """How this region's probabilities are shown: as they are, where nothing was fitted."""
        return self.scaling.get(region_id, Scaling())


@dataclass(frozen=True)
class ModelSpec:
    """`model.json`. `limited` is f_L, the deployed pathway; `full` is f_F, used when the privileged volume is given."""

    name: str
    version: str
    task: str
    modalities: tuple[Modality, ...]
    privileged: str | None
    regions: tuple[Region, ...]
    output: str  # "regions": one sigmoid per region; "labels": softmax over background and the regions
    preprocessing: Preprocessing
    patch: tuple[int, int, int]  # K, J, I
    network: NetworkSpec
    limited: Pathway
    full: Pathway | None = None
    licence: str = ""
    citations: tuple[str, ...] = ()
    intended_use: str = ""
    training_data: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def out_channels(self) -> int:
        """Channels of the network's output: the regions, and the background where labels exclude each other."""
        return len(self.regions) + (self.output == "labels")

    @property
    def skull_stripped(self) -> bool:
        """Whether it reads MR of brains without skull, as *Prepare* makes them of a study from the scanner."""
        return not any(self.preprocessing.normalisation[modality].hounsfield for modality in self.limited.modalities)

    def modality(self, modality_id: str) -> Modality:
        return next(m for m in self.modalities if m.id == modality_id)

    def region(self, region_id: str) -> Region:
        return next(region for region in self.regions if region.id == region_id)


def read_spec(folder: Path | str) -> ModelSpec:
    """Read and check `model.json`; needs no torch and does not look at the weights.

    Its texts are anybody's: each is read as one line that prints (see `plain_text`).

    Raises:
        ModelError: the folder is no model folder, was written by a newer version, or contradicts itself.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    if not path.is_file():
        raise ModelError(f"'{folder}' is no model folder: it has no {SPEC_FILE}. Choose a folder that training wrote.")
    try:
        plain = _plain_texts(_read_json(path))
        _check_version(plain)
        spec = from_plain(ModelSpec, plain, where=SPEC_FILE, error=ModelError)
        check_spec(spec)
    except ModelError as error:
        raise ModelError(f"'{path}' cannot be used: {str(error).removesuffix('.')}.") from None
    except RecursionError:
        raise ModelError(f"'{path}' cannot be used: it nests too deeply. Copy the model folder again.") from None
    return spec


def _read_json(path: Path) -> Any:
    """What is in the file, strictly: no key twice, no NaN. A byte order mark is passed over."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SPEC_BYTES + 1)
        if len(content) > MAX_SPEC_BYTES:
            raise ModelError(f"it is larger than {MAX_SPEC_BYTES} bytes; a model description is a few kilobytes.")
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once_each, parse_constant=_no_number)
    except ValueError as error:
        raise ModelError(f"it is not valid JSON ({error}). Copy the model folder again.") from None
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror or error}.") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"a key is there twice, among {one_line(', '.join(key for key, _value in pairs))}")
    return table


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _check_version(plain: Any) -> None:
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"it has no valid format_version (got {version!r}, wanted 1 to {FORMAT_VERSION}).")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"it has format version {version}, this extension reads up to {FORMAT_VERSION}. Update SlicerDANTE."
        )


def _plain_texts(value: Any, longest: int = SHORT) -> Any:
    """The same nest of tables and lists, every text and key in it one line that prints."""
    if isinstance(value, str):
        return one_line(value, longest)
    if isinstance(value, list):
        return [_plain_texts(item, longest) for item in value]
    if isinstance(value, dict):
        return {one_line(k): _plain_texts(item, LONG if k in PROSE else longest) for k, item in value.items()}
    return value


def choose_pathway(spec: ModelSpec, given: Collection[str], limited: bool = False) -> tuple[Pathway, tuple[str, ...]]:
    """The pathway for these modality ids: f_F if the model has it and all it reads is there, else f_L.

    Args:
        limited: f_L whatever is there.

    Returns:
        the pathway and what to tell the user about the choice.

    Raises:
        InputError: a modality is missing or unknown.
    """
    known = [modality.id for modality in spec.modalities]
    unknown = [modality for modality in given if modality not in known]
    if unknown:
        raise InputError(f"unknown modality {', '.join(unknown)}; '{spec.name}' knows {', '.join(known)}.")
    if not limited and spec.full is not None and set(spec.full.modalities) <= set(given):
        extra = [m.label for m in spec.modalities if m.id in given and m.id not in spec.limited.modalities]
        return spec.full, (f"{', '.join(extra)} is given: the full-modality network was used.",)
    missing = [modality for modality in spec.limited.modalities if modality not in given]
    if missing:
        raise InputError(
            f"missing: {', '.join(missing)}. '{spec.name}' needs {', '.join(spec.limited.modalities)}; "
            f"given: {', '.join(given) or 'nothing'}."
        )
    ignored = [spec.modality(modality).label for modality in given if modality not in spec.limited.modalities]
    return spec.limited, (f"{', '.join(ignored)} is not used by this model.",) if ignored else ()


def check_can_prepare(spec: ModelSpec) -> None:
    """Refuse to align and to extract the brain for a model that reads something else.

    Raises:
        InputError: the model is not for skull-stripped volumes.
    """
    if not spec.skull_stripped:
        raise InputError(
            f"Prepare is for brains in MR: it aligns the volumes and cuts out the brain. '{spec.name}' reads something "
            "else. Segment without it."
        )


def check_weights_file(folder: Path | str, pathway: Pathway) -> Path:
    """Path of a pathway's weights after comparing their SHA-256 with the one in `model.json`.

    Raises:
        ModelError: the file is missing, is a link, or was altered after training wrote it.
    """
    path = Path(folder) / pathway.weights
    if path.is_symlink() or not path.is_file():
        raise ModelError(f"'{path}' is missing (or a link). Copy the whole model folder again.")
    digest = sha256_of(path)
    if digest != pathway.sha256:
        raise ModelError(
            f"'{path}' is not the file the model was released with: its SHA-256 is {digest[:12]}..., model.json says "
            f"{pathway.sha256[:12]}.... Copy the model folder again from its source."
        )
    return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def write_spec(folder: Path | str, spec: ModelSpec) -> None:
    """Write `model.json`, refusing what `read_spec` would refuse."""
    (Path(folder) / SPEC_FILE).write_text(spec_text(spec), encoding="utf-8")


def spec_text(spec: ModelSpec) -> str:
    """What `model.json` holds.

    Raises:
        ModelError: `read_spec` would refuse it.
    """
    check_spec(spec)
    return json.dumps(_plain_texts(to_plain(spec)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
