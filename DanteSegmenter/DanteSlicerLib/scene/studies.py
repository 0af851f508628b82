"""The scene's volumes and how they are grouped into studies."""

from dataclasses import dataclass

import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _

from DanteSegmenterLib.cases.modality_guess import same_patient
from DanteSegmenterLib.model_folder import Modality, ModelSpec

ALIGNED_ATTRIBUTE = "DanteSegmenter.AlignedCopy"
SAMPLE_ATTRIBUTE = "DanteSegmenter.Sample"  # on a volume of the synthetic patient: its modality
PROBABILITY_ATTRIBUTE = "DanteSegmenter.Probability"  # on a volume: the id of its region


def putBeside(node, reference) -> None:
    """Move a node to the study or folder of `reference` in the subject hierarchy."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(reference) if hierarchy else 0
    if item:
        place(hierarchy, node, hierarchy.GetItemParent(item))


def place(hierarchy, node, parent: int) -> None:
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def makeStudy(patient: str, study: str, nodes: list) -> int:
    """Create a patient with one study in the subject hierarchy; returns the study's item."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
    item = hierarchy.CreateStudyItem(subject, study)
    for node in nodes:
        place(hierarchy, node, item)
    return item


@dataclass
class SceneStudy:
    """Volumes grouped in the subject hierarchy, and the inputs chosen from them.

    problem: why the study will not be segmented; empty if it will.
    """

    name: str
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    problem: str = ""


def volumeNodes() -> list[vtkMRMLScalarVolumeNode]:
    """The scene's visible volumes with an image, without label maps, vectors and this module's own volumes."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData()
        and not node.GetAttribute(PROBABILITY_ATTRIBUTE)
        and not node.GetAttribute(ALIGNED_ATTRIBUTE)
    ]


def volumeInView() -> vtkMRMLScalarVolumeNode | None:
    """The background volume of the first slice view that has one."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown = view.GetBackgroundVolumeID()
        node = slicer.mrmlScene.GetNodeByID(shown) if shown else None
        if node is not None:
            return node
    return None


def volumesBeside(node, nodes: list[vtkMRMLScalarVolumeNode]) -> list[vtkMRMLScalarVolumeNode]:
    """The volumes of one patient: those in the study of `node`, or, outside any study, those with matching names."""
    item = studyOf(node)[0]
    if item:
        return [other for other in nodes if studyOf(other)[0] == item]
    loose = [other for other in nodes if not studyOf(other)[0]]
    return [loose[n] for n in same_patient([other.GetName() or "" for other in loose], node.GetName() or "")]


def isLeftOut(spec: ModelSpec, modality: str, node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume is used only on request: the sample's privileged scan, to show the result without it."""
    return modality == spec.privileged and bool(node.GetAttribute(SAMPLE_ATTRIBUTE))


def studyOf(node) -> tuple[int, str]:
    """The subject hierarchy item of a node's study, and its name with the patient's."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    study = hierarchy.GetItemParent(item) if item else 0
    if not study or study == hierarchy.GetSceneItemID():
        return 0, _("(no study)")
    patient = hierarchy.GetItemParent(study)
    names = [hierarchy.GetItemName(i) for i in (patient, study) if i and i != hierarchy.GetSceneItemID()]
    return study, ", ".join(names)


def patientOf(node) -> int:
    """The subject hierarchy item of the patient to whom a node belongs; 0 where that is not known."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return hierarchy.GetItemAncestorAtLevel(item, level) if item else 0


def usedModalities(spec: ModelSpec) -> list[Modality]:
    """The modalities the model can use: the privileged one only if the model includes the full network."""
    used = {*spec.limited.modalities, *(spec.full.modalities if spec.full else ())}
    return [modality for modality in spec.modalities if modality.id in used]
