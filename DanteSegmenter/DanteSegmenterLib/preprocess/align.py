"""Prepare raw clinical studies: rigid registration to a reference sequence, and brain extraction.

Models need images as prepared by BraTS: one grid, skull-stripped. `prepare_study` makes them from a study as it comes
from the scanner. The reference keeps its own grid; only the other volumes are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import Cancelled, InputError, ResourceError
from ..files.grid import LPS_TO_RAS
from ..options import DEEPBET
from ..volume import Volume, check_image
from .geometry import index_matrix
from .other_grids import is_coarser, onto_grid
from .preparing import coverage_note, reorient

# Mutual information is estimated from a fifth of the voxels, at three resolutions.
SAMPLING_SHARE = 0.2
SHRINK, SMOOTH_MM = (4, 2, 1), (3.0, 1.5, 0.0)
BINS, ITERATIONS = 32, 120
# Sequences of one examination differ by some millimetres; more indicates another patient or a failure.
LARGEST_SHIFT_MM, LARGEST_TURN_DEGREES = 40.0, 30.0
THICK_SLICES_MM = 3.0
# Coverage of the brain is measured at about this many of its voxels.
SHARE_POINTS = 100_000


@dataclass(frozen=True, eq=False)
class Motion:
    """Rigid motion that aligns a volume with another.

    Attributes:
        shift_mm: translation at the reference's centre.
        turn_degrees: rotation angle.
        matrix: 4x4, from positions according to the volume's header to aligned positions; RAS mm.
    """

    shift_mm: float
    turn_degrees: float
    matrix: np.ndarray


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study prepared for a model.

    Attributes:
        volumes: by modality id, all on the reference's grid, 0 outside the brain.
        brain: mask on the same grid, uint8 0 or 1.
        motions: by modality id, for each registered volume.
        notes: processing steps and warnings for the user.
    """

    volumes: dict[str, Volume]
    brain: Volume
    motions: dict[str, Motion]
    notes: tuple[str, ...]


def prepare_study(
    volumes: dict[str, Volume],
    reference: str,
    brain: Volume | None = None,
    progress: Callable[[float, str], None] = lambda share, message: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PreparedStudy:
    """Register all volumes to one of them, and remove everything but the brain.

    Args:
        volumes: by modality id, each on its own grid, from one examination.
        reference: modality id of the fixed volume.
        brain: the user's own mask on any grid; by default computed by deepbet from T1 (or the reference).
        progress: called with the share done, 0 to 1, and a message.
        cancelled: called between steps and during registration; True stops.

    Raises:
        InputError: a volume cannot be used, does not fit the reference, or hardly covers the brain.
        ResourceError: deepbet is needed and not installed.
        Cancelled: `cancelled` returned True.
    """
    if reference not in volumes:
        raise InputError(f"'{reference}' is not among the volumes: {', '.join(volumes)}.")
    fixed = volumes[reference]
    for volume in volumes.values():
        check_image(volume)
    aligned, motions = {reference: fixed}, {}
    notes = [note for volume in volumes.values() for note in volume.notes]
    moving = [modality for modality in volumes if modality != reference]
    for n, modality in enumerate(moving):
        progress(0.8 * n / max(1, len(moving)), f"Aligning {volumes[modality].name}")
        aligned[modality], motions[modality] = align(volumes[modality], fixed, cancelled)
    progress(0.8, "Finding the brain")
    found = brain_mask(aligned.get("t1", fixed)) if brain is None else brain
    mask = _resampled(found, fixed, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor).array > 0.5
    if not mask.any():
        raise InputError(f"the brain mask '{found.name}' is empty where '{fixed.name}' lies.")
    points = _some_points(mask)
    notes += [_motion_note(volumes[modality], fixed, motion, points) for modality, motion in motions.items()]
    if brain is None:
        notes.append(f"The brain was extracted by deepbet: {_ml(found):.0f} mL.")
    if cancelled():
        raise Cancelled("Stopped; nothing was changed.")
    thickest = max(max(volume.spacing_mm) for volume in volumes.values())
    if thickest > THICK_SLICES_MM:
        notes.append(
            f"Slices are up to {thickest:.1f} mm thick: small parts are blurred, and the model learned on 1 mm volumes."
        )
    progress(1.0, "Prepared")
    return PreparedStudy(
        volumes={
            m: v.with_array(np.where(mask, v.array, 0).astype(np.float32), volumes[m].name) for m, v in aligned.items()
        },
        brain=fixed.with_array(mask.astype(np.uint8), "brain"),
        motions=motions,
        notes=tuple(notes),
    )


def align(moving: Volume, fixed: Volume, cancelled: Callable[[], bool] = lambda: False) -> tuple[Volume, Motion]:
    """Register a volume rigidly to another and resample it onto that grid; 0 outside its field of view.

    Uses Mattes' mutual information, starting from the positions in the headers; sampling is seeded. Where the grid is
    coarser than the volume, its voxels are means of the voxels they cover.

    Raises:
        InputError: no overlap, or the motion is larger than between sequences of one examination.
        Cancelled: `cancelled` returned True.
    """
    fixed_image, moving_image = _image(fixed), _image(moving)
    centre = fixed_image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed_image.GetSize()])
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre)
    try:
        _registration(fixed_image, transform, cancelled).Execute(fixed_image, moving_image)
    except RuntimeError as error:
        reason = _last_line(error)
        raise InputError(
            f"'{moving.name}' could not be aligned with '{fixed.name}': do they show the same head? ({reason})"
        ) from None
    if cancelled():
        raise Cancelled("Stopped; nothing was changed.")
    motion = _motion(transform, centre)
    if motion.shift_mm > LARGEST_SHIFT_MM or motion.turn_degrees > LARGEST_TURN_DEGREES:
        raise InputError(
            f"'{moving.name}' would have to be moved by {motion.shift_mm:.0f} mm and {motion.turn_degrees:.0f} degrees "
            f"to fit '{fixed.name}'. Are they of one examination? Align them by hand in the module Transforms."
        )
    matrix = index_matrix(fixed, _moved(moving, motion))
    if is_coarser(matrix, moving.spacing_mm):
        array = onto_grid(moving.array, moving.spacing_mm, matrix, fixed.shape, 0.0)
        return fixed.with_array(array, moving.name), motion
    return _resampled(moving, fixed, transform, sitk.sitkLinear), motion


def _registration(
    fixed: sitk.Image, transform: sitk.Euler3DTransform, cancelled: Callable[[], bool]
) -> sitk.ImageRegistrationMethod:
    """The registration method, which optimises `transform` and stops early when `cancelled` returns True."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLING_SHARE, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=ITERATIONS, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    # Coarsen only grids with many slices: thick-slice stacks have none to spare.
    method.SetShrinkFactorsPerLevel(SHRINK if min(fixed.GetSize()) >= 64 else (2, 1, 1))
    method.SetSmoothingSigmasPerLevel(SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if cancelled() else None)
    return method


def brain_mask(volume: Volume) -> Volume:
    """Brain mask of a T1 volume of a whole head, by deepbet (Fisch et al. 2024, doi 10.1093/bioinformatics/btae067).

    Raises:
        ResourceError: deepbet is not installed.
        InputError: no brain was found.
    """
    try:
        from deepbet.bet import BrainExtraction
    except ImportError:
        raise ResourceError(
            f'extracting the brain needs the package deepbet (MIT licence). Install it (pip install "{DEEPBET}"), '
            "or give a brain mask of your own."
        ) from None
    canonical = reorient(volume, "RAS")
    # deepbet's axes are R, A, S; ours are K, J, I.
    image = np.ascontiguousarray(canonical.array.transpose(2, 1, 0), np.float32)
    try:
        extraction = BrainExtraction(no_gpu=True)
        mask = extraction.postprocess(extraction.run_model(image) > 0.5)
    except AssertionError as error:
        raise InputError(f"no brain was found in '{volume.name}' ({error}).") from None
    found = Volume(mask.astype(np.uint8).transpose(2, 1, 0), canonical.ijk_to_ras, f"{volume.name} brain")
    return _resampled(found, volume, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor)


def _motion(transform: sitk.Euler3DTransform, centre: tuple[float, ...]) -> Motion:
    moved = np.subtract(transform.TransformPoint(centre), centre)
    turn = np.array(transform.GetMatrix()).reshape(3, 3)
    cosine = min(1.0, max(-1.0, (np.trace(turn) - 1) / 2))
    # ITK's transform maps from the fixed volume to the moving one, in LPS.
    to_moving = np.eye(4)
    to_moving[:3, :3], to_moving[:3, 3] = turn, transform.TransformPoint((0.0, 0.0, 0.0))
    matrix = LPS_TO_RAS @ np.linalg.inv(to_moving) @ LPS_TO_RAS
    return Motion(float(np.linalg.norm(moved)), math.degrees(math.acos(cosine)), matrix)


def _some_points(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask, [3, N] as k, j, i; evenly subsampled for large masks, to save memory."""
    inside = np.flatnonzero(mask)
    return np.stack(np.unravel_index(inside[:: 1 + inside.size // SHARE_POINTS], mask.shape))


def _motion_note(volume: Volume, fixed: Volume, motion: Motion, brain: np.ndarray) -> str:
    """Note on a volume's motion and, if incomplete, its coverage of the brain (points [3, N] as k, j, i).

    Raises:
        InputError: it hardly covers the brain.
    """
    coverage = coverage_note(_moved(volume, motion), fixed, brain, "brain in", "the brain")
    return f"'{volume.name}' was moved by {motion.shift_mm:.1f} mm and {motion.turn_degrees:.1f} degrees{coverage}."


def _moved(volume: Volume, motion: Motion) -> Volume:
    """The same voxels with the matrix found by registration."""
    return Volume(volume.array, motion.matrix @ volume.ijk_to_ras, volume.name)


def _resampled(volume: Volume, grid: Volume, transform: sitk.Transform, interpolator: int) -> Volume:
    """Resample a volume onto another's grid, 0 outside its field of view."""
    image = sitk.Resample(_image(volume), _image(grid), transform, interpolator, 0.0)
    return grid.with_array(sitk.GetArrayFromImage(image), volume.name)


def _image(volume: Volume) -> sitk.Image:
    """float32 image in ITK's LPS coordinates.

    Raises:
        InputError: the grid is sheared, which ITK does not support.
    """
    axes = volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise InputError(f"'{volume.name}' lies on a sheared grid; resample it to a rectangular one first.")
    # The nearest rotation: float32 headers are orthogonal only to a few decimals.
    left, _, right = np.linalg.svd(LPS_TO_RAS[:3, :3] @ axes)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array, np.float32))
    image.SetSpacing(tuple(map(float, volume.spacing_mm[::-1])))
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin((np.array([-1.0, -1.0, 1.0]) * volume.ijk_to_ras[:3, 3]).tolist())
    return image


def _ml(mask: Volume) -> float:
    return float(np.count_nonzero(mask.array)) * mask.voxel_volume_ml


def _last_line(error: RuntimeError) -> str:
    """The last line of ITK's long messages, which says what is wrong."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else "unknown"
