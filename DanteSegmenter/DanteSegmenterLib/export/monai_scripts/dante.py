"""What this bundle needs in addition to MONAI's transforms: the network's grid, and evenly spaced windows.

Written with the bundle by SlicerDANTE (Apache-2.0); needs PyTorch and MONAI. Images are [C, I, J, K].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.inferers.inferer import Inferer
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.transform import MapTransform
from monai.utils.type_conversion import convert_to_dst_type
from torch import Tensor

Box = list[list[int]]  # first and past-the-last voxel along each axis


class NetworkGridd(MapTransform, InvertibleTransform):
    """Crop to voxels that are not background in some image, then resample with coinciding outer edges of both grids.

    Voxels of a coarser grid are means of the voxels they cover (no aliasing), a finer one is interpolated linearly.

    Args:
        keys: images on one grid; the first is the reference.
        spacing: voxel size of the network's grid in mm, along I, J, K.
        air: per image, the highest value of background; None if background is 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float],
        air: Sequence[float | None],
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.spacing, self.air = tuple(spacing), tuple(air)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        result = dict(data)
        images = [result[key] for key in self.keys]
        box = self._box(images)
        found = affine_to_spacing(images[0].affine).tolist()
        extents = [(stop - start) * mm for (start, stop), mm in zip(box, found)]
        shape = [max(1, round(extent / wanted)) for extent, wanted in zip(extents, self.spacing)]
        for key, image in zip(self.keys, images):
            size, affine = list(image.shape[1:]), image.affine
            array = resample(_box_of(image.as_tensor(), box), shape)
            moved = _like(image, array, affine @ _to_box(box, shape).to(affine))
            self.push_transform(moved, orig_size=size, extra_info={"box": box, "size": size, "affine": affine})
            result[key] = moved
        return result

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Map back to the reference's grid; 0 outside the box."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            before = self.pop_transform(image)["extra_info"]
            array = image.as_tensor()
            whole = torch.zeros((len(array), *before["size"]), dtype=torch.float32, device=array.device)
            _box_of(whole, before["box"]).copy_(resample(array, [stop - start for start, stop in before["box"]]))
            result[key] = _like(image, whole, before["affine"])
        return result

    def _box(self, images: Sequence[MetaTensor]) -> Box:
        there = torch.zeros(images[0].shape[1:], dtype=torch.bool, device=images[0].device)
        for image, air in zip(images, self.air):
            there |= (image.as_tensor() != 0 if air is None else image.as_tensor() > air).any(dim=0)
        if not there.any():
            raise ValueError("all voxels are background: are these the right images, in the right units?")
        lines = [there.any(dim=a).any(dim=b).nonzero().flatten() for a, b in ((2, 1), (2, 0), (1, 0))]
        return [[int(line[0]), int(line[-1]) + 1] for line in lines]


class EvenWindowsInferer(Inferer):
    """Sliding window with at least half overlap and Gaussian-weighted logits, skipping windows of pure background.

    Args:
        roi_size: window size along I, J, K.
        background: background value per channel; used to pad images smaller than a window.
        nothing: logits where nothing was computed.
        inside_only: whether to predict nothing where all channels are background.
        sw_batch_size: windows per batch.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        background: Sequence[float],
        nothing: Sequence[float],
        inside_only: bool,
        sw_batch_size: int = 1,
    ) -> None:
        super().__init__()
        self.roi_size, self.background, self.nothing = tuple(roi_size), tuple(background), tuple(nothing)
        self.inside_only, self.sw_batch_size = inside_only, sw_batch_size

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        logits = torch.stack([self._one(image, lambda x: network(x, *args, **kwargs)) for image in plain])
        return convert_to_dst_type(logits, inputs)[0]

    def _one(self, image: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        sizes = [max(roi, size) for roi, size in zip(self.roi_size, image.shape[1:])]
        starts = [(whole - size) // 2 for whole, size in zip(sizes, image.shape[1:])]
        inner = [[start, start + size] for start, size in zip(starts, image.shape[1:])]
        nothing = torch.tensor(self.background, device=image.device)[:, None, None, None]
        padded = nothing.repeat(1, *sizes)
        _box_of(padded, inner).copy_(image)
        there = (padded != nothing).any(dim=0)
        sums = torch.zeros((len(self.nothing), *sizes), device=image.device)
        weights = torch.zeros((1, *sizes), device=image.device)
        weight = gaussian(self.roi_size).to(image.device)
        windows = [window for window in self._windows(sizes) if _box_of(there[None], window).any()]
        for n in range(0, len(windows), self.sw_batch_size):
            batch = windows[n : n + self.sw_batch_size]
            for window, logits in zip(batch, network(torch.stack([_box_of(padded, window) for window in batch]))):
                _box_of(sums, window).add_(logits.float() * weight)
                _box_of(weights, window).add_(weight)
        covered = (weights > 0) & there if self.inside_only else weights > 0
        unknown = torch.tensor(self.nothing, device=image.device)[:, None, None, None]
        return _box_of(torch.where(covered, sums / weights.clamp_min(1e-12), unknown), inner)

    def _windows(self, sizes: Sequence[int]) -> list[Box]:
        grids = [even_starts(size, roi) for size, roi in zip(sizes, self.roi_size)]
        return [[[start, start + roi] for start, roi in zip(at, self.roi_size)] for at in itertools.product(*grids)]


def even_starts(size: int, roi: int) -> list[int]:
    """First voxels of evenly spaced windows along one axis; neighbours overlap by at least half."""
    if size <= roi:
        return [0]
    count = math.ceil((size - roi) / (roi / 2)) + 1
    return [round(n * (size - roi) / (count - 1)) for n in range(count)]


def gaussian(roi_size: Sequence[int]) -> Tensor:
    """Weight of each voxel in a window: sigma an eighth of its size, 1 at voxel n // 2, never 0."""
    weight = torch.ones(())
    for size in roi_size:
        distance = torch.arange(size, dtype=torch.float32) - size // 2
        weight = weight[..., None] * torch.exp(-0.5 * (distance / (size / 8)) ** 2)
    return weight.clamp_min(1e-6)


def resample(array: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize the last three axes so that the outer edges of both grids coincide; float32."""
    array = array.float()
    for axis, (size, wanted) in enumerate(zip(array.shape[-3:], shape), start=array.ndim - 3):
        if size != wanted:
            matrix = _axis_weights(size, wanted).to(array.device)
            array = (array.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return array.contiguous()


def _axis_weights(size: int, wanted: int) -> Tensor:
    """Matrix [wanted, size] with rows that sum to one: covered means, or linear interpolation."""
    scale, voxel = size / wanted, torch.arange(size, dtype=torch.float64)
    if scale > 1:
        edges = torch.arange(wanted + 1, dtype=torch.float64)[:, None] * scale
        weights = (torch.minimum(edges[1:], voxel + 1) - torch.maximum(edges[:-1], voxel)).clamp(0, 1)
    else:
        centre = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * scale - 0.5).clamp(0, size - 1)
        weights = (1 - (centre[:, None] - voxel).abs()).clamp(0, 1)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _box_of(array: Tensor, box: Box) -> Tensor:
    """A box of the array, all channels (a view)."""
    (i, ie), (j, je), (k, ke) = box
    return array[:, i:ie, j:je, k:ke]


def _to_box(box: Box, shape: Sequence[int]) -> Tensor:
    """4x4 matrix from voxels of the network's grid to voxels of the image."""
    matrix = torch.eye(4, dtype=torch.float64)
    for axis, ((start, stop), size) in enumerate(zip(box, shape)):
        step = (stop - start) / size
        matrix[axis, axis], matrix[axis, 3] = step, start + 0.5 * step - 0.5
    return matrix


def _like(image: MetaTensor, array: Tensor, affine: Tensor) -> MetaTensor:
    """An array with another image's metadata, on its own grid."""
    result = MetaTensor(array, meta=dict(image.meta), applied_operations=list(image.applied_operations))
    result.affine = affine
    return result
