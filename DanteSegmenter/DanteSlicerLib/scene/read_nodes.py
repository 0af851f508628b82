"""Converts nodes to `Volume`: the interface between the scene and the library."""

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.volume import Volume


def volumeFromNode(node: vtkMRMLScalarVolumeNode) -> Volume:
    """Copy a volume node, in world space, to a `Volume` with the node's name.

    Raises:
        InputError: not a volume node, no image, several components, or a non-linear parent transform.
    """
    if not isinstance(node, slicer.vtkMRMLVolumeNode):
        raise InputError(f"a volume node is needed, got {node!r}.")
    name, image = node.GetName(), node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise InputError(f"'{name}' holds no image. Load it again or choose another volume.")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            f"'{name}' has {image.GetNumberOfScalarComponents()} values per voxel (a colour or vector image); a scalar "
            "volume is needed. Convert it with the module 'Vector to Scalar Volume'."
        )
    return Volume(slicer.util.arrayFromVolume(node).copy(), worldIjkToRas(node), name)


def holdsImageOf(node: vtkMRMLScalarVolumeNode, volume: Volume) -> bool:
    """Whether a node still holds the voxels that were copied to `volume`; where the node lies does not matter."""
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return False
    return np.array_equal(slicer.util.arrayFromVolume(node), volume.array)  # no NaN: such a run is refused


def checkNoDuplicates(nodes: dict[str, vtkMRMLScalarVolumeNode]) -> None:
    """
    Raises:
        InputError: the same node is given for two modalities.
    """
    first: dict[int, str] = {}
    for modality, node in nodes.items():
        other = first.setdefault(id(node), modality)
        if other != modality:
            raise InputError(
                f"'{node.GetName()}' is chosen as {other} and as {modality}; each needs a volume of its own."
            )


def maskFromNode(node, reference: vtkMRMLScalarVolumeNode) -> Volume:
    """A brain mask as uint8: the union of a segmentation's segments on the reference's grid, or a label map on its own.

    Raises:
        InputError: the mask is empty.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        marked = [slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, reference) > 0 for segmentId in ids]
        grid = volumeFromNode(reference)
        mask = grid.with_array(np.any(marked, axis=0) if marked else np.zeros(grid.shape, bool), node.GetName())
    else:
        grid = volumeFromNode(node)
        mask = grid.with_array(grid.array > 0, node.GetName())
    if not mask.array.any():
        raise InputError(f"the brain mask '{node.GetName()}' is empty; choose another, or none.")
    return mask.with_array(mask.array.astype(np.uint8), mask.name)


def worldIjkToRas(node: vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4 matrix from voxel indices (i, j, k, 1) to world RAS mm, including linear parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    transform = node.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise InputError(
                f"'{node.GetName()}' lies under the non-linear transform '{transform.GetName()}'. Harden the transform "
                "(Transforms module) or take the volume out of it."
            )
        toWorld = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(toWorld)
        vtk.vtkMatrix4x4.Multiply4x4(toWorld, matrix, matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
