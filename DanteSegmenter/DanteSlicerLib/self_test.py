"""The self-test, run by Slicer's Reload & Test, by ctest and by pytest."""

import logging

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import choose_pathway
from DanteSegmenterLib.model_folder.library import choose_model
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Finding, Report, Result
from DanteSegmenterLib.result.regions import mask_of
from DanteSlicerLib import requirements
from DanteSlicerLib.logic import DanteSegmenterLogic
from DanteSlicerLib.parameters import Device
from DanteSlicerLib.sample_data import loadSamplePatient
from DanteSlicerLib.scene.read_nodes import volumeFromNode
from DanteSlicerLib.scene.results import referenceOf
from DanteSlicerLib.scene.segments import ourSegments
from DanteSlicerLib.scene.show import openEditor, showOnly
from DanteSlicerLib.scene.studies import makeStudy
from DanteSlicerLib.scene.volumes_table import TABLE_ROLE, followEdits, readTable


class DrawnInference:
    """A stub without a network that returns `answer(model folder, volumes)`."""

    def __init__(self, answer):
        self._answer = answer
        self._outcome = None

    def begin(self, modelFolder, volumes, device, options, brainMask, host):
        self._outcome = self._answer(modelFolder, volumes)

    def poll(self):
        return None, self._outcome


class DanteSegmenterTest(ScriptedLoadableModuleTest):
    """Tests on a synthetic patient and on drawn volumes, run by Slicer's Reload & Test, by ctest and by pytest."""

    SAMPLE_SPACING_MM = 2.0

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def tearDown(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        names = [name for name in dir(self) if name.startswith("test")]
        for name in names:
            self.setUp()
            try:
                getattr(self, name)()
                self.delayDisplay(f"{name}: passed")
            finally:
                self.tearDown()

    # Helpers

    def drawnVolume(self, name, shape=(6, 7, 8)):
        """A small volume on an oblique, anisotropic grid with permuted and flipped axes, to detect any mix-up."""
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        matrix = np.array([[0, -2, 0, 11], [1.2, 0, -1.8, -7], [0.9, 0, 2.4, 5], [0, 0, 0, 1]], dtype=float)
        return slicer.util.addVolumeFromArray(array, matrix, name)

    def drawnResult(self, spec, reference, corner=(5, 6, 7)):
        """A result with known masks: the outermost region is a corner voxel and a block, inner ones parts of it."""
        labels, findings = np.zeros(reference.shape, np.uint8), []
        for n, region in enumerate(spec.regions):
            labels[1:4, 1 : 5 - n, 1:5] = region.label_value
        labels[corner] = spec.regions[0].label_value
        for region in spec.regions:
            volume = float(mask_of(labels, region, spec.regions).sum()) * reference.voxel_volume_ml
            findings.append(Finding(region.id, volume, volume, volume, 0.9))
        report = Report(spec.name, spec.version, "", SegmentOptions(), tuple(findings), {"network": 0.0}, "test")
        return Result(spec, reference, spec.limited.modalities[0], labels, report)

    def drawnLogic(self):
        """A logic whose stub inference returns `drawnResult`."""

        def answer(folder, volumes):
            spec = choose_model(DanteSegmenterLogic().models(), folder).usable_spec()
            pathway, _notes = choose_pathway(spec, volumes)
            return self.drawnResult(spec, volumes[pathway.modalities[0]])

        return DanteSegmenterLogic(DrawnInference(answer))

    def drawnInputs(self, spec):
        return {modality: self.drawnVolume(modality) for modality in spec.limited.modalities}

    def spec(self):
        return choose_model(DanteSegmenterLogic().models()).usable_spec()

    def maskOf(self, output, region, reference):
        segmentId = ourSegments(output)[region.id]
        return slicer.util.arrayFromSegmentBinaryLabelmap(output, segmentId, reference).astype(bool)

    # Tests

    def test_cornerVoxelHasTheRightWorldPosition(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        output = self.drawnLogic().segment(inputs)
        outer = spec.regions[0]
        mask = self.maskOf(output, outer, reference)
        self.assertTrue(mask[5, 6, 7])
        self.assertEqual(int(mask.sum()), 3 * 4 * 4 + 1)
        # By hand, from the matrix of drawnVolume: (i, j, k) = (7, 6, 5) lies at RAS (-1, -7.6, 23.3) mm. On a grid of
        # 0.5 mm around that point the 9 mm3 voxel covers exactly 72 voxels, centred on the point.
        around = np.diag([0.5, 0.5, 0.5, 1.0])
        around[:3, 3] = np.array([-1, -7.6, 23.3]) - 5
        probe = slicer.util.addVolumeFromArray(np.zeros((21, 21, 21), np.uint8), around, "probe")
        seen = self.maskOf(output, outer, probe)
        self.assertTrue(seen[10, 10, 10])
        self.assertAlmostEqual(int(seen.sum()), 72, delta=12)
        np.testing.assert_allclose(np.argwhere(seen).mean(axis=0), (10, 10, 10), atol=1)

    def test_nestedSegmentsDoNotEraseEachOther(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        logic = self.drawnLogic()
        for _run in range(2):
            output = logic.segment(inputs)
            for region in spec.regions:
                expected = self.drawnResult(spec, volumeFromNode(reference)).masks[region.id]
                np.testing.assert_array_equal(self.maskOf(output, region, reference), expected)
        self.assertEqual(output.GetSegmentation().GetNumberOfLayers(), len(spec.regions))

    def test_segmentsHaveNamesColoursAndCodes(self):
        spec = self.spec()
        output = self.drawnLogic().segment(self.drawnInputs(spec))
        segmentation = output.GetSegmentation()
        self.assertEqual(segmentation.GetNumberOfSegments(), len(spec.regions))
        for n, region in enumerate(spec.regions):
            segment = segmentation.GetNthSegment(n)
            self.assertEqual(segment.GetName(), region.name)
            np.testing.assert_allclose(segment.GetColor(), region.color, atol=1e-6)
            code = vtk.reference("")
            self.assertTrue(segment.GetTag(segment.GetTerminologyEntryTagName(), code))
            self.assertEqual(len(str(code).split("~")), 7)
            self.assertIn(region.terminology.type.value, str(code))
        self.assertIsNotNone(output.GetDisplayNode())

    def test_volumesAreInMillilitres(self):
        spec = self.spec()
        output = self.drawnLogic().segment(self.drawnInputs(spec))
        # By hand: drawnVolume's voxel is 1.5 x 2 x 3 = 9 mm3; 3 * 4 * 4 + 1 = 49 voxels are 0.441 mL.
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        self.assertEqual([row[0] for row in rows], [region.name for region in spec.regions])
        self.assertAlmostEqual(rows[0][1], 0.441, places=6)

    def test_secondRunReplacesOnlyOurSegments(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
        other = self.drawnVolume("what the user drew on")
        theirs.SetReferenceImageGeometryParameterFromVolumeNode(other)
        theirs.GetSegmentation().AddEmptySegment(spec.regions[0].id, "mine", (0.1, 0.2, 0.3))
        drawn = np.zeros((6, 7, 8), np.uint8)
        drawn[0:3, 0:3, 0:3] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, theirs, spec.regions[0].id, reference)
        logic = self.drawnLogic()
        first, second = logic.segment(inputs), logic.segment(inputs)
        self.assertIs(first, second)
        self.assertIsNot(first, theirs)
        self.assertEqual(first.GetSegmentation().GetNumberOfSegments(), len(spec.regions))
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode"), 1)
        # The user's own node is written only after confirmation, and twice: their segment is kept, ours is added once.
        with self.assertRaisesRegex(InputError, "'mine', which this module did not make"):
            logic.segment(inputs, outputSegmentation=theirs)
        for _run in range(2):
            logic.segment(inputs, outputSegmentation=theirs, confirmed=True)
        self.assertEqual(theirs.GetSegmentation().GetNumberOfSegments(), 1 + len(spec.regions))
        kept = slicer.util.arrayFromSegmentBinaryLabelmap(theirs, spec.regions[0].id, reference)
        np.testing.assert_array_equal(kept, drawn)
        self.assertIs(referenceOf(theirs), other)
        self.assertEqual(theirs.GetSegmentation().GetSegment(spec.regions[0].id).GetName(), "mine")

    def test_linearTransformsAreAppliedAndOthersRefused(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        before = self.drawnLogic().segment(inputs)
        inner = ourSegments(before)[spec.regions[-1].id]
        x, y, z = before.GetSegmentCenterRAS(inner)
        slicer.mrmlScene.RemoveNode(before)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        matrix = vtk.vtkMatrix4x4()  # a quarter turn about S and a shift: (x, y, z) -> (10 - y, x, z + 4)
        for row, values in enumerate(((0, -1, 0, 10), (1, 0, 0, 0), (0, 0, 1, 4))):
            for column, value in enumerate(values):
                matrix.SetElement(row, column, value)
        transform.SetMatrixTransformToParent(matrix)
        for node in inputs.values():
            node.SetAndObserveTransformNodeID(transform.GetID())
        first = volumeFromNode(inputs[spec.limited.modalities[0]])
        np.testing.assert_allclose(first.ijk_to_ras[:3, 3], (10 + 7, 11, 5 + 4))
        after = self.drawnLogic().segment(inputs)
        moved = after.GetSegmentCenterRAS(ourSegments(after)[spec.regions[-1].id])
        np.testing.assert_allclose(moved, (10 - y, x, z + 4), atol=1e-4)
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
        bent.SetAndObserveTransformToParent(self.nonLinearTransform())
        inputs[spec.limited.modalities[0]].SetAndObserveTransformNodeID(bent.GetID())
        with self.assertRaisesRegex(InputError, "non-linear transform 'bent'"):
            self.drawnLogic().segment(inputs)

    def nonLinearTransform(self):
        transform = vtk.vtkThinPlateSplineTransform()
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        for n, point in enumerate(((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10), (10, 10, 10))):
            source.InsertNextPoint(point)
            target.InsertNextPoint([part + (n % 2) for part in point])
        transform.SetSourceLandmarks(source)
        transform.SetTargetLandmarks(target)
        transform.SetBasisToR()
        return transform

    def test_invalidInputsAreRefusedByName(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        first = spec.limited.modalities[0]
        with self.assertRaisesRegex(InputError, f"missing: {first}"):
            self.drawnLogic().segment({**inputs, first: None})
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "no image")
        with self.assertRaisesRegex(InputError, "'no image' holds no image"):
            self.drawnLogic().segment({**inputs, first: empty})
        colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
        image = vtk.vtkImageData()
        image.SetDimensions(4, 4, 4)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        colour.SetAndObserveImageData(image)
        with self.assertRaisesRegex(InputError, "'colour' has 3 values per voxel"):
            self.drawnLogic().segment({**inputs, first: colour})
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_resultIsInTheStudyOfItsVolumeAndShownOverIt(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        study = makeStudy("A patient", "A study", list(inputs.values()))
        output = self.drawnLogic().segment(inputs)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        self.assertEqual(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(output)), study)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.assertEqual(view.GetBackgroundVolumeID(), inputs.get("flair", reference).GetID())
        self.assertTrue(output.GetSegmentation().ContainsRepresentation("Closed surface"))

    def test_onlyOneResultIsVisible(self):
        spec, logic = self.spec(), self.drawnLogic()
        first, second = logic.segment(self.drawnInputs(spec)), logic.segment(self.drawnInputs(spec))
        self.assertFalse(first.GetDisplayVisibility())
        self.assertTrue(second.GetDisplayVisibility())
        showOnly(first)
        self.assertTrue(first.GetDisplayVisibility())
        self.assertFalse(second.GetDisplayVisibility())

    def test_editingASegmentKeepsInnerSegmentsAndUpdatesTheTable(self):
        if not hasattr(slicer, "vtkSlicerSegmentEditorLogic"):
            logging.warning("this Slicer has no logic of the Segment Editor; editing was not tested")
            return
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        output = self.drawnLogic().segment(inputs)
        reference = inputs[spec.limited.modalities[0]]
        openEditor(output)
        self.growSelected(slicer.util.getModuleWidget("SegmentEditor").editor, np.s_[0:5, 0:6, 0:6])
        counts = [int(self.maskOf(output, region, reference).sum()) for region in spec.regions]
        # The block of 5 x 6 x 6 voxels and the corner; inner regions are unchanged from drawnResult.
        self.assertEqual(counts, [181, *(3 * 4 * (4 - n) for n in range(1, len(spec.regions)))])
        self.assertTrue(followEdits(output))
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        self.assertEqual([row.edited for row in rows], [True] + [False] * (len(rows) - 1))
        self.assertAlmostEqual(rows[0].volume, 181 * 0.009, places=6)
        self.assertAlmostEqual(rows[0].modelVolume, 49 * 0.009, places=6)

    def growSelected(self, editor, voxels):
        """Simulate painting through Slicer's own logic, with the editor settings made by the button."""
        choices, logic = editor.mrmlSegmentEditorNode(), slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(choices)
        logic.UpdateReferenceGeometryImage()
        logic.ResetModifierLabelmapToDefault()
        image = logic.GetModifierLabelmap()
        array = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        array.reshape(tuple(reversed(image.GetDimensions())))[voxels] = 1
        image.Modified()
        logic.UpdateMaskLabelmap()
        output, selected = choices.GetSegmentationNode(), choices.GetSelectedSegmentID()
        logic.ModifySegmentByLabelmap(output, selected, image, logic.ModificationModeAdd, False, False)

    def openWindow(self):
        """Open the module's window over the scene, and add volumes named after their modalities."""
        widget = slicer.util.getModuleWidget("DanteSegmenter")
        widget.enter()
        nodes = {modality: self.drawnVolume(modality) for modality in widget.inputsPanel.selectors}
        slicer.app.processEvents()
        for modality, selector in widget.inputsPanel.selectors.items():
            selector.setCurrentNode(nodes[modality])
        self.assertTrue(widget.ui.segmentButton.enabled)
        return widget, nodes

    def test_deletingAVolumeClearsItsSelector(self):
        widget, nodes = self.openWindow()
        first = widget.choices.model.spec.limited.modalities[0]
        slicer.mrmlScene.RemoveNode(nodes.pop(first))
        slicer.app.processEvents()
        self.assertIsNone(widget.inputsPanel.selectors[first].currentNode())
        self.assertIsNone(widget.choices.parameters.inputVolume(first))
        self.assertEqual(widget.choices.inputs(), nodes)
        self.assertFalse(widget.ui.segmentButton.enabled)

    def test_deletingTheResultClearsTheOutputSelector(self):
        widget, nodes = self.openWindow()
        spec = widget.choices.model.spec
        for name in ("before", "after"):
            theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"drawn {name} ours")
            theirs.GetSegmentation().AddEmptySegment("mine", "mine")
            if name == "before":
                output = self.drawnLogic().segment({m: nodes[m] for m in spec.limited.modalities})
        widget.choices.parameters.outputSegmentation = output
        self.assertIs(widget.ui.outputSelector.currentNode(), output)
        slicer.mrmlScene.RemoveNode(output)
        slicer.app.processEvents()
        self.assertIsNone(widget.choices.output())
        self.assertIsNone(widget.ui.outputSelector.currentNode())

    def test_windowFollowsTheParameterNode(self):
        widget = slicer.util.getModuleWidget("DanteSegmenter")
        widget.enter()
        parameters = widget.choices.parameters
        parameters.show3D = False
        self.assertFalse(widget.ui.show3DCheckBox.checked)
        widget.ui.show3DCheckBox.checked = True
        self.assertTrue(parameters.show3D)
        parameters.device = Device.CPU
        self.assertEqual(widget.ui.deviceSelector.currentIndex, list(Device).index(Device.CPU))
        self.assertFalse(widget.ui.segmentButton.enabled)
        modality = widget.choices.model.spec.limited.modalities[0]
        self.assertIn(widget.choices.model.spec.modality(modality).label, widget.ui.segmentButton.toolTip)
        node = self.drawnVolume("anything")
        parameters.setInputVolume(modality, node)
        self.assertIs(widget.inputsPanel.selectors[modality].currentNode(), node)

    def test_chosenDeviceIsKeptWhenAnotherModuleIsVisited(self):
        widget = slicer.util.getModuleWidget("DanteSegmenter")
        widget.enter()
        widget.ui.deviceSelector.currentIndex = list(Device).index(Device.CPU)
        for _visit in range(2):
            widget.exit()
            widget.enter()
            self.assertEqual(widget.choices.parameters.device, Device.CPU)
        self.assertEqual(widget.ui.deviceSelector.currentIndex, list(Device).index(Device.CPU))

    def test_samplePatientIsSegmented(self):
        if not requirements.is_installed(requirements.TORCH):
            logging.warning("torch is not installed: the network itself was not tested")
            return
        nodes = loadSamplePatient(spacingMm=self.SAMPLE_SPACING_MM)
        spec = self.spec()
        output = DanteSegmenterLogic().segment({m: nodes[m] for m in spec.limited.modalities}, device="cpu")
        reference = nodes[spec.limited.modalities[0]]
        masks = [self.maskOf(output, region, reference) for region in spec.regions]
        for outer, inner in zip(masks, masks[1:]):
            self.assertFalse((inner & ~outer).any())
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        for mask, row in zip(masks, rows):
            self.assertAlmostEqual(row[1], mask.sum() * self.SAMPLE_SPACING_MM**3 / 1000, places=3)
        if choose_model(DanteSegmenterLogic().models()).key == "brats-without-t1ce":
            from DanteSegmenterLib.synthetic.sample import brain_mr

            truth = brain_mr(seed=0, spacing_mm=self.SAMPLE_SPACING_MM).labels.array > 0
            self.assertGreater(2 * (masks[0] & truth).sum() / (masks[0].sum() + truth.sum()), 0.5)  # Dice
