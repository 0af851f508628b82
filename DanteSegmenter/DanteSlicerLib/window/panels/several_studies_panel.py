"""The section *Several studies*: one run per study of the scene, or a batch process for a folder of cases."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.guard.plain_text import LONG, csv_cell, one_line
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.worker.outcome import HostFailed
from DanteSlicerLib.foreign_texts import toolTip
from DanteSlicerLib.installing import BATCH_PACKAGES, ensureBrainFinder, ensureDependencies, ensurePackages
from DanteSlicerLib.scene.studies import SceneStudy
from DanteSlicerLib.window.runner import attempt

if TYPE_CHECKING:  # Slicer imports this file when it starts, and the room `batch` loads SimpleITK
    from DanteSegmenterLib.batch.process import BatchProcess

BATCH_POLL_MS = 300


class SeveralStudiesPanel:
    """Segments several studies in sequence: those of the scene through the runner, or a folder in a batch process.

    Failures are shown in the table and do not stop the remaining studies.
    """

    SCENE, FOLDER = 0, 1

    def __init__(self, ui, parent, choices, runner, status, studyChosen, reserved):
        """
        Args:
            parent: of dialogs.
            studyChosen: called with the volumes of a study that the user wants to see.
            reserved: called when this panel reserves or releases the runner.
        """
        self.ui = ui
        self._parent = parent
        self._choices = choices
        self._runner = runner
        self._status = status
        self._studyChosen = studyChosen
        self._notifyReserved = reserved
        self.folder: Path | None = None
        self.out: Path | None = None
        self._queue: list[int] | None = None  # remaining rows of the scene's studies
        self._studies: list[SceneStudy] = []
        self._names: list[str] = []  # of the rows, verbatim; the table shows a printable form
        self._row: int | None = None  # the row being processed
        self._process: BatchProcess | None = None
        self._starting = False  # whether packages are being installed for the process
        self._givenUp = False  # whether the start was abandoned during the installation
        self._able = False  # whether there is anything to run
        self._timer = qt.QTimer()
        self._timer.setInterval(BATCH_POLL_MS)
        self._timer.timeout.connect(self.onTick)
        header = self.ui.batchTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        self.ui.batchSourceSelector.connect("currentIndexChanged(int)", self.onSource)
        self.ui.batchFolderButton.connect("clicked(bool)", self.onFolder)
        self.ui.batchOutButton.connect("clicked(bool)", self.onOut)
        self.ui.batchButton.connect("clicked(bool)", self.onButton)
        self.ui.batchTable.connect("cellClicked(int,int)", self.onRow)
        self.refresh()

    @property
    def running(self) -> bool:
        return self._starting or self._queue is not None or self._process is not None

    def close(self):
        """Stop the current work; finished studies are kept."""
        self._givenUp = True
        if not self._starting:  # keep others waiting for the installation: two at once would break each other
            self._runner.reserved = ""
        self._timer.stop()
        self._queue = self._row = None
        if self._process is not None:
            self._process.stop()
            self._process = None

    def forgetScene(self):
        """Release the nodes of a scene that closes, which would keep its images in memory."""
        self._studies = []

    # Preview

    def refresh(self, lookIntoFolder=True):
        """Update the buttons and the table from the scene and the chosen folders."""
        if self.running:
            return
        fromFolder = self.ui.batchSourceSelector.currentIndex == self.FOLDER
        if fromFolder and not lookIntoFolder:
            self.updateButton()
            return
        for button, path, empty in (
            (self.ui.batchFolderButton, self.folder, _("Choose the folder of cases...")),
            (self.ui.batchOutButton, self.out, _("Choose the folder for results...")),
        ):
            button.setVisible(fromFolder)
            button.text = one_line(path, LONG) if path else empty
        rows, self._able = self.folderRows() if fromFolder else self.sceneRows()
        self.fill(rows)
        self.updateButton()
        self.ui.batchButton.text = _("Segment all")

    def updateButton(self):
        """Enable the button unless a run of another panel is in progress."""
        if not self.running:
            self.ui.batchButton.enabled = self._able and not self._runner.running

    def sceneRows(self):
        spec = self._choices.spec
        self._studies = self._choices.logic.studies(spec) if spec else []
        rows = [(study.name, study.problem or _("will run")) for study in self._studies]
        return rows, any(not study.problem for study in self._studies)

    def folderRows(self):
        spec = self._choices.spec
        if self.folder is None or self.out is None or spec is None:
            return [], False
        from DanteSegmenterLib.batch import to_do
        from DanteSegmenterLib.cases.case_list import find_cases

        try:
            table = to_do(find_cases(self.folder, spec.modalities), spec, self.out)
        except DanteError as error:
            return [(str(self.folder), str(error))], False
        rows = [(case.name, obstacle or _("will run")) for case, obstacle in table]
        return rows, any(not obstacle for _case, obstacle in table)

    def fill(self, rows):
        self._names = [name for name, _state in rows]
        self.ui.batchTable.setRowCount(len(rows))
        for n, (name, state) in enumerate(rows):
            self.write(n, 0, name)
            self.write(n, 1, state)

    def write(self, row, column, text):
        item = qt.QTableWidgetItem(one_line(text, LONG))
        item.setToolTip(toolTip(text))
        self.ui.batchTable.setItem(row, column, item)

    def onSource(self, index=None):
        self.refresh()

    def onFolder(self, checked=False):
        self.folder = self.chosenFolder(_("Folder of cases")) or self.folder
        self.refresh()

    def onOut(self, checked=False):
        self.out = self.chosenFolder(_("Folder for results")) or self.out
        self.refresh()

    def chosenFolder(self, title):
        path = qt.QFileDialog.getExistingDirectory(self._parent, title)
        return Path(path) if path else None

    def onRow(self, row, column=0):
        """Show the volumes and the result of the clicked study."""
        fromScene = self.ui.batchSourceSelector.currentIndex == self.SCENE
        if fromScene and not self.running and not self._runner.running and row < len(self._studies):
            self._studyChosen(self._studies[row].inputs)

    # Runs

    def onButton(self, checked=False):
        if self._starting:  # an installation cannot be stopped
            return
        if self.running:
            self.stop()
            return
        self.refresh()
        if not self.ui.batchButton.enabled:
            return
        if self.ui.batchSourceSelector.currentIndex == self.FOLDER:
            self.startFolder()
        else:
            self.ui.batchButton.text = _("Stop")
            self._queue = [n for n, study in enumerate(self._studies) if not study.problem]
            self.reserve(_("Several studies are being segmented."))
            self.next()

    def stop(self):
        if self._row is not None:
            self._queue = []
            self._runner.cancel()
        else:
            self.close()
            self.refresh()
            self.reserve("")

    def next(self):
        """Start the next study of the scene, or finish."""
        if self._queue is None:
            return
        if not self._queue:
            self.end()
            return
        self._row = self._queue.pop(0)
        if not all(slicer.mrmlScene.IsNodePresent(node) for node in self._studies[self._row].inputs.values()):
            self.noteEnd(_("a volume was deleted"))
            return
        self.write(self._row, 1, _("running"))
        self._runner.start(self, self._studies[self._row].inputs)

    def finished(self, job):
        """Set the inputs in the parameter node if another module is shown, where the boxes do not follow."""
        if self._choices.parameters is None:
            for modality in job.entry.spec.modalities:
                parameters = self._choices.logic.getParameterNode()
                parameters.setInputVolume(modality.id, job.inputs.get(modality.id))

    def ended(self, error=None):
        """Handle the end of a run that this panel started."""
        if error is not None:
            self._status.report(error, dialog=False)  # the remaining studies continue
        if isinstance(error, HostFailed):  # the remaining studies would fail alike
            self._queue = []
        self.noteEnd(error)

    def noteEnd(self, error=None):
        """Write the outcome of the study's run into the table, and start the next one."""
        if self._row is None:
            return
        row, self._row = self._row, None
        self.write(row, 1, str(error) if error else _("done"))
        qt.QTimer.singleShot(0, self.next)

    def end(self):
        self._queue = None
        self.ui.batchButton.text = _("Segment all")
        self.reserve("")

    def reserve(self, reason):
        """Reserve the runner for a reason shown to other panels; an empty reason releases it."""
        self._runner.reserved = reason
        self._notifyReserved()

    def startFolder(self):
        """Start the batch process; packages may be installed first while the window stays responsive."""
        self._starting, self._givenUp = True, False
        self.ui.batchButton.enabled = False
        self.reserve(_("Several studies are being segmented."))
        attempt(self.startProcess, self.notStarted)

    def startProcess(self):
        try:
            start, findsBrains = self.asChosen(), bool(self._choices.parameters.prepare)
            if not self._choices.host:
                ensureDependencies()
                if findsBrains:
                    ensureBrainFinder()
            ensurePackages(BATCH_PACKAGES, _("A folder of cases needs it."))
            self._process = None if self._givenUp else start()
        finally:
            self._starting = False
        if self._process is None:
            self.notStarted()
            return
        self.ui.batchButton.text = _("Stop")
        self.ui.batchButton.enabled = True
        self._timer.start()

    def asChosen(self):
        """A callable that starts the process with the current choices, which may change before it is called."""
        from DanteSegmenterLib.batch.process import BatchProcess

        self._choices.computer()  # raises if the host is invalid
        assert self.folder and self.out  # the button is disabled until both are chosen
        parameters = self._choices.parameters
        return partial(
            BatchProcess,
            self.folder,
            self._choices.model.folder,
            self.out,
            parameters.device.value,
            SegmentOptions(bool(parameters.mirror), bool(parameters.prepare)),
            self._choices.host,
            self._choices.hostPython,
        )

    def notStarted(self, error=None):
        """Reset after the process was not started; `error` is None if the start was abandoned."""
        self.reserve("")
        if self._choices.parameters is not None:
            self.refresh()
        if error is not None and not self._givenUp:
            self._status.report(error)

    def onTick(self):
        """Poll the batch process."""
        process = self._process
        if process is None:
            return
        running, rows = process.running, process.rows()
        if rows:
            states = {csv_cell(row.case): row for row in rows}  # names as written in the CSV file
            for n, name in enumerate(self._names):
                row = states.get(csv_cell(name))
                if row is not None:
                    self.write(n, 1, f"{row.state}. {row.message}".strip(". "))
        if not running:
            self._timer.stop()
            error, self._process = process.error(), None
            process.stop()
            self.end()
            done = sum(row.state == "done" for row in rows)
            if error is not None:
                self._status.showError(str(error))
            else:
                self._status.show(_("{done} cases segmented; see {out}.").format(done=done, out=self.out))
