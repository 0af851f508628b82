"""The dataclasses of `model.json`, which is a `ModelSpec`. Does not need torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..strict_dataclass import OMIT_DEFAULT
from .terminology import Terminology

FORMAT_VERSION = 1
AS_STORED = "stored"
"""Orientation of nnU-Net's models, which use the axes of an image as stored in its file."""


@dataclass(frozen=True)
class Modality:
    """An input image of the model.

    Attributes:
        id: name in commands and table columns, e.g. "t1ce".
        label: name in the GUI, e.g. "T1 with contrast".
    """

    id: str
    label: str


@dataclass(frozen=True)
class Region:
    """A structure that the model segments.

    Attributes:
        id: short name, e.g. "ET".
        name: name of the segment in the scene.
        color: red, green, blue in 0..1.
        terminology: coded meaning.
        labels: integer labels of the training data that make up this region; regions may overlap (ET in TC in WT).
        label_value: value in an exported label map; regions are written in list order, each overwriting earlier ones
            (nnU-Net's `regions_class_order`), so regions in the map are nested.
    """

    id: str
    name: str
    color: tuple[float, float, float]
    terminology: Terminology
    labels: tuple[int, ...]
    label_value: int


@dataclass(frozen=True)
class Normalisation:
    """How voxel values are normalised for the network.

    Attributes:
        kind: "zscore_nonzero": mean and standard deviation over each volume's own non-zero voxels; background stays 0.
            "ct_window": clip to [low, high] HU, then subtract `mean` and divide by `std`; background becomes (low -
            mean) / std, and 0 is the mean. With nnU-Net's steps (`NnunetSteps`), "zscore_nonzero" uses the voxels in
            which any modality is not 0, with holes filled, and there are four more kinds: "zscore", over all voxels;
            "none"; "rescale_01", from minimum to maximum; "rgb_01", divided by 255.
        low: lower end of the window, in HU.
        high: upper end of the window, in HU.
        mean: in HU, mapped to 0.
        std: in HU; one `std` above the mean is mapped to 1.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0

    @property
    def hounsfield(self) -> bool:
        """Whether the input is CT."""
        return self.kind == "ct_window"

    @property
    def without_skull(self) -> bool:
        """Whether the input is skull-stripped MR, in which everything but the brain is 0."""
        return self.kind == "zscore_nonzero"


@dataclass(frozen=True)
class SplineSteps:
    """How nnU-Net resamples an array to another grid.

    Attributes:
        order: order of the splines, 0 (nearest) to 5.
        order_between: order between slices, if slices are resampled separately.
        by_slices: whether slices are resampled separately; null: if a voxel is more than `thick` times as long as wide.
        thick: ratio of voxel length to width above which slices are resampled separately.
    """

    order: int = 3
    order_between: int = 0
    by_slices: bool | None = None
    thick: float = 3.0


@dataclass(frozen=True)
class NnunetSteps:
    """nnU-Net's processing order: crop to non-zero voxels, normalise, then resample; logits are resampled back.

    Attributes:
        axes: axis n of the network's grid is axis `axes[n]` of the image (K, J, I) after reorientation.
        to_network: resampling of images.
        to_image: resampling of logits.
        mirror: axes of the network's grid that may be mirrored at test time.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    to_network: SplineSteps = SplineSteps()
    to_image: SplineSteps = SplineSteps(order=1)
    mirror: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Preprocessing:
    """What `preprocess.prepare` does to the input volumes.

    Attributes:
        orientation: directions of the array axes I, J, K, e.g. "LPS"; "stored", only for nnU-Net's models: as in the
            file.
        spacing_mm: voxel size of the network's grid along K, J, I.
        normalisation: by modality id.
        nnunet: processing order of a model trained by nnU-Net; omitted for other models.
    """

    orientation: str
    spacing_mm: tuple[float, float, float]
    normalisation: dict[str, Normalisation]
    nnunet: NnunetSteps | None = field(default=None, metadata=OMIT_DEFAULT)


@dataclass(frozen=True)
class NetworkSpec:
    """Size of the convolutional U-Net; lists run from the finest stage to the bottleneck, axes are K, J, I.

    Attributes:
        features: channels of each stage.
        strides: of each stage's first convolution along K, J, I; all 1 for the first stage.
        kernels: kernel sizes of each stage's convolutions along K, J, I; odd.
        convs_per_stage: convolutions per stage, in encoder and decoder.
        encoder_convs: per encoder stage, if they differ; for a residual encoder its blocks of two convolutions.
        decoder_convs: per decoder stage (which exclude the bottleneck), if they differ.
    """

    features: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    kernels: tuple[tuple[int, int, int], ...]
    convs_per_stage: int = 2
    encoder_convs: tuple[int, ...] = field(default=(), metadata=OMIT_DEFAULT)
    decoder_convs: tuple[int, ...] = field(default=(), metadata=OMIT_DEFAULT)

    @property
    def convs_down(self) -> tuple[int, ...]:
        """Convolutions (or blocks) of each encoder stage."""
        return self.encoder_convs or (self.convs_per_stage,) * len(self.features)

    @property
    def convs_up(self) -> tuple[int, ...]:
        """Convolutions of each decoder stage."""
        return self.decoder_convs or (self.convs_per_stage,) * (len(self.features) - 1)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a region's probabilities, measured on test cases.

    Attributes:
        cases: number of cases.
        confidence: mean probability in the voxels predicted as this region, averaged over cases.
        precision: share of these voxels that experts assign to the region too, averaged over the same cases.
        range_holds: share of all cases whose true volume was within the predicted volume range.
    """

    cases: int
    confidence: float
    precision: float
    range_holds: float


@dataclass(frozen=True)
class Scaling:
    """Maps a region's raw probability p to the reported one: sigmoid(logit(p) / temperature + offset).

    Masks are made from raw probabilities and do not change (temperature: Guo et al. 2017, arXiv 1706.04599; with an
    offset: Platt 1999).

    Attributes:
        temperature: above 1 if the network was overconfident.
        offset: below 0 if it predicted the region too readily.
        range_margin: the ends of the volume range count voxels with a raw logit above this value, and above its
            negative.
        cases: number of validation cases that it was fitted on.
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
        sha256: hex digest of that file.
    """

    weights: str
    sha256: str


@dataclass(frozen=True)
class Pathway:
    """An inference path of the model: its input modalities and its network or networks.

    Attributes:
        weights: name of the .safetensors file in the model folder.
        sha256: hex digest of that file; another file is refused.
        modalities: ids of its inputs, in the order of the network's channels.
        architecture: name of the network architecture.
        options: the architecture's own integer options, if any.
        calibration: by region id, measured on test cases.
        scaling: by region id, fitted on validation cases.
        more: further networks of the same kind, trained with other seeds or folds; the logits of all are averaged.
            Omitted if there are none.
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
        """All networks, at least one."""
        return (Member(self.weights, self.sha256), *self.more)

    @property
    def files(self) -> tuple[str, ...]:
        """Weights files of all members."""
        return tuple(member.weights for member in self.members)

    @property
    def digest(self) -> str:
        """Hex SHA-256 that identifies this pathway's weights: the file's, or one over all members' digests."""
        digests = [member.sha256 for member in self.members]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def with_members(self, members: Sequence[Member]) -> Pathway:
        """A copy with these networks, at least one, in place of its own."""
        first, *more = members
        return replace(self, weights=first.weights, sha256=first.sha256, more=tuple(more))

    def scaling_of(self, region_id: str) -> Scaling:
        """Scaling of a region's probabilities; the identity if nothing was fitted."""
        return self.scaling.get(region_id, Scaling())


def weights_file(pathway: str, number: int = 1) -> str:
    """Standard file name of the weights of a pathway's first, second, ... member."""
    return f"{pathway}.safetensors" if number == 1 else f"{pathway}-{number}.safetensors"


@dataclass(frozen=True)
class ModelSpec:
    """`model.json`.

    Attributes:
        name: display name of the model.
        version: version of the model, any text.
        task: "brain", "chest" or another word; behaviour depends only on the other fields.
        modalities: all inputs of its pathways.
        privileged: id of the modality that the limited pathway does not need; null if there is none.
        regions: segmented regions, in the order of the network's output channels.
        output: "regions": one sigmoid per region; "labels": softmax over background and the regions.
        preprocessing: from volumes to network input.
        patch: window size in voxels along K, J, I; divisible by the network's strides.
        network: size of the backbone.
        limited: f_L, the deployed pathway.
        full: f_F, used if the privileged volume is given; null if there is none.
        licence: of the weights, as determined by their data.
        citations: for method and data.
        intended_use: what it may and may not be used for.
        training_data: description, with the number of cases.
        scores: by title, e.g. "test, without T1ce": values by region or mean.
        format_version: of `model.json`; newer ones than this version supports are refused.
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
        """The model's pathways, f_L first: "limited", and "full" if there is one."""
        return {"limited": self.limited} | ({"full": self.full} if self.full is not None else {})

    @property
    def out_channels(self) -> int:
        """Channels of the network's output: the regions, plus the background for exclusive labels."""
        return len(self.regions) + (self.output == "labels")

    @property
    def skull_stripped(self) -> bool:
        """Whether it reads skull-stripped MR, as *Prepare* makes from a study from the scanner."""
        return all(self.preprocessing.normalisation[modality].without_skull for modality in self.limited.modalities)

    def modality(self, modality_id: str) -> Modality:
        return next(m for m in self.modalities if m.id == modality_id)

    def region(self, region_id: str) -> Region:
        return next(region for region in self.regions if region.id == region_id)
