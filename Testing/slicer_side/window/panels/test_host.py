"""The host, which is the user's setting and never a scene's, and the device, which is saved with the scene."""

import pytest
from slicer_window import add_study, shown, until

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.host.address import Host
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.worker.outcome import HostFailed

GPU = "ssh:me@gpu:2222"


@pytest.fixture(autouse=True)
def here_again(window):
    yield
    import qt

    window.hostPanel.choose("")
    for name in ("Host", "Hosts"):
        qt.QSettings().remove(f"DanteSegmenter/{name}")


def write(window, host, python=""):
    window.ui.hostSelector.setEditText(host)
    window.ui.hostPythonEdit.text = python


def test_local_computer_is_used_until_a_host_is_named(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    assert window.logic.inference.host is None and window.ui.segmentButton.text == "Segment"
    assert not shown(window.ui.hostPythonEdit, window)
    write(window, GPU, "~/dante/bin/python")
    assert window.ui.segmentButton.text == "Segment on gpu"
    window.ui.segmentButton.click()
    assert window.logic.inference.host == Host("gpu", "me", 2222, ("~/dante/bin/python",))
    window.ui.hostSelector.setCurrentIndex(0)
    assert window.ui.segmentButton.text == "Segment"
    window.ui.segmentButton.click()
    assert window.logic.inference.host is None


@pytest.mark.parametrize("host", ["gpu", "ssh:", "ssh:-oProxyCommand=touch x", "ssh:gpu;x"])
def test_invalid_host_disables_the_button_with_the_reason(slicer, window, host):
    add_study(slicer)
    write(window, host)
    assert not window.ui.segmentButton.enabled and "is no computer" in window.ui.segmentButton.toolTip
    window.ui.hostSelector.setCurrentIndex(0)
    window.hostPanel.onChosen()
    assert window.ui.segmentButton.enabled


def test_host_and_python_are_saved_and_used_hosts_listed(slicer, window, module):
    import qt

    add_study(slicer)
    write(window, "ssh:first", "/opt/py")
    window.ui.segmentButton.click()
    write(window, GPU, "python3.12")
    window.ui.segmentButton.click()
    window.ui.hostSelector.setCurrentIndex(2)
    assert window.choices.host == "ssh:first" and window.ui.hostPythonEdit.text == "/opt/py"
    assert qt.QSettings().value("DanteSegmenter/Host") == "ssh:first /opt/py"
    write(window, GPU + ";")  # half typed, or worse: the setting stays
    assert qt.QSettings().value("DanteSegmenter/Host") == "ssh:first /opt/py"
    panel = type(window.hostPanel)(window.ui, window.choices, lambda: None)  # as in the next session
    assert (window.choices.host, window.choices.hostPython) == ("ssh:first", "/opt/py")
    assert [panel.ui.hostSelector.itemText(n) for n in range(3)] == ["This computer", GPU, "ssh:first"]


def test_scene_neither_stores_nor_changes_the_host(slicer, window):
    write(window, GPU)
    node = window.choices.parameters.parameterNode
    assert not any("gpu" in node.GetParameter(name) for name in node.GetParameterNames())
    for name in ("host", "Host", "DanteSegmenter/Host"):
        node.SetParameter(name, "ssh:attacker")
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert window.choices.host == GPU and window.ui.hostSelector.currentText == GPU


def test_console_accepts_a_host(slicer, window):
    nodes = add_study(slicer)
    window.logic.segment(nodes, host="ssh:gpu", hostPython="/opt/py")
    assert window.logic.inference.host == Host("gpu", python=("/opt/py",))
    with pytest.raises(ConfigError, match="is no computer"):
        window.logic.segment(nodes, host="gpu")


def test_several_studies_stop_if_the_host_is_unreachable(slicer, module, window):
    for name in ("one", "two"):
        module.makeStudy("patient", name, list(add_study(slicer, prefix=f"{name} ").values()))
    slicer.app.processEvents()
    run = window.logic.inference.run
    run.error = HostFailed("'gpu' cannot be reached.")
    window.severalStudies.refresh()
    window.ui.batchButton.click()
    until(slicer, lambda: not window.severalStudies.running)
    states = [window.ui.batchTable.item(row, 1).text() for row in range(2)]
    assert states == ["'gpu' cannot be reached.", "will run"] and len(run.calls) == 1


def test_remote_host_needs_no_local_torch(slicer, module, window, model_folder, monkeypatch):
    monkeypatch.setattr("DanteSlicerLib.logic.ensureDependencies", lambda: pytest.fail("asked for packages here"))
    monkeypatch.setattr("DanteSlicerLib.logic.ensureBrainFinder", lambda: pytest.fail("asked for deepbet here"))
    inference, asked = module.WarmInference(), []
    monkeypatch.setattr(inference._client, "begin", lambda *arguments: asked.append(arguments))
    inference.begin(model_folder, {}, "cuda", SegmentOptions(prepare=True), None, Host("gpu"))
    assert asked == [(model_folder, {}, "cuda", SegmentOptions(prepare=True), None, Host("gpu"))]


# --- the device, which is saved with the scene ---


def visit_another_module(window):
    window.parent.exit()
    window.parent.enter()


def test_chosen_device_is_kept_when_another_module_is_visited(module, window):
    for device in (module.Device.CPU, module.Device.CUDA):  # chosen again after a visit, too
        window.ui.deviceSelector.setCurrentIndex(list(module.Device).index(device))
        for _visit in range(2):
            visit_another_module(window)
            assert window.choices.parameters.device is device
            assert window.ui.deviceSelector.currentText == device.label()


def test_device_of_a_saved_scene_is_restored(slicer, module, window, tmp_path):
    visit_another_module(window)
    window.ui.deviceSelector.setCurrentIndex(list(module.Device).index(module.Device.CPU))
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    assert window.choices.parameters.device is module.Device.AUTO
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    assert window.choices.parameters.device is module.Device.CPU
    assert window.ui.deviceSelector.currentText == "Processor (CPU)"


def test_hidden_window_writes_nothing_into_the_scene(slicer, module, window):
    for _visit in range(2):
        visit_another_module(window)
    window.parent.exit()
    window.ui.mirrorCheckBox.checked = True
    window.ui.deviceSelector.setCurrentIndex(1)
    parameters = window.logic.getParameterNode()
    assert not parameters.mirror and parameters.device is module.Device.AUTO
    window.parent.enter()
    assert not window.ui.mirrorCheckBox.checked and window.ui.deviceSelector.currentText == "Automatic"


def test_visits_reuse_the_wrapper_of_the_same_parameter_node(slicer, window):
    """Slicer never removes the observers of a connected wrapper from its node: one for each parameter."""
    first = window.choices.parameters
    visit_another_module(window)
    assert window.choices.parameters is first
    slicer.mrmlScene.RemoveNode(first.parameterNode)
    visit_another_module(window)
    assert window.choices.parameters.parameterNode is window.logic.getParameterNode().parameterNode
    assert window.choices.parameters.parameterNode is not first.parameterNode
