"""The network to be exported, and windows for comparing it with the export."""

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

# Of the synthetic patient: any seed; coarse images suffice, as they are resampled to the network's grid.
PATIENT_SEED, BRAIN_SPACING_MM, CHEST_SPACING_MM = 3, 2.0, (3.0, 2.0, 2.0)


@dataclass(frozen=True, eq=False)
class Source:
    """A pathway to be exported.

    Attributes:
        spec: description of its model.
        name: "limited" or "full".
        pathway: the pathway.
        network: [B, C, *patch] -> logits [B, O, *patch] in float32 on the CPU, a single module: for several members the
            mean of their logits.
    """

    spec: ModelSpec
    name: str
    pathway: Pathway
    network: nn.Module


def source_of(model: Model, name: str) -> Source:
    """A pathway by its name, with its weights checked and loaded.

    Raises:
        ModelError: the model has no such pathway, its weights cannot be used, or it was trained by nnU-Net.
    """
    if model.spec.preprocessing.nnunet is not None:  # an export would describe this project's preprocessing
        raise ModelError(
            f"'{model.spec.name}' was imported from nnU-Net and reads images prepared as nnU-Net does, which an export "
            "does not describe. Export it with nnU-Net's own tools."
        )
    pathway = model.spec.pathways.get(name)
    if pathway is None:
        raise ModelError(f"'{model.spec.name}' has no pathway '{name}'; it has {', '.join(model.spec.pathways)}.")
    return Source(model.spec, name, pathway, model.network(pathway))


def noise(source: Source) -> Tensor:
    """A window of standard normal numbers, [1, C, *patch]; always the same."""
    shape = (1, len(source.pathway.modalities), *source.spec.patch)
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


def patient(source: Source) -> Tensor:
    """The centre of a synthetic patient as network input, [1, C, *patch]."""
    spec, modalities = source.spec, source.pathway.modalities
    prepared = prepare(_volumes(spec, modalities), modalities, spec.preprocessing)
    window = np.empty((len(modalities), *spec.patch), np.float32)
    window[:] = np.array(prepared.background.values, np.float32)[:, None, None, None]
    k, j, i = (_middle(size, patch) for size, patch in zip(prepared.tensor.shape[1:], spec.patch))
    window[:, k.window, j.window, i.window] = prepared.tensor[:, k.image, j.image, i.image]
    return torch.from_numpy(window)[None]


def _volumes(spec: ModelSpec, modalities: Sequence[str]) -> dict[str, Volume]:
    """A volume for each modality: the synthetic patient's own, or one of the others in turn."""
    ct = any(spec.preprocessing.normalisation[modality].hounsfield for modality in modalities)
    found = _generated(ct)
    others = list(found.values())
    return {modality: found.get(modality, others[n % len(others)]) for n, modality in enumerate(modalities)}


@functools.cache
def _generated(ct: bool) -> dict[str, Volume]:
    return (chest_ct(PATIENT_SEED, CHEST_SPACING_MM) if ct else brain_mr(PATIENT_SEED, BRAIN_SPACING_MM)).volumes


class _Middle(NamedTuple):
    """Slices of the central part in the image and in the window, along one axis."""

    image: slice
    window: slice


def _middle(size: int, patch: int) -> _Middle:
    common = min(size, patch)
    there, here = (size - common) // 2, (patch - common) // 2
    return _Middle(slice(there, there + common), slice(here, here + common))
