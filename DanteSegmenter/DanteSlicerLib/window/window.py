"""The module's window: its life cycle and the wiring between scene and panels."""

from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from DanteSlicerLib.logic import DanteSegmenterLogic
from DanteSlicerLib.scene.results import MODEL_ATTRIBUTE, inputsOf, resultReference
from DanteSlicerLib.scene.show import showOnly, showStudyInSlices
from DanteSlicerLib.window.choices import Choices
from DanteSlicerLib.window.guesses import Guesses
from DanteSlicerLib.window.panels.host_panel import HostPanel
from DanteSlicerLib.window.panels.inputs_panel import InputsPanel
from DanteSlicerLib.window.panels.model_panel import ModelPanel
from DanteSlicerLib.window.panels.result_panel import ResultPanel
from DanteSlicerLib.window.panels.run_panel import RunPanel, StatusLine
from DanteSlicerLib.window.panels.several_studies_panel import SeveralStudiesPanel
from DanteSlicerLib.window.runner import Runner


class Window(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Panels for the sections of DanteSegmenter.ui; they share choices and runner, and do not know each other.

    choices: the current choices.
    runner: runs segmentations for all panels.
    modelPanel, inputsPanel, hostPanel, runPanel, resultPanel, severalStudies: the panels.
    """

    # Set in `setup`.
    ui: Any
    status: StatusLine
    runner: Runner
    modelPanel: ModelPanel
    inputsPanel: InputsPanel
    hostPanel: HostPanel
    runPanel: RunPanel
    resultPanel: ResultPanel
    severalStudies: SeveralStudiesPanel

    def __init__(self, parent=None):
        self.choices = Choices()
        self.guesses = Guesses(self.choices)
        self._wrapper: Any = None  # of the scene's parameter node; kept while another module is shown
        self._guiTag: int | None = None
        self._shown: Any = None  # the output node that was last shown
        self._followingView = False  # whether boxes are being filled for the patient in view
        self._refreshPlanned = False
        super().__init__(parent)

    @property
    def logic(self):
        """The module's logic; Slicer looks for it here."""
        return self.choices.logic

    @logic.setter
    def logic(self, logic):
        self.choices.logic = logic

    # Life cycle

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DanteSegmenterLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DanteSegmenter.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.outputSelector.setMRMLScene(slicer.mrmlScene)
        self.makePanels()
        self.observeScene()
        self.initializeParameterNode()

    def makePanels(self):
        ui, choices = self.ui, self.choices
        self.status = StatusLine(ui.statusLabel)
        self.runner = Runner(choices)
        self.inputsPanel = InputsPanel(ui, choices, self.guesses, self.updateGui)
        self.modelPanel = ModelPanel(
            ui,
            self.parent,
            choices,
            self.runner,
            self.status,
            self.inputsPanel.buildSelectors,
            self.onModelChanged,
        )
        self.hostPanel = HostPanel(ui, choices, self.updateIfShown)
        self.runPanel = RunPanel(
            ui, choices, self.runner, self.status, self.onStarting, self.hostPanel.used, self.updateIfShown
        )
        self.runner.watcher = self.runPanel
        self.resultPanel = ResultPanel(ui, self.parent, choices, self.updateResult)
        self.severalStudies = SeveralStudiesPanel(
            ui, self.parent, choices, self.runner, self.status, self.onStudyChosen, self.onReserved
        )

    def observeScene(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self.onViewChanged)

    def cleanup(self):
        """End the computing process with the window, on reload or when Slicer exits."""
        self.modelPanel.close()
        self.severalStudies.close()
        self.resultPanel.close()
        self.runner.abandon()
        self.runner.watcher = None  # its widgets are deleted
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def initializeParameterNode(self):
        """Load the scene's choices, and guess the missing ones."""
        wrapper = self.logic.getParameterNode()
        # A connected wrapper keeps an observer for each parameter on its node: reuse it, so that visits do not add
        # more.
        if self._wrapper is None or self._wrapper.parameterNode is not wrapper.parameterNode:
            self._wrapper = wrapper
        self.setParameterNode(self._wrapper)

    def setParameterNode(self, parameterNode):
        choices = self.choices
        if choices.parameters is not None:
            choices.parameters.disconnectGui(self._guiTag)
            self.removeObserver(choices.parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        choices.parameters = parameterNode
        self.guesses.forgetReference()
        if parameterNode is not None:
            self._shown = choices.output()  # as shown by the scene; only a different choice changes the view
            self._guiTag = parameterNode.connectParametersToGui(self.parameterWidgets())
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.modelPanel.updateModels()
            self.guesses.fill()
            self.updateGui()

    def parameterWidgets(self):
        """The widgets bound to a parameter, by parameter name.

        `connectGui` would find them too, but returns no tag to disconnect them (Slicer 5.10): a node still connected
        would be notified when the list of devices is cleared, and take its first entry for the user's choice.
        """
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        return {name: widget for name, widget in named.items() if name}

    # Scene events

    def onSceneStartClose(self, caller, event):
        self.severalStudies.close()
        if self.runner.running:  # its volumes are about to be deleted
            self.runner.abandon()
            self.runPanel.idle()
        self.setParameterNode(None)
        self.guesses.forgetScene()
        self.severalStudies.forgetScene()
        self._shown = None

    def onSceneChanged(self, caller, event):
        self.guesses.forgetManualChoices()
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node=None):
        """Reset the selectors of a node being deleted, which would otherwise switch to another node and signal it."""
        if node is None or slicer.mrmlScene.IsClosing():
            return
        with self.choices.change():
            self.inputsPanel.nodeAboutToBeRemoved(node)
            if self.ui.outputSelector.currentNode() is node:
                if self.choices.parameters is not None:
                    self.choices.parameters.outputSegmentation = None
                self.ui.outputSelector.setCurrentNode(None)

    def onNodesChanged(self, caller, event):
        """Volumes were added or removed. Nodes get name and image after this event, so refresh once, a moment later."""
        if not self._refreshPlanned:
            self._refreshPlanned = True
            qt.QTimer.singleShot(0, self.onRefresh)

    def onViewChanged(self, caller, event):
        """The view may show another patient; views change one after the other, so refresh once, a moment later."""
        if self.guesses.viewHasChanged():
            self.onNodesChanged(caller, event)

    def onRefresh(self):
        self._refreshPlanned = False
        if self.choices.parameters is not None and not self.runner.running:
            self._followingView = True
            try:
                self.guesses.fill()
                self.updateGui()
            finally:
                self._followingView = False

    def onParametersModified(self, caller=None, event=None):
        if self.choices.areByUser():
            self.updateGui()

    # Panel events

    def onModelChanged(self):
        self.guesses.fill()
        self.updateGui()
        self.severalStudies.refresh()

    def updateIfShown(self):
        if self.choices.parameters is not None:
            self.updateGui()

    def onStarting(self):
        self.severalStudies.updateButton()

    def onStudyChosen(self, inputs):
        self.guesses.chooseVolumes(inputs)
        self.updateGui()

    def onReserved(self):
        """Several studies start or end; the status of the last result is kept."""
        if self.choices.parameters is not None:
            self.runPanel.updateButton()
            self.updateResult()

    def updateGui(self):
        """Update every panel from the parameter node and the scene."""
        self.modelPanel.update()
        self.inputsPanel.update()
        self.runPanel.updateButton()
        self.updateResult()
        self.showChosen()
        self.runPanel.updateWarning()
        self.severalStudies.refresh(lookIntoFolder=False)  # slow for large folders, unaffected by choices above

    def updateResult(self):
        self.resultPanel.update()
        self.runPanel.showDone()

    def showChosen(self):
        """Show the chosen result with its input volumes, and hide results for other volumes."""
        output = self.choices.output()
        if output is self._shown:
            return
        self._shown = output
        if output is None or not output.GetAttribute(MODEL_ATTRIBUTE):
            return
        reference = resultReference(output)
        inputs = inputsOf(output)
        if reference is not self.choices.referenceVolume() and reference in inputs.values():
            # A result chosen while several studies run was not chosen by the user.
            self.guesses.chooseVolumes(inputs, byHand=not self.runner.reserved)
            self.updateGui()
        showOnly(output)
        if reference is not None and not self._followingView:  # otherwise keep what the user just selected
            showStudyInSlices(inputs, reference)
