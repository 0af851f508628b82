"""From loaded volumes to network input, and exactly back.

Orientation, then crop to the foreground, then resampling, then normalisation. Training, evaluation, the command line
and the Segment button all call `prepare`; `Geometry.restore` undoes it on the grid the user loaded.

Two decisions differ from nnU-Net (Isensee et al. 2021) and make the result independent of the input's resolution:
  * Resampling is separable and anti-aliased: an output voxel coarser than the input is the mean of what it covers, a
    finer one is interpolated linearly. A 1 mm study brought to 2 mm is then what a 2 mm training volume is, an average;
    a spline would hand the network noise it never saw.
  * Statistics are taken after resampling, on the voxels the network sees, and per volume: a modality's normalisation
    must not depend on which other modalities happen to be present, because deployment lacks one that training has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from types import EllipsisType

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..model_folder.spec import Normalisation, Preprocessing
from ..result.regions import shows_whole_head
from ..volume import Volume, check_image, triple
from .normalising import Background, background_of, normalise, raw_background, raw_foreground
from .plausibility import check_network_grid, doubts_of_size, doubts_of_tensor, doubts_of_volume

# Below this share of the reference's field of view, a second volume is of another place, not a smaller slab.
MINIMUM_OVERLAP = 0.1
# From here on the part that is missing is worth a word.
FULL_OVERLAP = 0.95


@dataclass(frozen=True)
class Geometry:
    """Where the network's grid lies in the reference volume's grid; enough to go both ways.

    Attributes:
        reference: the volume whose grid results are given on (its voxel values are not used).
        axes: network axis n (of K, J, I) is axis `axes[n]` of the reference array.
        flipped: whether network axis n runs against the reference's axis.
        box: first and past-the-last voxel of the foreground along each network axis, before resampling.
        shape: of the network's grid, K, J, I.
    """

    reference: Volume
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    shape: tuple[int, int, int]

    def orient(self, array: np.ndarray) -> np.ndarray:
        """Reference array [..., K, J, I] -> the same voxels in the network's axis order (a view)."""
        return _flip(_permute(array, self.axes), self.flipped)

    def crop(self, oriented: np.ndarray) -> np.ndarray:
        """Foreground box of an oriented array (a view)."""
        where: tuple[EllipsisType | slice, ...] = (..., *(slice(start, stop) for start, stop in self.box))
        return oriented[where]

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Network's grid -> reference's grid: the inverse of orientation, crop and resampling.

        Args:
            array: float [R, K, J, I] on the network's grid, for example probabilities.

        Returns:
            float32 [R, K, J, I] on the reference's grid; 0 outside the foreground box.
        """
        if array.shape[-3:] != self.shape:
            raise ValueError(f"array of shape {array.shape} is not on the network's grid {self.shape}")
        box_shape = tuple(stop - start for start, stop in self.box)
        result = np.zeros((*array.shape[:-3], *self.reference.shape), np.float32)
        self.crop(self.orient(result))[...] = resample(array, box_shape)
        return result

    def labels_to_network(self, labels: Volume) -> np.ndarray:
        """Integer labels on the reference's grid -> uint8 [K, J, I] on the network's grid, the majority in each voxel.

        Raises:
            InputError: the labels lie on another grid.
        """
        if not labels.same_grid(self.reference):
            raise InputError(
                f"the mask '{labels.name}' (shape {labels.shape}) is not on the grid of '{self.reference.name}' (shape "
                f"{self.reference.shape}). Resample the mask onto the image, or export it again from there."
            )
        cropped = self.crop(self.orient(labels.array))
        if cropped.shape == self.shape:
            return np.ascontiguousarray(cropped, dtype=np.uint8)
        # Highest share wins; 0 is first, so that a tie is background.
        values = np.union1d([0], np.unique(cropped))
        shares = np.stack([resample((cropped == value).astype(np.float32), self.shape) for value in values])
        return values[shares.argmax(axis=0)].astype(np.uint8)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """Matrix of the network's grid, to look at what the network saw."""
        to_reference = np.zeros((4, 4))  # network (k, j, i, 1) -> reference (k, j, i, 1)
        to_reference[3, 3] = 1
        for n, (axis, flip, (start, stop)) in enumerate(zip(self.axes, self.flipped, self.box)):
            step = (stop - start) / self.shape[n]
            offset = start + 0.5 * step - 0.5
            size = self.reference.shape[axis]
            to_reference[axis, n], to_reference[axis, 3] = (-step, size - 1 - offset) if flip else (step, offset)
        return self.reference.ijk_to_ras @ _REVERSE @ to_reference @ _REVERSE


# Swaps the order I, J, K <-> K, J, I of homogeneous indices.
_REVERSE = np.eye(4)[[2, 1, 0, 3]]


@dataclass(frozen=True)
class Prepared:
    """Network input.

    Attributes:
        tensor: float32 [C, K, J, I], channels in the order asked for.
        geometry: the way back.
        background: what the tensor holds where there is nothing.
        notes: what a user should know, e.g. that a volume was brought onto another grid.
    """

    tensor: np.ndarray
    geometry: Geometry
    background: Background
    notes: tuple[str, ...] = ()


def prepare(volumes: dict[str, Volume], modalities: Sequence[str], preprocessing: Preprocessing) -> Prepared:
    """Volumes in world space -> network input.

    Args:
        volumes: by modality id; any grids, orientations and spacings.
        modalities: which to use, in channel order; the first is the reference whose grid results come back on.
        preprocessing: the model's.

    Raises:
        InputError: a modality is missing, a volume is unusable or lies elsewhere in space, or all is background.
        ResourceError: the network's grid does not fit into memory.
    """
    missing = [modality for modality in modalities if modality not in volumes]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}. Given: {', '.join(volumes) or 'nothing'}.")
    for modality in modalities:
        check_image(volumes[modality])
    reference = volumes[modalities[0]]
    axes, flipped = _orientation(reference.ijk_to_ras, preprocessing.orientation)
    oriented: list[np.ndarray] = []
    notes = [note for modality in modalities for note in volumes[modality].notes]
    for modality in modalities:
        array, note = _on_grid_of(reference, volumes[modality], preprocessing.normalisation[modality])
        oriented.append(_flip(_permute(array, axes), flipped))
        notes += note
    notes += _doubts(volumes, modalities, preprocessing)
    box = _foreground_box(oriented, modalities, preprocessing, volumes)
    notes += doubts_of_size(box, [reference.spacing_mm[axis] for axis in axes])
    shape = _network_shape(reference, axes, box, preprocessing.spacing_mm)
    check_network_grid(shape, preprocessing.spacing_mm, len(modalities))
    geometry = Geometry(reference, axes, flipped, box, shape)
    tensor = np.empty((len(modalities), *shape), np.float32)
    for n, modality in enumerate(modalities):
        raw = resample(geometry.crop(oriented[n]).astype(np.float32), shape)
        tensor[n] = normalise(raw, preprocessing.normalisation[modality], volumes[modality].name)
    background = background_of(preprocessing, modalities)
    notes += doubts_of_tensor(tensor, [volumes[modality].name for modality in modalities], background.values)
    return Prepared(tensor, geometry, background, tuple(notes))


def reorient(volume: Volume, orientation: str) -> Volume:
    """The same voxels (a view), stored so that the axes I, J, K point as near to `orientation` as they can."""
    axes, flipped = _orientation(volume.ijk_to_ras, orientation)
    shape = triple(volume.shape[axis] for axis in axes)
    whole = Geometry(volume, axes, flipped, triple((0, n) for n in shape), shape)
    return Volume(whole.orient(volume.array), whole.ijk_to_ras, volume.name)


def resample(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize the last three axes so that the outer edges of both grids coincide; float32."""
    array = np.asarray(array, np.float32)
    k, j, i = (_axis_weights(n_in, n_out) for n_in, n_out in zip(array.shape[-3:], shape))
    if k is not None:
        *lead, size_k, size_j, size_i = array.shape
        array = (k @ array.reshape(*lead, size_k, -1)).reshape(*lead, k.shape[0], size_j, size_i)
    if j is not None:
        array = j @ array
    if i is not None:
        array = array @ i.T
    return np.ascontiguousarray(array)


def _axis_weights(n_in: int, n_out: int) -> np.ndarray | None:
    """Matrix [n_out, n_in] whose rows sum to one: means of what is covered, or linear interpolation; None: identity."""
    if n_in == n_out:
        return None
    scale = n_in / n_out
    if scale > 1:
        edges = np.arange(n_out + 1) * scale
        first, last = edges[:-1, None], edges[1:, None]
        voxel = np.arange(n_in)[None, :]
        covered = np.minimum(last, voxel + 1) - np.maximum(first, voxel)
        weights = np.clip(covered, 0, 1)
    else:
        centre = np.clip((np.arange(n_out) + 0.5) * scale - 0.5, 0, n_in - 1)[:, None]
        weights = np.clip(1 - np.abs(centre - np.arange(n_in)[None, :]), 0, 1)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _orientation(ijk_to_ras: np.ndarray, orientation: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Array axes and flips that bring the voxel axes closest to `orientation` (letters for I, J, K)."""
    direction = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    # Each world axis its own voxel axis; all six ways are tried sooner than scipy.optimize is imported.
    index_of = max(permutations(range(3)), key=lambda order: np.abs(direction)[range(3), order].sum())
    axes, flipped = [], []
    for letter in reversed(orientation):  # K, J, I
        world = next(n for n, pair in enumerate(("LR", "AP", "IS")) if letter in pair)
        index = index_of[world]
        points_to_positive = direction[world, index] > 0
        axes.append(2 - index)  # voxel axis i is the array's last
        flipped.append(bool(points_to_positive != (letter in "RAS")))
    return triple(axes), triple(flipped)


def _permute(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    lead = array.ndim - 3
    return array.transpose(*range(lead), *(lead + axis for axis in axes))


def _flip(array: np.ndarray, flipped: Sequence[bool]) -> np.ndarray:
    where: tuple[EllipsisType | slice, ...] = (..., *(slice(None, None, -1 if flip else 1) for flip in flipped))
    return array[where]


def _on_grid_of(reference: Volume, volume: Volume, normalisation: Normalisation) -> tuple[np.ndarray, list[str]]:
    """Voxels of `volume` on the reference's grid, by the headers alone, and what to say about it."""
    if volume.same_grid(reference):
        return volume.array, []
    # index of the reference (k, j, i, 1) -> index of the volume (k, j, i, 1)
    matrix = _REVERSE @ np.linalg.inv(volume.ijk_to_ras) @ reference.ijk_to_ras @ _REVERSE
    overlap = _overlap(reference.shape, volume.shape, matrix)
    if overlap < MINIMUM_OVERLAP:
        raise InputError(
            f"'{volume.name}' and '{reference.name}' do not lie at the same place: they share {overlap:.0%} of the "
            f"field of view of '{reference.name}'. Choose volumes of one study, or register them first."
        )
    note = f"'{volume.name}' lies on another grid than '{reference.name}' and was resampled onto it by their headers"
    if overlap < FULL_OVERLAP:
        note += f"; it covers {overlap:.0%} of it"
    # Steps of more than one voxel skip some: smooth first, as for any reduction in size.
    steps = np.linalg.norm(matrix[:3, :3] * np.array(volume.spacing_mm)[:, None], axis=1) / volume.spacing_mm
    array = ndimage.gaussian_filter(volume.array.astype(np.float32), np.maximum(0, (steps - 1) / 2))
    array = ndimage.affine_transform(
        array, matrix, output_shape=reference.shape, order=1, mode="constant", cval=raw_background(normalisation)
    )
    return array, [note + "."]


def _overlap(reference_shape: Sequence[int], shape: Sequence[int], matrix: np.ndarray) -> float:
    """Share of the reference's field of view that lies inside the other volume, on a lattice of points."""
    lattice = np.meshgrid(*(np.linspace(0, n - 1, 24) for n in reference_shape), indexing="ij")
    points = matrix[:3, :3] @ np.stack([axis.ravel() for axis in lattice]) + matrix[:3, 3:]
    limit = np.array(shape)[:, None] - 0.5
    return float(((points >= -0.5) & (points <= limit)).all(axis=0).mean())


def _doubts(volumes: dict[str, Volume], modalities: Sequence[str], preprocessing: Preprocessing) -> list[str]:
    """Warnings where the volumes are probably not what the model reads; of a whole head none but that it is one."""
    heads = [
        modality
        for modality in modalities
        if not preprocessing.normalisation[modality].hounsfield and shows_whole_head(volumes[modality])
    ]
    notes = _whole_heads([volumes[modality].name for modality in heads])
    for modality in modalities:
        if modality not in heads:
            notes += doubts_of_volume(volumes[modality], preprocessing.normalisation[modality])
    return notes


def _whole_heads(heads: Sequence[str]) -> list[str]:
    """A warning about these volumes, where skull-stripped ones are wanted."""
    if not heads:
        return []
    verb = "shows" if len(heads) == 1 else "show"
    return [
        f"WARNING: {', '.join(heads)} {verb} more than a brain (skull, or air that is not 0). The model knows brains "
        "without skull only; do not rely on this result. Prepare the study first."
    ]


def _foreground_box(
    oriented: Sequence[np.ndarray], modalities: Sequence[str], preprocessing: Preprocessing, volumes: dict[str, Volume]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Bounding box of the voxels that are not background in at least one modality."""
    foreground = np.zeros(oriented[0].shape, bool)
    for array, modality in zip(oriented, modalities):
        foreground |= raw_foreground(array, preprocessing.normalisation[modality])
    if not foreground.any():
        names = ", ".join(f"'{volumes[modality].name}'" for modality in modalities)
        raise InputError(f"{names}: all voxels are background. Are these the right volumes, in the right units?")
    box = []
    for axis in range(3):
        profile = np.flatnonzero(foreground.any(axis=tuple(n for n in range(3) if n != axis)))
        box.append((int(profile[0]), int(profile[-1]) + 1))
    return triple(box)


def _network_shape(
    reference: Volume, axes: Sequence[int], box: Sequence[tuple[int, int]], spacing_mm: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels of the network's grid that span the box; at least one along each axis."""
    sizes = []
    for axis, (start, stop), wanted in zip(axes, box, spacing_mm):
        sizes.append(max(1, round((stop - start) * reference.spacing_mm[axis] / wanted)))
    return triple(sizes)
