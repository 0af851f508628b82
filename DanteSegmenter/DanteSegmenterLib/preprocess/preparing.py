"""Convert loaded volumes to network input, and results exactly back.

Steps: orientation, crop to the foreground, resampling, normalisation. Training, evaluation, the command line and the
Segment button all call `prepare`; `Geometry.restore` maps results back to the loaded volume's grid.

Two decisions differ from nnU-Net (Isensee et al. 2021) and make results independent of the input's resolution: *
    Resampling is anti-aliased: an output voxel coarser than the input is the mean of the voxels it covers, on the
    input's grid or another's; a finer one is interpolated linearly. A 1 mm study resampled to 2 mm then looks like a 2
    mm training volume, which is an average; a spline would pass on noise that the network never saw. * Statistics are
    computed after resampling, on the voxels that the network sees, and per volume: a modality's normalisation must not
    depend on which other modalities are present, since deployment lacks one that training has. Models trained by
    nnU-Net use its own preprocessing (`nnunet`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..model_folder.spec import Normalisation, Preprocessing
from ..result.regions import shows_whole_head
from ..volume import Volume, check_image, triple
from . import nnunet
from .geometry import Box, Geometry, axes_towards, bounding_box, flip_axes, index_matrix, network_shape, permute_axes
from .normalising import background_of, normalise, raw_background, raw_foreground
from .other_grids import onto_grid
from .plausibility import check_network_grid, doubts_of_size, doubts_of_tensor, doubts_of_volume
from .prepared import Oriented, Prepared
from .resampling import resample

# A second volume that covers less of the reference's field of view is from another place, not a smaller slab.
MINIMUM_OVERLAP = 0.1
# Less coverage than this is worth a note.
FULL_OVERLAP = 0.95


def prepare(volumes: dict[str, Volume], modalities: Sequence[str], preprocessing: Preprocessing) -> Prepared:
    """Volumes in world space -> network input.

    Args:
        volumes: by modality id; any grids, orientations and spacings.
        modalities: ids to use, in channel order; the first is the reference, whose grid the results are on.
        preprocessing: the model's.

    Raises:
        InputError: a modality is missing, a volume is unusable or located elsewhere, or everything is background.
        ResourceError: the network's grid does not fit into memory.
    """
    missing = [modality for modality in modalities if modality not in volumes]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}. Given: {', '.join(volumes) or 'nothing'}.")
    for modality in modalities:
        check_image(volumes[modality])
    given = _oriented(volumes, modalities, preprocessing)
    if preprocessing.nnunet is not None:
        return nnunet.prepare(given, preprocessing, preprocessing.nnunet)
    box = _foreground_box(given.arrays, modalities, preprocessing, volumes)
    shape = network_shape([stop - start for start, stop in box], given.spacing_mm, preprocessing.spacing_mm)
    doubts = doubts_of_size(box, given.spacing_mm)
    check_network_grid(shape, preprocessing.spacing_mm, len(modalities))
    geometry = Geometry(given.reference, given.axes, given.flipped, box, shape)
    tensor = np.empty((len(modalities), *shape), np.float32)
    for n, modality in enumerate(modalities):
        raw = resample(geometry.crop(given.arrays[n]).astype(np.float32), shape)
        tensor[n] = normalise(raw, preprocessing.normalisation[modality], volumes[modality].name)
    background = background_of(preprocessing, modalities)
    doubts += doubts_of_tensor(tensor, [volumes[modality].name for modality in modalities], background.values)
    return Prepared(tensor, geometry, background, (*given.notes, *doubts))


def _oriented(volumes: dict[str, Volume], modalities: Sequence[str], preprocessing: Preprocessing) -> Oriented:
    """All volumes on the grid of the first, with axes in the network's order."""
    reference = volumes[modalities[0]]
    axes, flipped = axes_towards(reference.ijk_to_ras, preprocessing.orientation)
    if preprocessing.nnunet is not None:
        order = preprocessing.nnunet.axes
        axes, flipped = triple(axes[n] for n in order), triple(flipped[n] for n in order)
    arrays: list[np.ndarray] = []
    notes = [note for modality in modalities for note in volumes[modality].notes]
    for modality in modalities:
        array, note = _on_grid_of(reference, volumes[modality], preprocessing.normalisation[modality])
        arrays.append(flip_axes(permute_axes(array, axes), flipped))
        notes += note
    notes += _doubts(volumes, modalities, preprocessing)
    names = tuple(volumes[modality].name for modality in modalities)
    return Oriented(reference, axes, flipped, tuple(modalities), names, tuple(arrays), tuple(notes))


def reorient(volume: Volume, orientation: str) -> Volume:
    """The same voxels (a view), stored with axes I, J, K as close as possible to `orientation`."""
    axes, flipped = axes_towards(volume.ijk_to_ras, orientation)
    shape = triple(volume.shape[axis] for axis in axes)
    whole = Geometry(volume, axes, flipped, triple((0, n) for n in shape), shape)
    return Volume(whole.orient(volume.array), whole.ijk_to_ras, volume.name)


def _on_grid_of(reference: Volume, volume: Volume, normalisation: Normalisation) -> tuple[np.ndarray, list[str]]:
    """Voxels of `volume` on the reference's grid, by the headers alone, and notes about it."""
    if volume.same_grid(reference):
        return volume.array, []
    coverage = coverage_note(volume, reference, _lattice(reference.shape), "field of view of", "it")
    note = f"'{volume.name}' lies on another grid than '{reference.name}' and was resampled onto it by their headers"
    matrix, background = index_matrix(reference, volume), raw_background(normalisation)
    array = onto_grid(volume.array, volume.spacing_mm, matrix, reference.shape, background)
    return array, [f"{note}{coverage}."]


def coverage_note(volume: Volume, reference: Volume, points: np.ndarray, of: str, it: str) -> str:
    """A clause such as "; it covers 33% of it" if a volume covers only part of the given points; otherwise "".

    Args:
        volume: its position is taken from its header.
        reference: the volume whose grid the points are on.
        points: voxels of the reference that should be covered, [3, N] as k, j, i.
        of: description of the points for the error message, as in "field of view of".
        it: description of the points for the clause, as in "it covers 33% of it".

    Raises:
        InputError: the volume is elsewhere: it covers less than `MINIMUM_OVERLAP` of the points.
    """
    share = _share_inside(points, volume.shape, index_matrix(reference, volume))
    if share < MINIMUM_OVERLAP:
        raise InputError(
            f"'{volume.name}' and '{reference.name}' do not lie at the same place: they share {share:.0%} of the "
            f"{of} '{reference.name}'. Choose volumes of one study, or register them first."
        )
    return f"; it covers {share:.0%} of {it}" if share < FULL_OVERLAP else ""


def _lattice(shape: Sequence[int]) -> np.ndarray:
    """Points spread over a field of view, [3, N] as k, j, i."""
    lattice = np.meshgrid(*(np.linspace(0, n - 1, 24) for n in shape), indexing="ij")
    return np.stack([axis.ravel() for axis in lattice])


def _share_inside(points: np.ndarray, shape: Sequence[int], matrix: np.ndarray) -> float:
    """Share of points that are inside a volume of this shape after mapping them to its indices by the matrix."""
    indices = matrix[:3, :3] @ points + matrix[:3, 3:]
    limit = np.array(shape)[:, None] - 0.5
    return float(((indices >= -0.5) & (indices <= limit)).all(axis=0).mean())


def _doubts(volumes: dict[str, Volume], modalities: Sequence[str], preprocessing: Preprocessing) -> list[str]:
    """Warnings about volumes that are probably not what the model expects; for a whole head only that."""
    heads = [
        modality
        for modality in modalities
        if preprocessing.normalisation[modality].without_skull and shows_whole_head(volumes[modality])
    ]
    notes = _whole_heads([volumes[modality].name for modality in heads])
    for modality in modalities:
        if modality not in heads:
            notes += doubts_of_volume(volumes[modality], preprocessing.normalisation[modality])
    return notes


def _whole_heads(heads: Sequence[str]) -> list[str]:
    """A warning about these volumes, which should be skull-stripped."""
    if not heads:
        return []
    verb = "shows" if len(heads) == 1 else "show"
    return [
        f"WARNING: {', '.join(heads)} {verb} more than a brain (skull, or air that is not 0). The model knows brains "
        "without skull only; do not rely on this result. Prepare the study first."
    ]


def _foreground_box(
    oriented: Sequence[np.ndarray], modalities: Sequence[str], preprocessing: Preprocessing, volumes: dict[str, Volume]
) -> Box:
    """Bounding box of the voxels that are not background in at least one modality."""
    foreground = np.zeros(oriented[0].shape, bool)
    for array, modality in zip(oriented, modalities):
        foreground |= raw_foreground(array, preprocessing.normalisation[modality])
    if not foreground.any():
        names = ", ".join(f"'{volumes[modality].name}'" for modality in modalities)
        raise InputError(f"{names}: all voxels are background. Are these the right volumes, in the right units?")
    return bounding_box(foreground)
