"""Paths and fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
pytest_plugins = ["slicer_fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """Share two cores between the test processes."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real cases beside the repository, which may not be redistributed; tests skip without them."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real cases are not here (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def brain_model_folder() -> Path:
    """The embedded brain model."""
    return REPOSITORY / "Resources" / "Models" / "brats-without-t1ce"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset folder, not to be modified."""
    from datasets import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a trained upper bound."""
    from small_trainings import small, train

    return train(data, tmp_path_factory.mktemp("upper") / "run", small("upper"))
