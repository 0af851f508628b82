"""Checks for installed packages, without importing them."""

import importlib.metadata

import pytest

from DanteSlicerLib import requirements


@pytest.fixture
def installed(monkeypatch):
    """An environment in which only these packages are installed."""
    versions = {"torch": "2.13.0+cpu", "numpy": "1.9.5", "plain": "3"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions


@pytest.mark.parametrize(
    ("requirement", "there"),
    [
        ("torch>=2.5", True),
        ("torch>=2.13", True),
        ("torch>=2.14", False),
        ("torch>=3", False),
        ("torch", True),
        ("numpy>=1.10", False),
        ("numpy>=1.9", True),
        ("other", False),
        ("other>=0", False),
        ("plain>=3", True),
    ],
)
def test_versions_are_compared_as_numbers(installed, requirement, there):
    assert requirements.is_installed(requirement) is there


def test_missing_lists_absent_packages(installed):
    assert requirements.missing(["plain", "other>=1", "torch>=9"]) == ["other>=1", "torch>=9"]


def test_constraints_pin_installed_packages_and_skip_absent_ones(installed):
    assert requirements.constraints(("torch", "other", "numpy")) == "torch==2.13.0+cpu\nnumpy==1.9.5\n"


def test_requirements_file_is_read_without_comments(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# why\nsafetensors>=0.4  # small\n\nscipy\n")
    assert requirements.read_requirements(path) == ["safetensors>=0.4", "scipy"]
