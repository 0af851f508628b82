"""Our results in the scene: which they are, what they were made from, and what in them is the user's."""

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.guard.plain_text import one_line
from DanteSegmenterLib.model_folder import ModelSpec
from DanteSlicerLib.foreign_texts import nodeName
from DanteSlicerLib.parameters import INPUT_ROLE
from DanteSlicerLib.scene.segments import isEdited, otherSegments, ourSegments

MODEL_ATTRIBUTE = "DanteSegmenter.Model"
REPORT_ATTRIBUTE = "DanteSegmenter.Report"
RESULT_ROLE = "DanteSegmenter.Reference"  # the volume a result was made for


def modelName(spec: ModelSpec) -> str:
    return f"{spec.name} {spec.version}"


def referenceOf(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume whose grid a segmentation was made on."""
    return output.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def resultReference(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume that our result in `output` was made for; the user's node that holds it may have another grid."""
    return output.GetNodeReference(RESULT_ROLE) or referenceOf(output)


def ourResults() -> list[vtkMRMLSegmentationNode]:
    """The scene's segmentations that hold a result of this module."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(MODEL_ATTRIBUTE)]


def previousResults(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> list[vtkMRMLSegmentationNode]:
    """Our results of this model for this volume, the last one first."""
    ours = [node for node in ourResults() if node.GetAttribute(MODEL_ATTRIBUTE) == modelName(spec)]
    return [node for node in reversed(ours) if resultReference(node) is reference]


def previousResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """Our last result of this model for this volume."""
    return next(iter(previousResults(reference, spec)), None)


def replaceableResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """Our last result of this model for this volume in which nothing is the user's own work."""
    return next((node for node in previousResults(reference, spec) if not usersWork(node)), None)


def rolesOf(output: vtkMRMLSegmentationNode, prefix: str) -> list[str]:
    """The names of those references from a result to other nodes that begin with `prefix`."""
    roles = [output.GetNthNodeReferenceRole(n) for n in range(output.GetNumberOfNodeReferenceRoles())]
    return [role for role in roles if role.startswith(prefix) and output.GetNodeReferenceID(role)]


def rememberInputs(output: vtkMRMLSegmentationNode, inputs: dict[str, vtkMRMLScalarVolumeNode]) -> None:
    """Let a result know the volumes it was made from, so that choosing it can bring them back."""
    for role in rolesOf(output, INPUT_ROLE):
        output.SetNodeReferenceID(role, None)
    for modality, node in inputs.items():
        if slicer.mrmlScene.IsNodePresent(node):  # not deleted during the run
            output.SetNodeReferenceID(INPUT_ROLE + modality, node.GetID())


def inputsOf(output: vtkMRMLSegmentationNode) -> dict[str, vtkMRMLScalarVolumeNode]:
    """The volumes a result was made from, by modality id; those that are still in the scene."""
    nodes = {role.removeprefix(INPUT_ROLE): output.GetNodeReference(role) for role in rolesOf(output, INPUT_ROLE)}
    return {modality: node for modality, node in nodes.items() if node is not None}


def newResult(reference: vtkMRMLScalarVolumeNode) -> vtkMRMLSegmentationNode:
    name = slicer.mrmlScene.GenerateUniqueName(f"{nodeName(reference)} DANTE")
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)


def checkOutput(output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode) -> None:
    """Refuse a node whose other segments would move if the result were put into it."""
    if output.GetParentTransformNode() is not reference.GetParentTransformNode() and otherSegments(output):
        raise InputError(
            f"'{output.GetName()}' holds other segments and lies under another transform than '{reference.GetName()}'. "
            "Choose another output segmentation, or give both the same transform."
        )


def usersWork(output: vtkMRMLSegmentationNode) -> str:
    """What a node holds that this module did not make, in sentences for the user; empty if there is nothing."""
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
