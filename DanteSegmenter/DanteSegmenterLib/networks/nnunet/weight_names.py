"""Map nnU-Net's weight names to ours.

Its checkpoints contain some weights twice: `all_modules` repeats a block's parts, and the decoder contains the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...model_folder.spec import ModelSpec, NetworkSpec, Pathway
from ..build import build
from ..weights import save_weights
from .residual_encoder import ONE_VOXEL

# Prefixes of a network wrapped for several devices, or compiled.
WRAPPINGS = re.compile(r"^(module\.|_orig_mod\.)+")
TWINS = re.compile(r"(^|\.)all_modules\.|^decoder\.encoder\.")
MOST_NAMED = 3


def write_weights(
    spec: ModelSpec, pathway: Pathway, theirs: Mapping[str, Tensor], defaults: Mapping[str, float], path: Path
) -> None:
    """Write a checkpoint's weights as the weights file of a pathway.

    Raises:
        ModelError: they do not fit the pathway's network, or a value is not finite.
    """
    with torch.device("meta"):
        network = build(spec, pathway)
    residual = pathway.architecture == "residual_unet"
    network.load_state_dict(weights_of_ours(network, spec.network, residual, theirs, defaults), assign=True)
    save_weights(network, path)


def weights_of_ours(
    network: nn.Module,
    spec: NetworkSpec,
    residual: bool,
    theirs: Mapping[str, Tensor],
    defaults: Mapping[str, float],
) -> dict[str, Tensor]:
    """A checkpoint's weights under our names, float32.

    Args:
        network: our network, which defines names and shapes; its own weights are not used.
        spec: its size.
        residual: whether its encoder is residual.
        theirs: the checkpoint's `network_weights`.
        defaults: values of weights that such networks lack, by a pattern of nnU-Net's name.

    Raises:
        ModelError: a weight is missing, unused or has another shape.
    """
    left = {WRAPPINGS.sub("", name): tensor for name, tensor in theirs.items()}
    left = {name: tensor for name, tensor in left.items() if not TWINS.search(name)}
    names = dict(module_names(spec, residual))
    found, missing = {}, []
    for name, wanted in network.state_dict().items():
        module, _, kind = name.rpartition(".")
        own = f"{names[module]}.{kind}"
        if own in left:
            found[name] = _fitting(left.pop(own), own, wanted)
        elif (default := _default(own, defaults)) is not None:
            found[name] = torch.full(tuple(wanted.shape), default)
        else:
            missing.append(own)
    if missing or left:
        raise ModelError(
            f"the checkpoint's weights are not those of the network in plans.json: missing {_some(missing)}, unknown "
            f"{_some(sorted(left))}. Its trainer may have built another network; such a one cannot be imported."
        )
    return found


def _fitting(tensor: Tensor, name: str, wanted: Tensor) -> Tensor:
    if tuple(tensor.shape) != tuple(wanted.shape):
        raise ModelError(
            f"the checkpoint does not fit plans.json: '{name}' has shape {tuple(tensor.shape)}, wanted "
            f"{tuple(wanted.shape)}. Are both of one training?"
        )
    return tensor.float().contiguous()


def _default(name: str, defaults: Mapping[str, float]) -> float | None:
    return next((value for pattern, value in defaults.items() if re.search(pattern, name)), None)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:MOST_NAMED]) + more if names else "none"


def module_names(spec: NetworkSpec, residual: bool) -> Iterator[tuple[str, str]]:
    """(our module, nnU-Net's module) for everything with weights."""
    yield from _residual_encoder(spec) if residual else _plain_encoder(spec)
    levels = len(spec.features) - 1
    for n in range(levels):
        s = levels - 1 - n  # nnU-Net counts from the bottleneck
        yield f"decoder.ups.{n}", f"decoder.transpconvs.{s}"
        yield f"decoder.heads.{n}", f"decoder.seg_layers.{s}"
        for c in range(spec.convs_up[n]):
            yield from _conv_and_norm(f"decoder.stages.{n}.{c}", f"decoder.stages.{s}.convs.{c}")


def _plain_encoder(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    for s, convs in enumerate(spec.convs_down):
        for c in range(convs):
            yield from _conv_and_norm(f"encoder.stages.{s}.{c}", f"encoder.stages.{s}.0.convs.{c}")


def _residual_encoder(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    yield from _conv_and_norm("encoder.stem", "encoder.stem.convs.0")
    inputs = (spec.features[0], *spec.features[:-1])
    for s, blocks in enumerate(spec.convs_down):
        for b in range(blocks):
            ours, own = f"encoder.stages.{s}.{b}", f"encoder.stages.{s}.blocks.{b}"
            yield from _conv_and_norm(f"{ours}.first", f"{own}.conv1")
            yield from _conv_and_norm(f"{ours}.second", f"{own}.conv2")
        if inputs[s] != spec.features[s]:
            pool = int(spec.strides[s] != ONE_VOXEL)  # comes before the convolution, in both
            ours, own = f"encoder.stages.{s}.0.shortcut", f"encoder.stages.{s}.blocks.0.skip.{pool}"
            yield f"{ours}.{pool}", f"{own}.conv"
            yield f"{ours}.{pool + 1}", f"{own}.norm"


def _conv_and_norm(ours: str, own: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.0", f"{own}.conv"
    yield f"{ours}.1", f"{own}.norm"
