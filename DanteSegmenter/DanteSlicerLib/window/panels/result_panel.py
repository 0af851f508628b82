"""The section *Volumes*: the table of the chosen result, and the actions on it."""

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.guard.plain_text import one_line
from DanteSlicerLib.scene.overlays import showPrepared, showsPrepared, wasPrepared
from DanteSlicerLib.scene.results import ourResults
from DanteSlicerLib.scene.segments import ourSegments
from DanteSlicerLib.scene.show import fillOf, openEditor, setFill
from DanteSlicerLib.scene.volumes_table import TABLE_ROLE, EditWatch, readTable, saveTable
from DanteSlicerLib.scene.write_result import partsOfReport

MODEL_COLUMN = 4  # in the window's table: the model's volume, shown next to an edited one
ROW_HEIGHT = 24


class ResultPanel:
    """Shows the chosen output node, and tracks manual edits whichever module is shown."""

    def __init__(self, ui, parent, choices, changed):
        """
        Args:
            parent: of dialogs.
            changed: called when the chosen result changed outside of a full update of the window.
        """
        self.ui = ui
        self._parent = parent
        self._choices = choices
        self._changed = changed
        ui.volumesTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        ui.volumesTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3, MODEL_COLUMN):
            ui.volumesTable.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        ui.saveTableButton.connect("clicked(bool)", self.onSaveTable)
        ui.editButton.connect("clicked(bool)", self.onEdit)
        ui.preparedButton.connect("clicked(bool)", self.onShowPrepared)
        ui.fillSlider.connect("valueChanged(int)", self.onFill)
        self.edits = EditWatch(self.onEdited)

    def close(self):
        self.edits.close()

    def update(self):
        """Update the table and the notes from the chosen output node."""
        output = self._choices.output()
        if output is not None:
            with self._choices.change():
                self.ui.fillSlider.value = round(100 * fillOf(output))
        table = output.GetNodeReference(TABLE_ROLE) if output else None
        rows = readTable(table)
        self.fillTable(rows, self.colors(output))
        self.ui.volumesCollapsibleButton.setVisible(bool(rows))
        self.ui.preparedButton.setVisible(wasPrepared(output))
        self.ui.preparedButton.checked = showsPrepared(output)
        _done, _warnings, notes = partsOfReport(output)
        self.ui.notesLabel.text = "\n".join(notes)
        self.ui.notesLabel.setVisible(bool(notes))

    def colors(self, output):
        """Of the segments as they are now, by the name of each: the user may have moved or removed some."""
        segments = [output.GetSegmentation().GetSegment(i) for i in ourSegments(output).values()] if output else []
        return {segment.GetName(): segment.GetColor() for segment in segments}

    def fillTable(self, rows, colors):
        table = self.ui.volumesTable
        table.setRowCount(len(rows))
        table.setColumnHidden(MODEL_COLUMN, not any(row.edited for row in rows))
        for n, row in enumerate(rows):
            table.setItem(n, 0, qt.QTableWidgetItem(one_line(row.name)))
            volume = _("{volume:.1f} edited") if row.edited else "{volume:.1f}"
            texts = (
                volume.format(volume=row.volume),
                f"{row.low:.1f} - {row.high:.1f}",
                "" if row.confidence != row.confidence else f"{100 * row.confidence:.0f} %",
                f"{row.modelVolume:.1f}",
            )
            for column, text in enumerate(texts, start=1):
                item = qt.QTableWidgetItem(text)
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(n, column, item)
            if row.name in colors:
                red, green, blue = (int(255 * part) for part in colors[row.name])
                pixmap = qt.QPixmap(12, 12)
                pixmap.fill(qt.QColor(red, green, blue))
                table.item(n, 0).setIcon(qt.QIcon(pixmap))
        # Exactly as high as its rows: no scroll bar, no empty space.
        table.setFixedHeight(ROW_HEIGHT * (len(rows) + 1) + 8)

    def onFill(self, percent):
        """Apply the slider to all results, current and future."""
        if self._choices.areByUser():
            with self._choices.change():  # nothing else in the window depends on it
                self._choices.parameters.fill = percent / 100
            for output in ourResults():
                setFill(output, percent / 100)

    def onEdited(self):
        """Update after segments were edited by hand and their tables updated."""
        if self._choices.parameters is not None:
            self._changed()

    def onSaveTable(self, checked=False):
        title, kinds = _("Save the table"), _("Comma-separated values (*.csv)")
        chosen = qt.QFileDialog.getSaveFileName(self._parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt returns the path, PySide a tuple with it
        if path:
            with slicer.util.tryWithErrorDisplay(_("The table could not be saved.")):
                self.edits.follow()
                saveTable(self._choices.output().GetNodeReference(TABLE_ROLE), path)

    def onShowPrepared(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("What Prepare did could not be shown.")):
            output = self._choices.output()
            showPrepared(output, not showsPrepared(output))
            self._changed()

    def onEdit(self, checked=False):
        """Open Slicer's Segment Editor on the result."""
        with slicer.util.tryWithErrorDisplay(_("The Segment Editor could not be opened.")):
            openEditor(self._choices.output())
