"""Convert the network described by nnU-Net's plans to a plain or residual U-Net, or refuse it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ..errors import ModelError
from ..model_folder.spec import NetworkSpec
from ..strict_dataclass import from_plain

PLAIN_UNET, RESIDUAL_UNET = "PlainConvUNet", "ResidualEncoderUNet"
BLOCKS = {PLAIN_UNET: "n_conv_per_stage", RESIDUAL_UNET: "n_blocks_per_stage"}
USUAL_EPS, USUAL_SLOPE = 1e-5, 0.01

Part = TypeVar("Part")


@dataclass(frozen=True)
class Architecture:
    """The arguments of both network classes, except the number of convolutions per encoder stage."""

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


def read_network(plain: dict[str, Any], where: str) -> tuple[NetworkSpec, bool, dict[str, float]]:
    """Read the network of a configuration in nnU-Net's plans.

    Args:
        plain: the configuration, including inherited values.
        where: its name in messages.

    Returns:
        The network's size, whether it is residual, and values of weights that the checkpoint lacks, by a regular
        expression of their names.

    Raises:
        ModelError: the network is not supported.
    """
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
    # Plans have null or [] in place of empty keyword arguments.
    own = {
        k: {} if value == [] or (value is None and k.endswith("kwargs")) else value for k, value in arguments.items()
    }
    architecture = known_keys(Architecture, own, where)
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
    """Name and arguments of the network class, from either form of plans."""
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
    """One integer per stage; nnU-Net also accepts a single one for all."""
    if type(value) is int and type(stages) is int and 0 < stages <= 32:
        return (value,) * stages
    if isinstance(value, list) and all(type(number) is int for number in value) and len(value) == stages:
        return tuple(value)
    raise ModelError(f"{where} is {value}, wanted is a whole number for each of the stages.")


def _has_no_effect(key: str, value: Any) -> bool:
    """Dropout only acts in training; the other arguments have no effect with these values."""
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


def known_keys(kind: type[Part], plain: dict[str, Any], where: str) -> Part:
    """Create a dataclass from the keys of a table that it knows.

    Raises:
        ModelError: a key is missing or invalid.
    """
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return from_plain(kind, {key: value for key, value in plain.items() if key in names}, where, ModelError)
