import os
import subprocess
import sys
from pathlib import Path

import pytest

from DanteSegmenterLib.guard import replace_folder
from DanteSegmenterLib.guard.replace_folder import MACHINE, PREFIX, restore_previous, swap_in, unfinished_folder


def make(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)
    return folder


def test_finished_folder_replaces_the_old_one(tmp_path):
    target = make(tmp_path / "m", "old")
    for text in ("new", "newer"):
        with unfinished_folder(tmp_path) as new:
            make(new, text)
            swap_in(new, target)
        assert (target / "file").read_text() == text
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("exchanging", [True, False])
def test_no_third_folder_remains_with_one_move_or_two(tmp_path, monkeypatch, exchanging):
    if not exchanging:
        monkeypatch.setattr(replace_folder, "exchange", lambda *_: False)
    target, new = make(tmp_path / "m", "old"), make(tmp_path / "new", "new")
    swap_in(new, target)
    assert (target / "file").read_text() == "new" and os.listdir(tmp_path) == ["m"]


def test_unfinished_folder_leaves_no_trace(tmp_path):
    target = make(tmp_path / "m", "old")
    with pytest.raises(ValueError), unfinished_folder(tmp_path) as new:
        make(new, "new")
        raise ValueError
    assert (target / "file").read_text() == "old" and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(("platform", "private"), [("linux", True), ("darwin", True), ("win32", False)])
def test_folder_in_the_making_is_private_except_on_windows(tmp_path, monkeypatch, platform, private):
    modes, make_folder = [], Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda path, mode=0o777: (modes.append(mode), make_folder(path, mode)))
    monkeypatch.setattr(sys, "platform", platform)
    with unfinished_folder(tmp_path):
        pass
    assert modes == [0o700 if private else 0o777]


def test_failed_move_restores_the_old_folder(tmp_path, monkeypatch):
    target, new, move = make(tmp_path / "m", "old"), make(tmp_path / "new", "new"), os.replace

    def refuse(source, to):
        if source == new:
            raise PermissionError(13, "in use")
        move(source, to)

    monkeypatch.setattr(replace_folder, "exchange", lambda *_: False)
    monkeypatch.setattr(replace_folder.os, "replace", refuse)
    with pytest.raises(PermissionError):
        swap_in(new, target)
    assert (target / "file").read_text() == "old" and sorted(os.listdir(tmp_path)) == ["m", "new"]


def test_kill_between_the_two_moves_loses_nothing(tmp_path):
    target = make(tmp_path / "m", "old")
    make(tmp_path / "new", "new")
    code = f"""
import os, pathlib
from DanteSegmenterLib.guard import replace_folder
move = os.replace
def kill(source, to):
    if source.name == "new": os._exit(9)
    move(source, to)
replace_folder.exchange = lambda *_: False  # where it takes two moves
replace_folder.os.replace = kill
replace_folder.swap_in(pathlib.Path({str(tmp_path)!r}) / "new", pathlib.Path({str(target)!r}))
"""
    path = os.pathsep.join(sys.path)
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}).returncode == 9
    assert not target.exists()
    restore_previous(target)
    assert (target / "file").read_text() == "old" and sorted(os.listdir(tmp_path)) == ["m", "new"]


def test_leftovers_of_killed_processes_are_removed_and_those_of_living_ones_kept(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = make(tmp_path / f"{PREFIX}{MACHINE}-{gone.pid}-abc", "half")
    others = make(tmp_path / f"{PREFIX}{MACHINE}-{os.getppid()}-abc", "half")
    elsewhere = make(tmp_path / f"{PREFIX}{'0' * len(MACHINE)}-{gone.pid}-abc", "half")  # on a shared disk
    strange = make(tmp_path / f"{PREFIX}x", "half")
    os.utime(strange, (0, 0))
    with unfinished_folder(tmp_path) as new:
        assert sorted(tmp_path.iterdir()) == sorted([new, others, elsewhere])
    assert not left.exists()


def test_interruption_during_removal_is_handled_afterwards(tmp_path, monkeypatch):
    remove, tries = replace_folder.shutil.rmtree, []

    def interrupted(folder, **more):
        tries.append(folder)
        if len(tries) == 1:
            raise KeyboardInterrupt
        remove(folder, **more)

    monkeypatch.setattr(replace_folder.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), unfinished_folder(tmp_path) as new:
        make(new, "half")
    assert os.listdir(tmp_path) == []


def test_interruption_during_creation_leaves_nothing(tmp_path, monkeypatch):
    make_folder = os.mkdir

    def interrupted(*arguments, **more):
        make_folder(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), unfinished_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


AT_START = """
import numpy, platform, sys
platform.uname = lambda: sys.exit("asked")
from DanteSegmenterLib import batch, nnunet
from DanteSegmenterLib.guard import replace_folder
from DanteSegmenterLib.model_folder import library
from DanteSegmenterLib.worker import client
"""


def test_nobody_asks_which_system_this_is_while_slicer_starts():
    """On Windows that is a question to WMI, which takes ten seconds or for ever where it does not answer."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", AT_START], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
