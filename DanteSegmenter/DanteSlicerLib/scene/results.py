"""This module's results in the scene: finding them, their inputs, and the user's own work in them."""

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.guard.plain_text import one_line
from DanteSegmenterLib.model_folder import ModelSpec
from DanteSlicerLib.foreign_texts import nodeName
from DanteSlicerLib.parameters import INPUT_ROLE
from DanteSlicerLib.scene.segments import isEdited, otherSegments, ourSegments, storesVoxels

MODEL_ATTRIBUTE = "DanteSegmenter.Model"
REPORT_ATTRIBUTE = "DanteSegmenter.Report"
RESULT_ROLE = "DanteSegmenter.Reference"  # the volume a result was made for


def modelName(spec: ModelSpec) -> str:
    return f"{spec.name} {spec.version}"


def referenceOf(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume that defines a segmentation's grid."""
    return output.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def resultReference(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume this module's result in `output` was made for; a node of the user's may have a different grid."""
    return output.GetNodeReference(RESULT_ROLE) or referenceOf(output)


def ourResults() -> list[vtkMRMLSegmentationNode]:
    """The segmentations in the scene that hold a result of this module."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(MODEL_ATTRIBUTE)]


def previousResults(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> list[vtkMRMLSegmentationNode]:
    """This module's results of the given model for this volume, latest first."""
    ours = [node for node in ourResults() if node.GetAttribute(MODEL_ATTRIBUTE) == modelName(spec)]
    return [node for node in reversed(ours) if resultReference(node) is reference]


def previousResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """The latest result of this model for this volume."""
    return next(iter(previousResults(reference, spec)), None)


def replaceableResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """The latest result of this model for this volume that contains no work of the user's."""
    return next((node for node in previousResults(reference, spec) if not usersWork(node)), None)


def rolesOf(output: vtkMRMLSegmentationNode, prefix: str) -> list[str]:
    """The roles of a result's node references that begin with `prefix`."""
    roles = [output.GetNthNodeReferenceRole(n) for n in range(output.GetNumberOfNodeReferenceRoles())]
    return [role for role in roles if role.startswith(prefix) and output.GetNodeReferenceID(role)]


def rememberInputs(output: vtkMRMLSegmentationNode, inputs: dict[str, vtkMRMLScalarVolumeNode]) -> None:
    """Store references to the inputs on a result, so that choosing the result can restore them."""
    for role in rolesOf(output, INPUT_ROLE):
        output.SetNodeReferenceID(role, None)
    for modality, node in inputs.items():
        if slicer.mrmlScene.IsNodePresent(node):  # not deleted during the run
            output.SetNodeReferenceID(INPUT_ROLE + modality, node.GetID())


def inputsOf(output: vtkMRMLSegmentationNode) -> dict[str, vtkMRMLScalarVolumeNode]:
    """The volumes a result was made from, by modality id, as far as they are still in the scene."""
    nodes = {role.removeprefix(INPUT_ROLE): output.GetNodeReference(role) for role in rolesOf(output, INPUT_ROLE)}
    return {modality: node for modality, node in nodes.items() if node is not None}


def newResult(reference: vtkMRMLScalarVolumeNode) -> vtkMRMLSegmentationNode:
    name = slicer.mrmlScene.GenerateUniqueName(f"{nodeName(reference)} DANTE")
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)


def checkOutput(output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode) -> None:
    """Refuse a node into which the result cannot be written, or whose other segments would move by that.

    Raises:
        InputError: with what to do.
    """
    if output.GetSegmentation().GetNumberOfSegments() and not storesVoxels(output):
        kind = output.GetSegmentation().GetSourceRepresentationName().lower()
        raise InputError(
            f"'{output.GetName()}' stores its segments as {kind}, not as voxels. Choose another output segmentation, "
            "or make the binary labelmap its source representation (Segmentations module)."
        )
    if output.GetParentTransformNode() is not reference.GetParentTransformNode() and otherSegments(output):
        raise InputError(
            f"'{output.GetName()}' holds other segments and lies under another transform than '{reference.GetName()}'. "
            "Choose another output segmentation, or give both the same transform."
        )


def canHold(output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode) -> bool:
    """Whether `checkOutput` allows a node."""
    try:
        checkOutput(output, reference)
    except InputError:
        return False
    return True


def usersWork(output: vtkMRMLSegmentationNode) -> str:
    """Describe, in sentences for the user, what a node holds that this module did not make; empty if nothing."""
    segmentation, ours = output.GetSegmentation(), set(ourSegments(output).values())
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    names = {segmentId: f"'{one_line(segmentation.GetSegment(segmentId).GetName())}'" for segmentId in ids}
    others = [names[segmentId] for segmentId in ids if segmentId not in ours]
    corrected = [names[segmentId] for segmentId in ids if segmentId in ours and isEdited(output, segmentId)]
    sentences = []
    if others:
        text = _(
            "'{name}' holds {segments}, which this module did not make; they would stay, and the result beside them."
        )
        sentences.append(text.format(name=nodeName(output), segments=", ".join(others)))
    if corrected:
        text = _("{segments} in '{name}' was corrected by hand; the result would replace it.")
        sentences.append(text.format(name=nodeName(output), segments=", ".join(corrected)))
    return " ".join(sentences)
