"""What a model folder says of its model, as dataclasses: `model.json` is a `ModelSpec`. Needs no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..strict_dataclass import OMIT_DEFAULT
from .terminology import Terminology

FORMAT_VERSION = 1
AS_STORED = "stored"
"""An orientation for models of nnU-Net, which takes the axes of an image as its file has them."""


@dataclass(frozen=True)
class Modality:
    """One input image the model knows.

    Attributes:
        id: what commands and columns of tables call it, e.g. "t1ce".
        label: what the window calls it, e.g. "T1 with contrast".
    """

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

    Attributes:
        kind: "zscore_nonzero": background is 0; mean and deviation over each volume's own non-zero voxels.
            "ct_window": clip to [low, high] HU, then subtract `mean` and divide by `std`; background is
            (low - mean) / std, and 0 nothing but the mean. In nnU-Net's order of work (`NnunetSteps`) "zscore_nonzero"
            counts the voxels in which any modality is not 0, holes filled, and there are four more: "zscore", over all
            voxels; "none"; "rescale_01", from the least to the greatest value; "rgb_01", divided by 255.
        low: of the window, in HU.
        high: of the window, in HU.
        mean: in HU; what becomes 0.
        std: in HU; what becomes 1 above the mean.
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

    @property
    def without_skull(self) -> bool:
        """Whether it reads MR in which nothing but the brain is there: all else is 0."""
        return self.kind == "zscore_nonzero"


@dataclass(frozen=True)
class SplineSteps:
    """How nnU-Net brings an array from one grid to another.

    Attributes:
        order: of the splines, 0 (nearest) to 5.
        order_between: of those between slices, where slices are resampled each by itself.
        by_slices: whether they are; null: where a voxel is more than `thick` times as long as it is wide.
        thick: how many times as long as wide a voxel is where slices are resampled each by itself.
    """

    order: int = 3
    order_between: int = 0
    by_slices: bool | None = None
    thick: float = 3.0


@dataclass(frozen=True)
class NnunetSteps:
    """nnU-Net's order of work: crop to what is not 0, normalise, then resample; logits are resampled back.

    Attributes:
        axes: axis n of the network's grid is axis `axes[n]` of the image (K, J, I), once that is oriented.
        to_network: how images are resampled.
        to_image: how logits are.
        mirror: the axes of the network's grid along which mirroring at test time goes.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    to_network: SplineSteps = SplineSteps()
    to_image: SplineSteps = SplineSteps(order=1)
    mirror: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Preprocessing:
    """What `preprocess.prepare` does to the input volumes.

    Attributes:
        orientation: where the array axes I, J, K point to, e.g. "LPS"; "stored", of nnU-Net's models alone: as the file
            has them.
        spacing_mm: of the network's grid, along K, J, I.
        normalisation: by modality id.
        nnunet: of a model that nnU-Net trained, its order of work. Not written where there is none.
    """

    orientation: str
    spacing_mm: tuple[float, float, float]
    normalisation: dict[str, Normalisation]
    nnunet: NnunetSteps | None = field(default=None, metadata=OMIT_DEFAULT)


@dataclass(frozen=True)
class NetworkSpec:
    """Numbers of the convolutional U-Net; lists run from the finest stage to the bottleneck, axes are K, J, I.

    Attributes:
        features: channels of each stage.
        strides: of each stage's first convolution along K, J, I; of the first stage all 1.
        kernels: edges of each stage's convolutions in voxels along K, J, I; odd.
        convs_per_stage: how many convolutions a stage has, in the encoder and in the decoder.
        encoder_convs: those of each stage, where they differ; of a residual encoder its blocks, of two each.
        decoder_convs: those of each stage of the decoder, which has no bottleneck, where they differ.
    """

    features: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    kernels: tuple[tuple[int, int, int], ...]
    convs_per_stage: int = 2
    encoder_convs: tuple[int, ...] = field(default=(), metadata=OMIT_DEFAULT)
    decoder_convs: tuple[int, ...] = field(default=(), metadata=OMIT_DEFAULT)

    @property
    def convs_down(self) -> tuple[int, ...]:
        """Convolutions (or blocks) of each stage of the encoder."""
        return self.encoder_convs or (self.convs_per_stage,) * len(self.features)

    @property
    def convs_up(self) -> tuple[int, ...]:
        """Convolutions of each stage of the decoder."""
        return self.decoder_convs or (self.convs_per_stage,) * (len(self.features) - 1)


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
        temperature: above 1 where the network was too sure.
        offset: below 0 where it was too ready to call a voxel this region.
        range_margin: a volume range counts the voxels whose raw logit is above so much, and above minus so much.
        cases: of validation, that it was fitted on.
    """

    temperature: float = 1.0
    offset: float = 0.0
    range_margin: float = math.log(3)
    cases: int = 0


@dataclass(frozen=True)
class Member:
    """One network of a pathway.

    Attributes:
        weights: name of its .safetensors file in the model folder.
        sha256: of that file, in hex.
    """

    weights: str
    sha256: str


@dataclass(frozen=True)
class Pathway:
    """One way through the model.

    Attributes:
        weights: name of the .safetensors file in the model folder.
        sha256: of that file, in hex; another file is refused.
        modalities: ids of those that it reads, in the order of the network's channels.
        architecture: what network it is, a name of `architectures`.
        options: the architecture's own whole numbers, where it has some.
        calibration: by region id, what was measured on test cases.
        scaling: by region id, what was fitted on validation cases before.
        more: further networks of the same kind, trained with other seeds or on other folds; the logits of all are
            averaged. Not written where there is none.
    """

    weights: str
    sha256: str
    modalities: tuple[str, ...]
    architecture: str = "unet"
    options: dict[str, int] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    scaling: dict[str, Scaling] = field(default_factory=dict)
    more: tuple[Member, ...] = field(default=(), metadata=OMIT_DEFAULT)

    @property
    def members(self) -> tuple[Member, ...]:
        """All its networks, at least one."""
        return (Member(self.weights, self.sha256), *self.more)

    @property
    def files(self) -> tuple[str, ...]:
        """The weights files of all members."""
        return tuple(member.weights for member in self.members)

    @property
    def digest(self) -> str:
        """Hex SHA-256 that tells this pathway's weights from any others: the file's, or one of all members' digests."""
        digests = [member.sha256 for member in self.members]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def with_members(self, members: Sequence[Member]) -> Pathway:
        """The same with these networks, at least one, in the place of its own."""
        first, *more = members
        return replace(self, weights=first.weights, sha256=first.sha256, more=tuple(more))

    def scaling_of(self, region_id: str) -> Scaling:
        """How this region's probabilities are shown: as they are, where nothing was fitted."""
        return self.scaling.get(region_id, Scaling())


def weights_file(pathway: str, number: int = 1) -> str:
    """What the weights file of a pathway's first, second, ... member is called by whoever writes a model folder."""
    return f"{pathway}.safetensors" if number == 1 else f"{pathway}-{number}.safetensors"


@dataclass(frozen=True)
class ModelSpec:
    """`model.json`.

    Attributes:
        name: what lists and results call the model.
        version: of the model, any text.
        task: "brain", "chest" or another word; what the model does follows from the other fields.
        modalities: every image that one of its pathways reads.
        privileged: id of the one that the limited pathway does without; null where there is none.
        regions: what it segments, in the order of the network's output channels.
        output: "regions": one sigmoid per region; "labels": softmax over background and the regions.
        preprocessing: from volumes to network input.
        patch: voxels of a window along K, J, I; divisible by the network's strides.
        network: numbers of the backbone.
        limited: f_L, the deployed pathway.
        full: f_F, used when the privileged volume is given; null where there is none.
        licence: of the weights, by their data.
        citations: of method and data.
        intended_use: what it may be used for, and what not.
        training_data: on what, and on how many cases.
        scores: by title, e.g. "test, without T1ce", figures by region or mean.
        format_version: of `model.json`; a newer one than this version reads is refused.
    """

    name: str
    version: str
    task: str
    modalities: tuple[Modality, ...]
    privileged: str | None
    regions: tuple[Region, ...]
    output: str
    preprocessing: Preprocessing
    patch: tuple[int, int, int]
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
    def pathways(self) -> dict[str, Pathway]:
        """Those that the model has, f_L first: "limited", and "full" where there is one."""
        return {"limited": self.limited} | ({"full": self.full} if self.full is not None else {})

    @property
    def out_channels(self) -> int:
        """Channels of the network's output: the regions, and the background where labels exclude each other."""
        return len(self.regions) + (self.output == "labels")

    @property
    def skull_stripped(self) -> bool:
        """Whether it reads MR of brains without skull, as *Prepare* makes them of a study from the scanner."""
        return all(self.preprocessing.normalisation[modality].without_skull for modality in self.limited.modalities)

    def modality(self, modality_id: str) -> Modality:
        return next(m for m in self.modalities if m.id == modality_id)

    def region(self, region_id: str) -> Region:
        return next(region for region in self.regions if region.id == region_id)
