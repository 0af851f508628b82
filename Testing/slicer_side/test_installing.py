"""Packages installed on the first click: PyTorch by its extension, the others by pip."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def without_torch(module, monkeypatch):
    """torch is not installed; the test defines the PyTorch extension."""
    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: None if name == "torch" else "99")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)


def test_missing_pytorch_extension_is_explained(module, without_torch):
    from DanteSegmenterLib.errors import ResourceError

    with pytest.raises(ResourceError, match="Install the extension 'PyTorch'.*--find-links FOLDER \"torch>=2.5\""):
        module.ensureTorch()


@pytest.mark.parametrize("answer", [None, "the torch module"])
def test_torch_is_installed_by_the_extension_or_the_refusal_reported(module, without_torch, monkeypatch, answer):
    from DanteSegmenterLib.errors import ResourceError

    calls = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            calls.append(options)
            return answer

    fake = types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", fake)
    if answer is None:
        with pytest.raises(ResourceError, match="PyTorch was not installed"):
            module.ensureTorch()
    else:
        module.ensureTorch()
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.5"}]


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "light_the_torch", "install"]),
        ImportError("DLL load failed while importing _C"),
        RuntimeError("PythonSlicer executable not found"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failed_torch_installation_is_reported_with_reason_and_command(
    module, without_torch, monkeypatch, caplog, error
):
    from DanteSegmenterLib.errors import ResourceError

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            raise error

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    with pytest.raises(ResourceError) as refusal:
        module.ensureTorch()
    assert str(refusal.value) == (
        f"PyTorch was not installed; segmenting needs it. {str(error).rstrip('.')}. To install it by hand, behind a "
        'proxy or from a folder of wheels, run: PythonSlicer -m pip install "torch>=2.5"'
    )
    assert "PyTorch was not installed" in caplog.text and type(error).__name__ in caplog.text


def test_outdated_torch_is_reported(module, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError
    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: "1.13.1+cu117")
    with pytest.raises(ResourceError, match="PyTorch 1.13.1.* is too old, torch>=2.5 is needed"):
        module.ensureTorch()


@pytest.fixture
def intel_mac(module, monkeypatch):
    """Slicer as offered for macOS: built for Intel processors, also on Apple silicon."""
    import platform

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("version", [None, "2.2.2"])
def test_intel_mac_is_told_alternatives_and_never_to_uninstall(module, without_torch, intel_mac, monkeypatch, version):
    from DanteSegmenterLib.errors import ResourceError
    from DanteSlicerLib import requirements

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            pytest.fail("nothing fits that could be installed")

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    monkeypatch.setattr(requirements, "installed_version", lambda name: version if name == "torch" else "99")
    with pytest.raises(ResourceError) as refusal:
        module.ensureTorch()
    text = str(refusal.value)
    assert text.startswith("This Slicer is built for Intel processors, and on macOS there is no PyTorch 2.5 or newer")
    assert "the box 'of': ssh:user@host" in text and "python -m DanteSegmenterLib segment" in text
    assert "ninstall" not in text


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "x86_64")])
def test_torch_is_installed_on_other_platforms(module, without_torch, monkeypatch, system, machine):
    import platform

    asked = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            asked.append(options)
            return "the torch module"

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    module.ensureTorch()
    assert len(asked) == 1


def test_recent_torch_is_used_on_an_intel_mac(module, intel_mac, monkeypatch):
    """For example, from a custom build."""
    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: "2.5.1")
    module.ensureTorch()


def test_two_installations_never_run_at_once(module, without_torch, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError

    calls = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            """The window stays responsive meanwhile, and the user clicks."""
            calls.append(options)
            with pytest.raises(ResourceError, match=r"^Packages are being installed already\. Wait"):
                module.ensureTorch()
            return "the torch module"

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    module.ensureTorch()
    module.ensureTorch()
    assert len(calls) == 2  # sequentially


@pytest.fixture
def fake_pip(slicer, module, monkeypatch):
    """An older Slicer without slicer.packaging, whose pip_install only installs on request; the user agrees."""
    from DanteSlicerLib import requirements

    state = types.SimpleNamespace(installed=False, commands=[], constraints="", error=None, answer=True, asked=[])
    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", lambda name: None)

    def pip_install(arguments):
        state.commands.append(arguments[2:])
        state.constraints = Path(arguments[1]).read_text()
        slicer.app.processEvents()  # as Slicer does after every line printed by pip
        if state.error:
            raise state.error
        state.installed = True

    known = requirements.installed_version
    monkeypatch.setattr(
        requirements,
        "installed_version",
        lambda name: ("1.0" if state.installed else None) if name == "needed" else known(name),
    )
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_, **__: state.asked.append(text) or state.answer
    )
    return state


def test_packages_are_installed_with_torch_and_numpy_pinned(module, fake_pip):
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == [["needed>=0.4"]]
    assert fake_pip.asked[0].endswith("needed>=0.4.")
    assert fake_pip.constraints.startswith("torch==") and f"numpy=={np.__version__}" in fake_pip.constraints


def test_nothing_is_asked_if_nothing_is_missing(module, fake_pip):
    fake_pip.installed = True
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == []


def test_declined_or_failed_installation_names_the_command(module, fake_pip):
    from DanteSegmenterLib.errors import ResourceError

    fake_pip.error = subprocess.CalledProcessError(1, "pip")
    # Quoted: otherwise a shell would write into a file called =0.4.
    command = 'PythonSlicer -m pip install "needed>=0.4"'
    with pytest.raises(
        ResourceError, match=rf"returned non-zero exit status 1\. To install it by hand.*run: {command}$"
    ):
        module.ensurePackages(["needed>=0.4"])
    fake_pip.answer = False
    with pytest.raises(ResourceError, match="Not installed: needed>=0.4"):
        module.ensurePackages(["needed>=0.4"])


def test_recent_slicer_installs_through_its_packaging_module(slicer, module, fake_pip, monkeypatch):
    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", importlib.util.find_spec)
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == [["needed>=0.4"]] and fake_pip.constraints.startswith("torch==")
    assert fake_pip.asked == [
        "1 Python package needs to be installed.\n\nThis will modify Slicer's Python environment. Continue?"
    ]


def test_declined_dialog_of_recent_slicer_becomes_an_error_message(slicer, module, fake_pip, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError

    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", importlib.util.find_spec)
    fake_pip.answer = False
    with pytest.raises(ResourceError, match=r"needs it\. User declined package installation\. To install it by hand"):
        module.ensurePackages(["needed>=0.4"])


def test_without_deepbet_the_window_says_what_needs_it_and_what_to_use_instead(slicer, module, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError
    from DanteSlicerLib import requirements

    known = requirements.installed_version
    monkeypatch.setattr(requirements, "installed_version", lambda name: None if name == "deepbet" else known(name))
    monkeypatch.setattr("DanteSlicerLib.installing.installPackages", lambda missing: None)
    with pytest.raises(ResourceError, match="deepbet>=1.0. Prepare finds the brain by it.* a brain mask of your own"):
        module.ensureBrainFinder()
