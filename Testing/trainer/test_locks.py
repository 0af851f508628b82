"""Locks on folders in use."""

import multiprocessing
import os
import sys
import threading

import pytest

from DanteSegmenterLib.errors import ResourceError
from DanteTrainerLib.locks import HELD_FILE, LOCK_FILE, holding, in_use, remove_left_over, scratch_folder

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and forks")


def test_run_is_locked_once_and_free_afterwards(tmp_path):
    assert not in_use(tmp_path)
    with holding(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(ResourceError, match="another process works on the run"), holding(tmp_path):
            pass
    assert not in_use(tmp_path)


def test_checking_a_lock_creates_no_file_or_folder(tmp_path):
    assert not in_use(tmp_path) and not in_use(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_checking_a_lock_never_blocks_its_owner(tmp_path):
    with holding(tmp_path):
        pass
    over = threading.Event()

    def look():
        while not over.is_set():
            in_use(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            with holding(tmp_path):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


@posix
@pytest.mark.parametrize("name", [LOCK_FILE, HELD_FILE])
def test_link_in_place_of_a_lock_is_refused_and_its_target_kept(tmp_path, name):
    (tmp_path / "thesis.txt").write_text("two years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(ResourceError, match="is a link"), holding(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "two years of work"


def test_scratch_folder_is_removed_with_its_context_unless_in_use(tmp_path):
    with scratch_folder(tmp_path, ".writing-") as scratch:
        (scratch / "x").touch()
        assert remove_left_over(tmp_path, ".writing-")
        assert (scratch / "x").exists()
    assert not list(tmp_path.iterdir())


def killed(folder):
    with scratch_folder(folder, ".writing-") as scratch:
        (scratch / "voxels").touch()
        os._exit(1)


@posix
def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tmp_path,))
    process.start()
    process.join()
    assert list(tmp_path.iterdir())
    assert not remove_left_over(tmp_path, ".writing-")
    assert not list(tmp_path.iterdir())
