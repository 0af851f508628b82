"""The module's panel."""

from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from DanteSegmenterLib.errors import Cancelled, DanteError, InputError
from DanteSegmenterLib.model_about import about
from DanteSegmenterLib.model_folder import choose_pathway
from DanteSegmenterLib.model_list import find_models
from DanteSegmenterLib.regions import shows_whole_head
from DanteSlicerLib.logic import POLL_MS, DanteSegmenterLogic, ImmediateInference
from DanteSlicerLib.parameters import inWindowWords
from DanteSlicerLib.sample_data import loadSamplePatient
from DanteSlicerLib.scene.overlays import showPrepared, showsPrepared, wasPrepared
from DanteSlicerLib.scene.read_nodes import volumeFromNode
from DanteSlicerLib.scene.results import (
    MODEL_ATTRIBUTE,
    inputsOf,
    ourResults,
    previousResult,
    resultReference,
    usersWork,
)
from DanteSlicerLib.scene.segments import otherSegments, ourSegments
from DanteSlicerLib.scene.show import fillOf, openEditor, setFill, showOnly, showStudyInSlices
from DanteSlicerLib.scene.studies import isLeftOut, studyOf, usedModalities, volumeInView, volumeNodes, volumesBeside
from DanteSlicerLib.scene.volumes_table import TABLE_ROLE, EditWatch, readTable, saveTable
from DanteSlicerLib.scene.write_result import partsOfReport
from DanteSlicerLib.window.several_studies_panel import BatchPanel

MODEL_COLUMN = 4  # of the window's table: the model's own volume, shown beside an edited one
PAUSE_MS = 1  # between two steps of a result into the scene: whatever waits for the window has its turn
ERROR_COLOR = "#c0392b"
WARNING_STYLE = "#warningFrame { background: #fff3cd; border: 1px solid #d39e00; border-radius: 3px; }"
WARNING_TEXT_STYLE = "color: #664d03;"  # readable on that ground, also where Slicer is dark
ICON_SIZE = 16
ROW_HEIGHT = 24


class DanteSegmenterWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel."""

    def __init__(self, parent=None):
        self.logic = None
        self.ui = None
        self._parameterNode = None
        self._guiTag = None
        self._models = ()
        self._inputRows = None
        self._inputSelectors = {}
        self._guessLabels = {}
        self._offerLabels = {}
        self._inView = None  # the volume that the slices showed when the boxes were filled
        self._wholeHeads = {}
        self._followingView = False  # whether boxes are being filled for the patient in view
        self._shown = None  # the output node that was shown last
        self._reference = None  # the volume whose result was looked for last
        self._passedOver = {}  # modality -> ids of volumes that were there when the chosen one was deleted
        self._guessed = {}  # modality -> id of the node that was put there by guess
        self._chosenByHand = set()
        self._updating = False
        self._refreshPlanned = False
        self._job = None  # the run that is going on
        self._steps = None  # what is left to do of putting its result into the scene
        self._timer = None
        self.batch = None  # several studies
        self.edits = None  # corrections by hand
        super().__init__(parent)

    # Life cycle

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DanteSegmenterLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DanteSegmenter.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.outputSelector.setMRMLScene(slicer.mrmlScene)
        self.ui.maskSelector.setMRMLScene(slicer.mrmlScene)
        self.ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onMaskChosen)
        self.ui.modalitiesFrame.setLayout(qt.QVBoxLayout())
        self.ui.modalitiesFrame.layout().setContentsMargins(0, 0, 0, 0)
        self.ui.volumesTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.ui.volumesTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3, MODEL_COLUMN):
            self.ui.volumesTable.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.addModelButton.connect("clicked(bool)", self.onAddModel)
        self.ui.sampleLabel.connect("linkActivated(QString)", self.onLoadSample)
        self.ui.warningFrame.setStyleSheet(WARNING_STYLE)
        self.ui.warningLabel.setStyleSheet(WARNING_TEXT_STYLE)
        icon = qt.QApplication.style().standardIcon(qt.QStyle.SP_MessageBoxWarning)
        self.ui.warningIcon.setPixmap(icon.pixmap(ICON_SIZE, ICON_SIZE))
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.saveTableButton.connect("clicked(bool)", self.onSaveTable)
        self.ui.editButton.connect("clicked(bool)", self.onEdit)
        self.ui.preparedButton.connect("clicked(bool)", self.onShowPrepared)
        self.ui.fillSlider.connect("valueChanged(int)", self.onFill)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.onTick)
        self.batch = BatchPanel(self)
        self.edits = EditWatch(self.onEdited)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeLeaves)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self.onViewChanged)
        self.initializeParameterNode()

    def cleanup(self):
        """Reload, or the end of Slicer: the computing process ends with the window."""
        self._timer.stop()
        self._job = self._steps = None
        self.batch.close()
        self.edits.close()
        self.logic.inference.close()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.batch.close()
        if self._job is not None:  # its volumes are about to go
            self.logic.inference.close()
            self.stopRunning()
        self.setParameterNode(None)

    def onSceneChanged(self, caller, event):
        self._chosenByHand.clear()
        self._passedOver.clear()
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeLeaves(self, caller, event, node=None):
        """Empty the boxes of a node that is being deleted, before they move on to another with a choice's signal."""
        if node is None or slicer.mrmlScene.IsClosing():
            return
        self._updating = True
        parameters = self._parameterNode  # None while another module is shown: the scene empties what is saved
        for modality, selector in self._inputSelectors.items():
            if selector.currentNode() is node:
                if parameters is not None:
                    parameters.setInputVolume(modality, None)
                selector.setCurrentNode(None)
                # Nobody chose the empty box; a volume that comes may be guessed, but none that was there already.
                self._chosenByHand.discard(modality)
                self._guessed.pop(modality, None)
                self._passedOver[modality] = {volume.GetID() for volume in volumeNodes()}
        if self.ui.maskSelector.currentNode() is node:
            if parameters is not None:
                parameters.setBrainMask(None)
            self.ui.maskSelector.setCurrentNode(None)
        if self.ui.outputSelector.currentNode() is node:
            if parameters is not None:
                parameters.outputSegmentation = None
            self.ui.outputSelector.setCurrentNode(None)
        self._updating = False

    def onNodesChanged(self, caller, event):
        """Volumes came or went. Nodes get their name and image after this event, so look a moment later, once."""
        if not self._refreshPlanned:
            self._refreshPlanned = True
            qt.QTimer.singleShot(0, self.onRefresh)

    def onViewChanged(self, caller, event):
        """Perhaps another patient is looked at; the views change one after the other, so look a moment later, once."""
        if volumeInView() is not self._inView:
            self.onNodesChanged(caller, event)

    def onRefresh(self):
        self._refreshPlanned = False
        if self._parameterNode is not None and not self.isRunning():
            self._followingView = True
            try:
                self.guessInputs()
                self.updateGui()
            finally:
                self._followingView = False

    def initializeParameterNode(self):
        """Take up the scene's choices, and guess what is not chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameterNode
        self._reference = None
        if parameterNode is not None:
            self._shown = self.output()  # as the scene shows it; only another choice changes that
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.updateModels()
            self.guessInputs()
            self.updateGui()

    def onParametersModified(self, caller=None, event=None):
        if not self._updating and self._parameterNode is not None:
            self.updateGui()

    # Model

    def model(self):
        """The chosen model's entry, or None."""
        index = self.ui.modelSelector.currentIndex
        return self._models[index] if 0 <= index < len(self._models) else None

    def updateModels(self):
        """Fill the list of models and select the scene's; one that is not there any more is listed as missing."""
        self._models = self.logic.models()
        wanted = self._parameterNode.model
        if wanted and wanted not in [entry.key for entry in self._models]:
            self._models += find_models([wanted], embedded=Path(wanted))
        self._updating = True
        self.ui.modelSelector.clear()
        for entry in self._models:
            self.ui.modelSelector.addItem(entry.title)
        usable = [n for n, entry in enumerate(self._models) if entry.spec]
        chosen = [n for n, entry in enumerate(self._models) if entry.key == wanted]
        self.ui.modelSelector.setCurrentIndex((chosen or usable or [0])[0] if self._models else -1)
        self._updating = False
        self.onModelChosen()

    def onModelChosen(self, index=None):
        if self._updating or self._parameterNode is None:
            return
        entry = self.model()
        self._parameterNode.model = entry.key if entry else ""
        self.buildInputSelectors()
        self.guessInputs()
        self.updateGui()
        self.batch.refresh()

    def onAddModel(self):
        title, kinds = _("A model: its model.json, or a zip file"), _("Models (model.json *.zip)")
        chosen = qt.QFileDialog.getOpenFileName(self.parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt gives the path alone, PySide also the kind
        if path:
            self.addModel(path if path.lower().endswith(".zip") else str(Path(path).parent))

    def addModel(self, folder):
        """Add a folder or zip file to the list and choose it, or say why not."""
        try:
            self._parameterNode.model = self.logic.addModel(folder).key
        except DanteError as error:
            self.showError(str(error))
            return
        self.updateModels()

    # Inputs

    def buildInputSelectors(self):
        """One row for every modality of the model: label, node selector, and a word where the choice is a guess."""
        if self._inputRows is not None:
            self._inputRows.setParent(None)
            self._inputRows.deleteLater()
        self._inputRows = qt.QWidget()
        self.ui.modalitiesFrame.layout().addWidget(self._inputRows)
        layout = qt.QFormLayout(self._inputRows)
        layout.setContentsMargins(0, 0, 0, 0)
        self._inputSelectors, self._guessLabels, self._offerLabels = {}, {}, {}
        entry = self.model()
        for modality in usedModalities(entry.spec) if entry and entry.spec else ():
            needed = modality.id in entry.spec.limited.modalities
            selector = self.makeInputSelector(modality.id)
            guess = qt.QLabel(_("guessed"))
            guess.setStyleSheet("color: gray; font-style: italic;")
            guess.setToolTip(_("Taken from the volume's name. Choose another volume if it is the wrong one."))
            guess.setVisible(False)
            row = qt.QHBoxLayout()
            row.addWidget(selector, 1)
            row.addWidget(guess)
            if modality.id == entry.spec.privileged:
                self._offerLabels[modality.id] = offer = qt.QLabel(f'<a href="use">{_("use it")}</a>')
                offer.connect("linkActivated(QString)", self.offerTaken(modality.id))
                offer.setVisible(False)
                row.addWidget(offer)
            layout.addRow((_("{label}:") if needed else _("{label} (optional):")).format(label=modality.label), row)
            self._inputSelectors[modality.id], self._guessLabels[modality.id] = selector, guess

    def makeInputSelector(self, modality):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False  # no label maps, no vector volumes
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.selectNodeUponCreation = False
        selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)  # a long name must not widen the panel
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setCurrentNode(self._parameterNode.inputVolume(modality))
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self.inputChosen(modality))
        return selector

    def inputChosen(self, modality):
        """What to do when the user chooses a volume for `modality`."""

        def chosen(node):
            if self._updating or self._parameterNode is None:
                return
            self._chosenByHand.add(modality)
            self._guessed.pop(modality, None)
            self._parameterNode.setInputVolume(modality, node)
            self.followReference()
            self.updateGui()

        return chosen

    def offerTaken(self, modality):
        """What to do when the user wants the volume too that is loaded and left out."""

        def taken(link=None):
            node = self.offered(modality)
            if node is not None:
                self._inputSelectors[modality].setCurrentNode(node)

        return taken

    def offered(self, modality):
        """The volume for an empty box of the decisive scan that lies beside those in the other boxes, or None."""
        chosen = list(self.inputs().values())
        if self._parameterNode.inputVolume(modality) is not None or not chosen:
            return None
        node = self.logic.guessInputs(list(self._inputSelectors), volumesBeside(chosen[0], volumeNodes()))[modality]
        return None if node in chosen else node

    def onMaskChosen(self, node):
        if not self._updating and self._parameterNode is not None:
            self._parameterNode.setBrainMask(node)

    def guessInputs(self):
        """Fill the empty boxes that the user has not emptied, with volumes of one patient that are not used yet."""
        candidates = self.candidates()
        used = [self._parameterNode.inputVolume(modality) for modality in self._inputSelectors]
        empty = [modality for modality, node in zip(self._inputSelectors, used) if node is None]
        free = [node for node in candidates if node not in used]
        wanted = [modality for modality in empty if modality not in self._chosenByHand]
        for modality, node in self.logic.guessInputs(wanted, free).items():
            if node is None or isLeftOut(self.model().spec, modality, node):
                continue
            if node.GetID() not in self._passedOver.get(modality, ()):
                self._guessed[modality] = node.GetID()
                self._parameterNode.setInputVolume(modality, node)
        self.followReference()

    def candidates(self):
        """The volumes to fill the boxes from, all of one patient where that can be told.

        Boxes that were filled by a guess for another patient are emptied: they follow what the user looks at.
        """
        self._inView = volumeInView()
        filled = {m: node for m in self._inputSelectors if (node := self._parameterNode.inputVolume(m)) is not None}
        guessed = {modality: node for modality, node in filled.items() if self._guessed.get(modality) == node.GetID()}
        chosen = [node for modality, node in filled.items() if modality not in guessed]
        nodes = self.ofOnePatient(chosen, self._inView, list(filled.values()))
        others = [modality for modality, node in guessed.items() if node not in nodes]
        for modality in others:
            self._guessed.pop(modality)
            self._parameterNode.setInputVolume(modality, None)
        if others:
            self._passedOver.clear()
        return nodes

    def ofOnePatient(self, chosen, inView, filled):
        """Volumes of the chosen ones' patient, or of the one in view, if all is there that the model needs.

        Otherwise of the study that the boxes hold already, and of none; all of them where the boxes are empty.
        """
        nodes, entry = volumeNodes(), self.model()
        anchors = [node for node in (*chosen, inView, *filled) if node is not None]
        if not anchors or entry is None or entry.spec is None:
            return nodes
        beside = volumesBeside(anchors[0], nodes)
        found = self.logic.guessInputs(list(self._inputSelectors), beside)
        if all(found[modality] is not None for modality in entry.spec.limited.modalities):
            return beside
        study = studyOf((filled or anchors)[0])[0]
        return [node for node in nodes if not study or studyOf(node)[0] in (0, study)]

    def followReference(self):
        """Take up the result of the chosen volumes, and let go of another patient's: it must not be written over."""
        output, reference = self.output(), self.referenceVolume()
        another, self._reference = reference is not self._reference, reference
        if reference is None or (output is None and not another):
            return
        if output is not None and (not output.GetAttribute(MODEL_ATTRIBUTE) or otherSegments(output)):
            return
        if output is None or resultReference(output) is not reference:
            self._parameterNode.outputSegmentation = previousResult(reference, self.model().spec)

    def chooseVolumes(self, inputs, byHand=True):
        """Put a study's volumes into the boxes, as the user's choice or as a guess; its result is shown, if any."""
        self._updating = True  # the boxes change together
        for modality in self._inputSelectors:
            self._chosenByHand.discard(modality)
            self._guessed.pop(modality, None)
            if byHand:
                self._chosenByHand.add(modality)
            elif modality in inputs:
                self._guessed[modality] = inputs[modality].GetID()
            self._parameterNode.setInputVolume(modality, inputs.get(modality))
        self._updating = False
        self.followReference()
        self.updateGui()

    def showChosen(self):
        """Show the result that was chosen, with the volumes it was made from, and hide those of other volumes."""
        output = self.output()
        if output is self._shown:
            return
        self._shown = output
        if output is None or not output.GetAttribute(MODEL_ATTRIBUTE):
            return
        reference = resultReference(output)
        inputs = inputsOf(output)
        if reference is not self.referenceVolume() and reference in inputs.values():
            self.chooseVolumes(inputs, byHand=not self.batch.running)
        showOnly(output)
        if reference is not None and not self._followingView:  # what the user has just put there stays
            showStudyInSlices(inputs, reference)

    def inputs(self):
        """The chosen volume nodes by modality id, without the empty ones."""
        nodes = {modality: self._parameterNode.inputVolume(modality) for modality in self._inputSelectors}
        return {modality: node for modality, node in nodes.items() if node is not None}

    def referenceVolume(self):
        """The volume on whose grid the result will be, or None while it is not chosen."""
        entry, inputs = self.model(), self.inputs()
        if entry is None or entry.spec is None:
            return None
        missing = set(entry.spec.limited.modalities) - set(inputs)
        pathway = entry.spec.limited if missing else choose_pathway(entry.spec, inputs)[0]
        return inputs.get(pathway.modalities[0])

    # State of the panel

    def output(self):
        """The chosen output node; None if there is none, or it was deleted meanwhile."""
        node = self._parameterNode.outputSegmentation
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def whatIsMissing(self):
        """Why Segment cannot run; empty if it can."""
        entry = self.model()
        if entry is None:
            return _("There is no model. Add a model folder with the button beside the list.")
        if entry.spec is None:
            return entry.problem
        inputs = self.inputs()
        missing = [entry.spec.modality(m).label for m in entry.spec.limited.modalities if m not in inputs]
        if missing:
            return _("Choose the volumes for: {missing}.").format(missing=", ".join(missing))
        for node in inputs.values():
            twins = [entry.spec.modality(m).label for m, other in inputs.items() if other is node]
            if len(twins) > 1:
                return _("'{name}' is chosen for {labels}; each needs a volume of its own.").format(
                    name=node.GetName(), labels=_(" and ").join(twins)
                )
        return ""

    def updateGui(self):
        """Bring every part of the panel into agreement with the parameter node and the scene."""
        self._updating = True
        for modality, selector in self._inputSelectors.items():
            node = self._parameterNode.inputVolume(modality)
            selector.setCurrentNode(node)
            guessed = node is not None and self._guessed.get(modality) == node.GetID()
            self._guessLabels[modality].setVisible(guessed)
        for modality, label in self._offerLabels.items():
            offered = self.offered(modality)
            label.setVisible(offered is not None)
            if offered is not None:
                hint = _("'{name}' is loaded and not used. Click to use it too; the model has a network for that.")
                label.setToolTip(hint.format(name=offered.GetName()))
        self._updating = False
        entry = self.model()
        self.updatePrepare(entry)
        self._updating = True
        self.ui.maskSelector.setCurrentNode(self._parameterNode.brainMask())
        self._updating = False
        self.ui.maskFrame.setVisible(bool(self._parameterNode.prepare))
        self.ui.modelInfoLabel.text = self.modelInfo(entry)
        self.ui.aboutLabel.text = about(entry.spec) if entry and entry.spec else ""
        self.ui.aboutCollapsibleButton.setVisible(bool(self.ui.aboutLabel.text))
        self.ui.sampleLabel.setVisible(not volumeNodes())
        self.updateButton()
        self.updateResult()
        self.showChosen()
        self.updateWarning()
        self.batch.refresh(lookIntoFolder=False)  # a large one takes seconds, and no choice above changes it

    def updatePrepare(self, entry):
        """*Prepare* can be ticked for a model that reads brains without skull, and is off for any other."""
        able = entry is not None and entry.spec is not None and entry.spec.skull_stripped
        if not able and self._parameterNode.prepare and entry is not None and entry.spec is not None:
            self._updating = True
            self._parameterNode.prepare = False
            self._updating = False
        self.ui.prepareCheckBox.enabled = able
        self.ui.prepareCheckBox.toolTip = (
            _(
                "For studies as they come from the scanner: every volume is aligned with the first, and the brain is "
                "cut out of the head (deepbet)."
            )
            if able
            else _("The chosen model does not read MR of the brain: there is nothing to align or to cut out for it.")
        )

    def whatLooksRaw(self):
        """Why the chosen volumes should be prepared first; empty if they need not."""
        entry = self.model()
        if entry is None or entry.spec is None or not entry.spec.skull_stripped:
            return ""
        heads = [node.GetName() for node in self.inputs().values() if self.showsWholeHead(node)]
        if not heads:
            return ""
        return _("{names}: a whole head, not a brain without skull. Tick 'Prepare'.").format(names=", ".join(heads))

    def showsWholeHead(self, node):
        """Looked at once for every image: counting its voxels takes some milliseconds."""
        key = (node.GetID(), node.GetImageData().GetMTime() if node.GetImageData() else 0)
        if key not in self._wholeHeads:
            try:
                self._wholeHeads[key] = shows_whole_head(volumeFromNode(node))
            except InputError:
                self._wholeHeads[key] = False  # Segment will say what is wrong with it
        return self._wholeHeads[key]

    def modelInfo(self, entry):
        if entry is None or entry.spec is None:
            return entry.problem if entry else ""
        regions = ", ".join(region.name for region in entry.spec.regions)
        return _("Finds {regions}. {use}").format(regions=regions, use=entry.spec.intended_use)

    def updateButton(self):
        missing = self.whatIsMissing()
        self.ui.segmentButton.enabled = not missing and not self.isRunning() and not self.batch.running
        waiting = _("Several studies are being segmented.") if self.batch.running else ""
        self.ui.segmentButton.toolTip = missing or waiting or _("Segment the chosen volumes.")
        if not self.isRunning():
            self.showStatus(missing)

    def onFill(self, percent):
        """One place for all results, those that are shown and those to come."""
        if not self._updating and self._parameterNode is not None:
            self._updating = True  # nothing else in the window follows from it
            self._parameterNode.fill = percent / 100
            self._updating = False
            for output in ourResults():
                setFill(output, percent / 100)

    def updateResult(self):
        """The table, and the words about the last run, of the chosen output node."""
        output = self.output()
        updating, self._updating = self._updating, True
        if output is not None:
            self.ui.fillSlider.value = round(100 * fillOf(output))
        self._updating = updating
        table = output.GetNodeReference(TABLE_ROLE) if output else None
        rows = readTable(table)
        segments = [output.GetSegmentation().GetSegment(i) for i in ourSegments(output).values()] if output else []
        self.fillTable(rows, [segment.GetColor() for segment in segments])
        self.ui.volumesCollapsibleButton.setVisible(bool(rows))
        self.ui.preparedButton.setVisible(wasPrepared(output))
        self.ui.preparedButton.checked = showsPrepared(output)
        done, _warnings, notes = partsOfReport(output)
        self.ui.notesLabel.text = "\n".join(notes)
        self.ui.notesLabel.setVisible(bool(notes))
        if done and not self.isRunning() and not self.whatIsMissing():
            self.showStatus(done)

    def updateWarning(self):
        """The first thing below Segment: what speaks against the shown result, or against the chosen volumes."""
        raw = "" if self._parameterNode.prepare else self.whatLooksRaw()
        _done, warnings, _notes = partsOfReport(self.output())
        text = "" if self.isRunning() else "\n".join(warnings) or raw
        self.ui.warningLabel.text = text
        self.ui.warningFrame.setVisible(bool(text))

    def onEdited(self):
        """Segments were corrected by hand and the tables have followed."""
        if self._parameterNode is not None:
            self.updateResult()

    def fillTable(self, rows, colors):
        table = self.ui.volumesTable
        table.setRowCount(len(rows))
        table.setColumnHidden(MODEL_COLUMN, not any(row.edited for row in rows))
        for n, row in enumerate(rows):
            table.setItem(n, 0, qt.QTableWidgetItem(row.name))
            volume = _("{volume:.1f} edited") if row.edited else "{volume:.1f}"
            texts = (
                volume.format(volume=row.volume),
                f"{row.low:.1f} - {row.high:.1f}",
                "" if row.sure != row.sure else f"{100 * row.sure:.0f} %",
                f"{row.modelVolume:.1f}",
            )
            for column, text in enumerate(texts, start=1):
                item = qt.QTableWidgetItem(text)
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(n, column, item)
            if n < len(colors):
                red, green, blue = (int(255 * part) for part in colors[n])
                pixmap = qt.QPixmap(12, 12)
                pixmap.fill(qt.QColor(red, green, blue))
                table.item(n, 0).setIcon(qt.QIcon(pixmap))
        # As high as its rows, so that nothing has to be scrolled and nothing is left empty.
        table.setFixedHeight(ROW_HEIGHT * (len(rows) + 1) + 8)

    def showStatus(self, text, color="gray"):
        self.ui.statusLabel.styleSheet = f"color: {color};"
        self.ui.statusLabel.text = text

    def showError(self, message):
        """Say what went wrong, in the panel, in a dialog and in the log."""
        self.showStatus(message, ERROR_COLOR)
        slicer.util.errorDisplay(message, windowTitle=_("DANTE Segmenter"))

    # Doing

    def onLoadSample(self, link=None):
        with slicer.util.tryWithErrorDisplay(_("The sample patient could not be made."), waitCursor=True):
            loadSamplePatient()

    def onSaveTable(self, checked=False):
        title, kinds = _("Save the table"), _("Comma-separated values (*.csv)")
        chosen = qt.QFileDialog.getSaveFileName(self.parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt gives the path alone, PySide also the kind
        if path:
            with slicer.util.tryWithErrorDisplay(_("The table could not be saved.")):
                self.edits.follow()
                saveTable(self.output().GetNodeReference(TABLE_ROLE), path)

    def onShowPrepared(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("What Prepare did could not be shown.")):
            showPrepared(self.output(), not showsPrepared(self.output()))
            self.updateResult()

    def onEdit(self, checked=False):
        """Open Slicer's Segment Editor on the result."""
        with slicer.util.tryWithErrorDisplay(_("The Segment Editor could not be opened.")):
            openEditor(self.output())

    def isRunning(self):
        return self._job is not None

    def onSegment(self, checked=False):
        if self.isRunning() or self.batch.running or self.whatIsMissing():
            return
        work = usersWork(self.output()) if self.output() else ""
        if work and not self.asked(work):
            self.showStatus(_("Nothing was changed. Choose another output segmentation, or (new segmentation)."))
            return
        self.runJob(self.inputs(), self.output(), self._parameterNode.brainMask())

    def asked(self, work):
        """Whether the user lets the result be written where there is work of their own."""
        question = work + _(" Go on?")
        return slicer.util.confirmYesNoDisplay(question, windowTitle=_("DANTE Segmenter"))

    def runJob(self, inputs, output=None, brainMask=None):
        """Begin to segment volumes with the choices of the window, also while another module is shown."""
        parameters = self.logic.getParameterNode()
        self.showStatus(_("Starting..."))
        self.attempt(
            lambda: self.startRunning(
                self.logic.begin(
                    inputs,
                    model=self.model().folder,
                    device=parameters.device.value,
                    outputSegmentation=output,
                    showProbabilities=parameters.showProbabilities,
                    mirror=parameters.mirror,
                    prepare=parameters.prepare,
                    brainMask=brainMask,
                    confirmed=True,  # `output` was chosen, and asked about, by the user
                )
            )
        )
        if self.isRunning():
            self.onTick()

    def onCancel(self, checked=False):
        if self.isRunning() and self._steps is None:
            self.ui.cancelButton.enabled = False
            self.showStatus(_("Stopping..."))
            self.logic.inference.cancel()

    def onTick(self):
        """Called every few milliseconds while a run is going on: each time a little is done."""
        if self.isRunning():
            self.attempt(self.tick)
        if self.isRunning():  # counted from now: a timer that is late comes twice before others come once
            self._timer.start(POLL_MS if self._steps is None else PAUSE_MS)

    def tick(self):
        if self._steps is None:
            news, outcome = self.logic.inference.poll()
            if news is not None:
                self.showProgress(news)
            if isinstance(outcome, DanteError):
                raise outcome
            if outcome is None:
                return
            self.ui.cancelButton.enabled = False
            show3D = self.logic.getParameterNode().show3D
            self._steps = self.logic.finish(self._job, outcome, show3D)
            if not isinstance(self.logic.inference, ImmediateInference):
                return
        # Computed at once is finished at once; otherwise a step at a time.
        for _step in self._steps:
            if not isinstance(self.logic.inference, ImmediateInference):
                return
        parameters = self.logic.getParameterNode()
        if self.batch.running and self._parameterNode is None:  # another module is shown; the boxes follow there too
            for modality in self._job.entry.spec.modalities:
                parameters.setInputVolume(modality.id, self._job.inputs.get(modality.id))
        parameters.outputSegmentation = self._job.output
        self.stopRunning()
        self.batch.ended()

    def attempt(self, action):
        """Do something, and come to rest with an explanation if it fails."""
        refusal, defect = None, None
        try:
            with slicer.util.tryWithErrorDisplay(_("The segmentation failed.")):
                try:
                    action()
                except Cancelled:
                    refusal = Cancelled(_("Stopped; nothing was changed."))
                except DanteError as error:
                    refusal = type(error)(inWindowWords(str(error)))
        except Exception as error:  # a defect; tryWithErrorDisplay has shown and logged it with its traceback
            defect = _("The segmentation failed: {error}").format(error=error)
            raise
        finally:
            if refusal is not None or defect:
                self.stopRunning()
            if defect:
                self.showStatus(defect, ERROR_COLOR)
            if isinstance(refusal, Cancelled):
                self.showStatus(str(refusal))
            elif refusal is not None and self.batch.running:
                self.showStatus(str(refusal), ERROR_COLOR)  # no dialog: the rest goes on
            elif refusal is not None:
                self.showError(str(refusal))
            if refusal is not None or defect:
                self.batch.ended(refusal or defect)

    def startRunning(self, job):
        self._job = job
        self.ui.warningFrame.setVisible(False)  # it spoke of the result before
        self.ui.segmentButton.enabled = False
        self.ui.cancelButton.enabled = True
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.ui.cancelButton.visible = True
        self._timer.start()

    def showProgress(self, progress):
        if not self.ui.cancelButton.enabled:
            return  # stopping
        self.ui.progressBar.value = int(100 * progress.fraction)
        left = progress.seconds_left
        rest = "" if left is None else _(", about {seconds:.0f} s left").format(seconds=left)
        self.showStatus(progress.message + rest)

    def stopRunning(self):
        """At rest again, with whatever the scene now holds."""
        self._timer.stop()
        self._job = self._steps = None
        self.ui.progressBar.visible = False
        self.ui.cancelButton.visible = False
        if self._parameterNode is not None:
            self.updateGui()
