"""nnU-Net's plans -> the numbers of a model folder. What has no counterpart here is refused, never passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ..errors import ModelError
from ..model_folder.spec import AS_STORED, NetworkSpec, NnunetSteps, Normalisation, Preprocessing, SplineSteps
from ..strict_dataclass import from_plain
from ..volume import triple

PLAIN_UNET, RESIDUAL_UNET = "PlainConvUNet", "ResidualEncoderUNet"
BLOCKS = {PLAIN_UNET: "n_conv_per_stage", RESIDUAL_UNET: "n_blocks_per_stage"}
# What a reader makes of an image's axes: those of the file, or the closest to these.
AXES_BY_READER = {"SimpleITKIO": AS_STORED, "NibabelIO": AS_STORED, "NibabelIOWithReorient": "RAS"}
RESAMPLING = "resample_data_or_seg_to_shape"
# nnU-Net's names, but for z-scores, which a mask makes another kind.
SCHEMES = {
    "CTNormalization": "ct_window", "NoNormalization": "none", "RescaleTo01Normalization": "rescale_01",
    "RGBTo01Normalization": "rgb_01", "ZScoreNormalization": "zscore",
}  # fmt: skip
USUAL_EPS, USUAL_SLOPE = 1e-5, 0.01
LEAST_STD = 1e-8
MAX_ANCESTORS = 16

Part = TypeVar("Part")


@dataclass(frozen=True)
class SplineArguments:
    """Of nnU-Net's resampling function; its own defaults."""

    is_seg: bool = False
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: float = 3.0

    @property
    def steps(self) -> SplineSteps:
        return SplineSteps(self.order, self.order_z, self.force_separate_z, self.separate_z_anisotropy_threshold)


@dataclass(frozen=True)
class Configuration:
    """What is used of a configuration, such as "3d_fullres"."""

    patch_size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data_kwargs: SplineArguments
    resampling_fn_probabilities_kwargs: SplineArguments
    resampling_fn_data: str = RESAMPLING
    resampling_fn_probabilities: str = RESAMPLING
    preprocessor_name: str = "DefaultPreprocessor"
    previous_stage: str | None = None


@dataclass(frozen=True)
class Architecture:
    """The arguments of both networks, without those that say how many convolutions a stage of the encoder has."""

    n_stages: int
    features_per_stage: tuple[int, ...]
    conv_op: str
    kernel_sizes: tuple[tuple[int, int, int], ...]
    strides: tuple[tuple[int, int, int], ...]
    norm_op: str
    nonlin: str
    conv_bias: bool = False
    norm_op_kwargs: dict[str, Any] = field(default_factory=dict)
    nonlin_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """What plans and a configuration say.

    Attributes:
        network: its numbers.
        residual: whether its encoder is residual.
        patch: window size along the network's K, J, I.
        defaults: values of weights that the network does not have, by a pattern in nnU-Net's name for them.
        spacing_mm, steps, orientation: see `Preprocessing`.
        normalisations: in channel order.
    """

    network: NetworkSpec
    residual: bool
    patch: tuple[int, int, int]
    defaults: dict[str, float]
    spacing_mm: tuple[float, float, float]
    steps: NnunetSteps
    orientation: str
    normalisations: tuple[Normalisation, ...]

    def preprocessing(self, modalities: Sequence[str]) -> Preprocessing:
        """For channels of these ids."""
        normalisation = dict(zip(modalities, self.normalisations))
        return Preprocessing(self.orientation, self.spacing_mm, normalisation, self.steps)


def read_plans(plans: dict[str, Any], name: str, channels: int, mirror: tuple[int, ...], where: str) -> Planned:
    """What the configuration `name` of plans says.

    Args:
        plans: plans.json.
        channels: how many the dataset has.
        mirror: axes along which mirroring is allowed.
        where: how to call the file in messages.

    Raises:
        ModelError: it is for slices or a cascade, or asks for something that is not known here.
    """
    plain = _configuration(plans, name, where)
    patch = plain.get("patch_size")
    if isinstance(patch, list) and len(patch) != 3:
        raise ModelError(f"{where}: the configuration '{name}' is for slices (2-D). Import a 3-D one, e.g. 3d_fullres.")
    configuration = _part(Configuration, plain, f"{where}: {name}")
    if configuration.previous_stage is not None:
        raise ModelError(
            f"{where}: '{name}' is the second half of a cascade and reads the masks of "
            f"'{configuration.previous_stage}'. Import 3d_fullres or 3d_lowres."
        )
    _check_known(configuration, plans, where)
    if not len(configuration.normalization_schemes) == len(configuration.use_mask_for_norm) == channels:
        raise ModelError(
            f"{where}: '{name}' normalises {len(configuration.normalization_schemes)} channels, dataset.json names "
            f"{channels}. Are both files of one training?"
        )
    network, residual, defaults = _network(plain, f"{where}: {name}")
    axes = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(axes, list) or sorted(map(str, axes)) != ["0", "1", "2"]:
        raise ModelError(f"{where}: transpose_forward is {axes}, wanted are 0, 1 and 2 in some order.")
    return Planned(
        network,
        residual,
        configuration.patch_size,
        defaults,
        configuration.spacing,
        NnunetSteps(
            triple(int(axis) for axis in axes),
            configuration.resampling_fn_data_kwargs.steps,
            configuration.resampling_fn_probabilities_kwargs.steps,
            mirror,
        ),
        AXES_BY_READER[str(plans.get("image_reader_writer", "SimpleITKIO"))],
        tuple(_normalisation(configuration, n, plans, where) for n in range(channels)),
    )


def _configuration(plans: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """With what it inherits."""
    known = plans.get("configurations")
    if not isinstance(known, dict):
        raise ModelError(f"{where}: it has no configurations; it is not of nnU-Net version 2.")
    chain: list[dict[str, Any]] = []
    wanted: Any = name
    while wanted is not None:
        found = known.get(wanted) if isinstance(wanted, str) else None
        if not isinstance(found, dict) or len(chain) > MAX_ANCESTORS:
            raise ModelError(f"{where}: the configuration '{wanted}' is not there, or inherits from itself.")
        chain.insert(0, found)
        wanted = found.get("inherits_from")
    return {key: value for part in chain for key, value in part.items()}


def _part(kind: type[Part], plain: dict[str, Any], where: str) -> Part:
    """Those keys of a table that the dataclass has."""
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return from_plain(kind, {key: value for key, value in plain.items() if key in names}, where, ModelError)


def _check_known(configuration: Configuration, plans: dict[str, Any], where: str) -> None:
    """Refuse steps that would be done in another way here."""
    for key, value, known in (
        ("resampling_fn_data", configuration.resampling_fn_data, (RESAMPLING,)),
        ("resampling_fn_probabilities", configuration.resampling_fn_probabilities, (RESAMPLING,)),
        ("preprocessor_name", configuration.preprocessor_name, ("DefaultPreprocessor",)),
        ("image_reader_writer", plans.get("image_reader_writer", "SimpleITKIO"), tuple(AXES_BY_READER)),
        ("label_manager", plans.get("label_manager", "LabelManager"), ("LabelManager",)),
    ):
        if value not in known:
            raise ModelError(f"{where}: {key} is '{value}'; only {', '.join(known)} can be imported.")
    for arguments in (configuration.resampling_fn_data_kwargs, configuration.resampling_fn_probabilities_kwargs):
        if arguments.is_seg:
            raise ModelError(f"{where}: images or probabilities are resampled as masks, which cannot be imported.")


def _normalisation(configuration: Configuration, channel: int, plans: dict[str, Any], where: str) -> Normalisation:
    scheme = configuration.normalization_schemes[channel]
    kind = SCHEMES.get(scheme)
    if kind is None:
        raise ModelError(f"{where}: the normalisation '{scheme}' is not known; known are {', '.join(SCHEMES)}.")
    if kind == "zscore" and configuration.use_mask_for_norm[channel]:
        return Normalisation("zscore_nonzero")
    if kind != "ct_window":
        return Normalisation(kind)
    key = "foreground_intensity_properties_per_channel"
    table = plans.get(key, plans.get("foreground_intensity_properties_by_modality"))
    found = table.get(str(channel)) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise ModelError(f"{where}: {key} says nothing of channel {channel}.")
    numbers = [found.get(name) for name in ("percentile_00_5", "percentile_99_5", "mean", "std")]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise ModelError(f"{where}: {key} of channel {channel} lacks percentiles, mean or std.")
    low, high, mean, std = map(float, numbers)  # type: ignore[arg-type]  # checked above
    return Normalisation(kind, low, high, mean, max(std, LEAST_STD))


def _network(plain: dict[str, Any], where: str) -> tuple[NetworkSpec, bool, dict[str, float]]:
    """Numbers, whether residual, and what stands for weights that are not there."""
    name, arguments = _architecture(plain, where)
    if name not in BLOCKS:
        raise ModelError(f"{where}: the network '{name}' is not known; known are {', '.join(BLOCKS)}.")
    stages = arguments.get("n_stages")
    blocks = _each(arguments.pop(BLOCKS[name], None), stages, f"{where}: {BLOCKS[name]}")
    up = arguments.pop("n_conv_per_stage_decoder", None)
    convs_up = _each(up, stages - 1 if isinstance(stages, int) else None, f"{where}: n_conv_per_stage_decoder")
    known = {item.name for item in fields(Architecture)}
    others = {key: value for key, value in arguments.items() if key not in known and not _has_no_effect(key, value)}
    if others:
        raise ModelError(f"{where}: the network's {', '.join(map(str, others))} cannot be imported.")
    own = {key: [] if key.endswith("kwargs") and value is None else value for key, value in arguments.items()}
    own = {key: value if value != [] else {} for key, value in own.items()}
    architecture = _part(Architecture, own, where)
    _check_layers(architecture, where)
    network = NetworkSpec(
        architecture.features_per_stage,
        architecture.strides,
        architecture.kernel_sizes,
        encoder_convs=blocks,
        decoder_convs=convs_up[::-1],  # nnU-Net counts from the bottleneck
    )
    defaults = {} if architecture.conv_bias else {r"\.conv\.bias$|^decoder\.transpconvs\.\d+\.bias$": 0.0}
    if not architecture.norm_op_kwargs.get("affine", False):
        defaults |= {r"\.norm\.weight$": 1.0, r"\.norm\.bias$": 0.0}
    return network, name == RESIDUAL_UNET, defaults


def _architecture(plain: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The class's name and arguments, from either form of plans."""
    given = plain.get("architecture")
    if isinstance(given, dict):
        name, arguments = given.get("network_class_name"), given.get("arch_kwargs")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise ModelError(f"{where}: the architecture has no network_class_name or no arch_kwargs.")
        return name.rpartition(".")[2], dict(arguments)
    old = ("UNet_class_name", "UNet_base_num_features", "unet_max_num_features", "n_conv_per_stage_encoder")
    name, first, most, convs = (plain.get(key) for key in old)
    if not (isinstance(name, str) and isinstance(convs, list) and type(first) is int and type(most) is int):
        raise ModelError(f"{where}: it says nothing of an architecture.")
    return name, {
        "n_stages": len(convs),
        "features_per_stage": [min(first << n, most) for n in range(min(len(convs), 32))],
        "conv_op": "Conv3d",
        "kernel_sizes": plain.get("conv_kernel_sizes"),
        "strides": plain.get("pool_op_kernel_sizes"),
        BLOCKS.get(name, "n_conv_per_stage"): convs,
        "n_conv_per_stage_decoder": plain.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": "InstanceNorm3d",
        "norm_op_kwargs": {"eps": USUAL_EPS, "affine": True},
        "nonlin": "LeakyReLU",
    }


def _each(value: Any, stages: Any, where: str) -> tuple[int, ...]:
    """One whole number a stage; nnU-Net takes a single one for all."""
    if type(value) is int and type(stages) is int and 0 < stages <= 32:
        return (value,) * stages
    if isinstance(value, list) and all(type(number) is int for number in value) and len(value) == stages:
        return tuple(value)
    raise ModelError(f"{where} is {value}, wanted is a whole number for each of the stages.")


def _has_no_effect(key: str, value: Any) -> bool:
    """Dropout acts in training alone; the others, so set, are what there is here."""
    if key in ("dropout_op", "dropout_op_kwargs", "deep_supervision"):
        return True
    return key in ("nonlin_first", "block", "bottleneck_channels", "stem_channels", "pool") and value in (
        None,
        False,
        "conv",
    )


def _check_layers(architecture: Architecture, where: str) -> None:
    for key, value, wanted in (
        ("conv_op", architecture.conv_op, "Conv3d"),
        ("norm_op", architecture.norm_op, "InstanceNorm3d"),
        ("nonlin", architecture.nonlin, "LeakyReLU"),
    ):
        if value.rpartition(".")[2] != wanted:
            raise ModelError(f"{where}: the network's {key} is '{value}'; only {wanted} can be imported.")
    norm, nonlin = architecture.norm_op_kwargs, architecture.nonlin_kwargs
    unusual = {
        **{key: value for key, value in norm.items() if key not in ("eps", "affine")},
        **{key: value for key, value in nonlin.items() if key not in ("inplace", "negative_slope")},
    }
    if norm.get("eps", USUAL_EPS) != USUAL_EPS or nonlin.get("negative_slope", USUAL_SLOPE) != USUAL_SLOPE or unusual:
        raise ModelError(
            f"{where}: norms of {norm} and activations of {nonlin} cannot be imported; wanted are eps "
            f"{USUAL_EPS:g} and negative_slope {USUAL_SLOPE:g}."
        )
