"""What is written in another format: one pathway's network, and windows to try it on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..inference.segmenting import Model
from ..model_folder.spec import ModelSpec, Pathway
from ..preprocess.preparing import prepare
from ..synthetic.sample import brain_mr, chest_ct
from ..volume import Volume

# Of the generated patient: any; its images are coarse, for the network's own grid is made of them anyway.
PATIENT_SEED, BRAIN_SPACING_MM, CHEST_SPACING_MM = 3, 2.0, (3.0, 2.0, 2.0)


@dataclass(frozen=True, eq=False)
class Source:
    """A pathway that is ready to be written.

    Attributes:
        spec: of its model.
        name: "limited" or "full".
        pathway: what it reads.
        network: [B, C, *patch] -> logits [B, O, *patch] in float32 on the CPU, one module: of several members
            the mean of their logits.
    """

    spec: ModelSpec
    name: str
    pathway: Pathway
    network: nn.Module


def source_of(model: Model, name: str) -> Source:
    """A pathway by its name, its weights checked and loaded.

    Raises:
        ModelError: the model has no such pathway, its weights cannot be used, or nnU-Net trained it.
    """
    if model.spec.preprocessing.nnunet is not None:  # what is written would prepare images as this project does
        raise ModelError(
            f"'{model.spec.name}' was imported from nnU-Net and reads images prepared as nnU-Net does, which an export "
            "does not describe. Export it with nnU-Net's own tools."
        )
    pathway = model.spec.pathways.get(name)
    if pathway is None:
        raise ModelError(f"'{model.spec.name}' has no pathway '{name}'; it has {', '.join(model.spec.pathways)}.")
    return Source(model.spec, name, pathway, model.network(pathway))


def noise(source: Source) -> Tensor:
    """A window of standard normal numbers, [1, C, *patch]; the same every time."""
    shape = (1, len(source.pathway.modalities), *source.spec.patch)
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


def patient(source: Source) -> Tensor:
    """The middle of a generated patient as the network gets it, [1, C, *patch]."""
    spec, modalities = source.spec, source.pathway.modalities
    prepared = prepare(_volumes(spec, modalities), modalities, spec.preprocessing)
    window = np.empty((len(modalities), *spec.patch), np.float32)
    window[:] = np.array(prepared.background.values, np.float32)[:, None, None, None]
    k, j, i = (_middle(size, patch) for size, patch in zip(prepared.tensor.shape[1:], spec.patch))
    window[:, k.window, j.window, i.window] = prepared.tensor[:, k.image, j.image, i.image]
    return torch.from_numpy(window)[None]


def _volumes(spec: ModelSpec, modalities: Sequence[str]) -> dict[str, Volume]:
    """A volume for each modality: the patient's own of this name, else one of the others in turn."""
    ct = any(spec.preprocessing.normalisation[modality].hounsfield for modality in modalities)
    found = _generated(ct)
    others = list(found.values())
    return {modality: found.get(modality, others[n % len(others)]) for n, modality in enumerate(modalities)}


@functools.cache
def _generated(ct: bool) -> dict[str, Volume]:
    return (chest_ct(PATIENT_SEED, CHEST_SPACING_MM) if ct else brain_mr(PATIENT_SEED, BRAIN_SPACING_MM)).volumes


class _Middle(NamedTuple):
    """Along one axis, where in the image and where in the window the middle lies."""

    image: slice
    window: slice


def _middle(size: int, patch: int) -> _Middle:
    common = min(size, patch)
    there, here = (size - common) // 2, (patch - common) // 2
    return _Middle(slice(there, there + common), slice(here, here + common))
