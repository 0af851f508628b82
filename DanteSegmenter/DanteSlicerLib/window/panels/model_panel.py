"""The top of the section *Inputs*: the list of models, the button to add one, and a summary of the chosen model."""

import time
from pathlib import Path

import qt
from slicer.i18n import tr as _

from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.library import ModelEntry, find_models
from DanteSegmenterLib.nnunet import ImportProcess
from DanteSlicerLib.window.runner import attempt

IMPORT_POLL_MS = 300


class ModelPanel:
    """Selects the model, and shows the text about it in a separate section.

    During an nnU-Net import, the add button becomes a stop button and the line below the list shows the progress.
    """

    def __init__(self, ui, parent, choices, runner, status, buildBoxes, changed):
        """
        Args:
            parent: of dialogs.
            runner: while it is reserved for several studies, an added model is not selected.
            buildBoxes: called when another model was chosen, before the scene's parameter is set.
            changed: called when another model was chosen and its boxes are built.
        """
        self.ui = ui
        self._parent = parent
        self._choices = choices
        self._runner = runner
        self._status = status
        self._buildBoxes = buildBoxes
        self._changed = changed
        self._models: tuple[ModelEntry, ...] = ()
        self._import: ImportProcess | None = None  # the import in progress
        self._importStarted = 0.0
        self._adding = (ui.addModelButton.text, ui.addModelButton.toolTip)  # of the idle button
        self._timer = qt.QTimer()
        self._timer.setInterval(IMPORT_POLL_MS)
        self._timer.timeout.connect(self.onTick)
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.addModelButton.connect("clicked(bool)", self.onAddModel)

    def close(self):
        """Stop a running import without reporting it."""
        self._timer.stop()
        process, self._import = self._import, None
        if process is not None:
            process.stop()

    def updateModels(self):
        """Fill the list of models and select the scene's; a model that no longer exists is listed as missing."""
        self._models = self._choices.logic.models()
        wanted = self._choices.parameters.model
        if wanted and wanted not in [entry.key for entry in self._models]:
            self._models += find_models([wanted], embedded=Path(wanted))
        with self._choices.change():
            self.ui.modelSelector.clear()
            for entry in self._models:
                self.ui.modelSelector.addItem(entry.title)
            usable = [n for n, entry in enumerate(self._models) if entry.spec]
            chosen = [n for n, entry in enumerate(self._models) if entry.key == wanted]
            self.ui.modelSelector.setCurrentIndex((chosen or usable or [0])[0] if self._models else -1)
        self.onModelChosen()

    def onModelChosen(self, index=None):
        if not self._choices.areByUser():
            return
        index = self.ui.modelSelector.currentIndex
        entry = self._models[index] if 0 <= index < len(self._models) else None
        self._choices.model = entry
        self._buildBoxes()  # before observers are notified: the window reads the boxes of the chosen model
        self._choices.parameters.model = entry.key if entry else ""
        self._changed()

    def onAddModel(self):
        if self.importing:
            self._endImport().stop()
            self._status.show(_("Stopped; no model was added."))
            return
        title = _("A model: its model.json, a zip file, or the plans.json of nnU-Net's results")
        kinds = _("Models (model.json *.zip plans.json)")
        chosen = qt.QFileDialog.getOpenFileName(self._parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt returns the path, PySide a tuple with it
        if path:
            self.addModel(path if path.lower().endswith(".zip") else str(Path(path).parent))

    def addModel(self, folder):
        """Add a folder or zip file and select it, or show an error; an nnU-Net import finishes some seconds later."""
        if not self.importing:
            self.tryToAdd(lambda: self._add(folder))

    def _add(self, folder):
        logic = self._choices.logic
        self._import = logic.beginImport(folder)
        if self._import is None:
            self.choose(logic.addModel(folder))
            return
        self._importStarted = time.monotonic()
        self.ui.addModelButton.text = _("Stop")
        self.ui.addModelButton.toolTip = _("Stop the import; no model is added.")
        self._status.show(_("Importing what nnU-Net trained..."))
        self._timer.start()
        self.onTick()

    @property
    def importing(self):
        return self._import is not None

    def onTick(self):
        """Poll the import."""
        if self._import is None:
            return
        if self._import.running:
            self.ui.modelInfoLabel.text = self.modelInfo()
            return
        process = self._endImport()  # before any dialog, during which the timer would fire again
        try:
            self.tryToAdd(lambda: self.choose(self._choices.logic.rememberModel(process.result())))
        finally:
            process.stop()

    def _endImport(self):
        """Reset the button and the timer; returns the import process."""
        process, self._import = self._import, None
        self._timer.stop()
        self.ui.addModelButton.text, self.ui.addModelButton.toolTip = self._adding
        self.ui.modelInfoLabel.text = self.modelInfo()
        return process

    def choose(self, entry):
        """List an added model and select it, also while another module is shown."""
        inUse = bool(self._runner.reserved)  # several studies keep the model they started with
        if not inUse:
            self._choices.logic.getParameterNode().model = entry.key
        if self._choices.parameters is not None:
            self.updateModels()
        if inUse:
            self._status.show(_("{model} is in the list of models now.").format(model=entry.title))

    def tryToAdd(self, action):
        """Run an action that adds a model; show an error if it fails."""
        attempt(action, self._status.report, _("The model could not be added"))

    def update(self):
        """Update the texts from the chosen model."""
        self.ui.modelInfoLabel.text = self.modelInfo()
        self.ui.aboutLabel.text = about(self._choices.spec) if self._choices.spec else ""
        self.ui.aboutCollapsibleButton.setVisible(bool(self.ui.aboutLabel.text))

    def modelInfo(self):
        if self.importing:
            seconds = time.monotonic() - self._importStarted
            return _("Importing what nnU-Net trained: {seconds:.0f} s so far.").format(seconds=seconds)
        entry, spec = self._choices.model, self._choices.spec
        if spec is None:
            return entry.problem if entry else ""
        regions = ", ".join(region.name for region in spec.regions)
        return _("Finds {regions}. {use}").format(regions=regions, use=spec.intended_use)
