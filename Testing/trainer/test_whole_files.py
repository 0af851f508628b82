"""Files and folders are written completely or not at all, whatever ends the writer."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.guard import replace_folder
from DanteTrainerLib.whole_files import files_together, make_writable, whole_folder, write_text_whole, write_whole


def content(folder):
    """Relative names and texts of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def full_disk(path):
    path.write_text("half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def interrupted(path):
    path.write_text("half")
    raise KeyboardInterrupt


def test_file_replaces_the_old_one(tmp_path):
    for text in ("first", "second"):
        write_text_whole(tmp_path / "a.txt", text)
        assert content(tmp_path) == {"a.txt": text}


def test_temporary_file_keeps_the_extension(tmp_path):
    endings = []
    write_whole(tmp_path / "a.png", lambda path: (endings.append(path.suffix), path.write_text("x")))
    assert endings == [".png"]


@pytest.mark.parametrize(("write", "error"), [(full_disk, ResourceError), (interrupted, KeyboardInterrupt)])
def test_unwritable_file_keeps_only_the_old_one(tmp_path, write, error):
    write_text_whole(tmp_path / "a.txt", "before")
    with pytest.raises(error):
        write_whole(tmp_path / "a.txt", write)
    assert content(tmp_path) == {"a.txt": "before"}


AT_ONCE = """
import sys
from pathlib import Path
from DanteTrainerLib.whole_files import write_text_whole
for _ in range(200):
    write_text_whole(Path(sys.argv[1]), sys.argv[2] * 50_000, sync=False)
    text = Path(sys.argv[1]).read_text()
    assert len(text) == 50_000 and len(set(text)) == 1
"""


def test_concurrent_writers_leave_a_whole_file(tmp_path):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    commands = [[sys.executable, "-c", AT_ONCE, str(tmp_path / "a.txt"), letter] for letter in "xyz"]
    environment = {**os.environ, "PYTHONPATH": paths}
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate()[1] for process in processes] == [b"", b"", b""]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_non_utf8_names_are_kept_byte_for_byte(tmp_path):
    write_text_whole(tmp_path / "a.txt", os.fsdecode(b"M\xfcller"))
    assert (tmp_path / "a.txt").read_bytes() == b"M\xfcller"


@pytest.fixture(params=[True, False], ids=["exchanged", "moved aside"])
def way(request, monkeypatch):
    """With and without a system that can exchange two folders atomically."""
    if not request.param:
        monkeypatch.setattr(replace_folder, "exchange", lambda *_: False)


def fill(folder, text):
    with whole_folder(folder) as new:
        for name in "ab":
            (new / name).write_text(text)


def test_folder_replaces_the_old_one_with_all_files(tmp_path, way):
    for text in ("first", "second"):
        fill(tmp_path / "model", text)
        assert content(tmp_path) == {"model/a": text, "model/b": text}


@pytest.mark.parametrize(("write", "error"), [(full_disk, ResourceError), (interrupted, KeyboardInterrupt)])
def test_failed_folder_keeps_only_the_old_one(tmp_path, way, write, error):
    fill(tmp_path / "model", "before")
    with pytest.raises(error), whole_folder(tmp_path / "model") as new:
        write(new / "a")
    assert content(tmp_path) == {"model/a": "before", "model/b": "before"}


def together(folder, names, text):
    with files_together(folder) as new:
        for name in names:
            (new / name).write_text(text)


def test_files_written_together_appear_together_and_others_stay(tmp_path):
    together(tmp_path, "ab", "first")
    (tmp_path / "thesis.txt").write_text("two years of work")
    together(tmp_path, "bc", "second")
    assert content(tmp_path) == {"a": "first", "b": "second", "c": "second", "thesis.txt": "two years of work"}


@pytest.mark.parametrize(("write", "error"), [(full_disk, ResourceError), (interrupted, KeyboardInterrupt)])
def test_failure_of_one_file_keeps_all_old_files(tmp_path, write, error):
    together(tmp_path, "ab", "before")
    with pytest.raises(error), files_together(tmp_path) as new:
        (new / "a").write_text("new")
        write(new / "b")
    assert content(tmp_path) == {"a": "before", "b": "before"} and len(list(tmp_path.iterdir())) == 2


def test_full_disk_is_recognised_in_errors_of_other_libraries(tmp_path):
    with (
        pytest.raises(ResourceError, match="No space left on device. Nothing was changed"),
        whole_folder(tmp_path / "m"),
    ):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


KILLED = """
import os, pathlib, signal, sys
from DanteSegmenterLib.guard import replace_folder
from DanteTrainerLib import whole_files
count, at, exchange = 0, int(sys.argv[2]), sys.argv[3] == "True"
def counting(function):
    def call(*arguments, **named):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
    setattr(os, name, counting(getattr(os, name)))
replace_folder.exchange = counting(replace_folder.exchange) if exchange else lambda *_: False
with whole_files.whole_folder(pathlib.Path(sys.argv[1])) as new:
    for name in "ab":
        (new / name).write_text("new")
print(count)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("exchange", [True, False])
def test_kill_before_any_step_loses_nothing_and_the_next_write_cleans_up(tmp_path, exchange):
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    target = tmp_path / "model"
    for at in range(1, 20):
        fill(target, "old")
        command = [sys.executable, "-c", KILLED, str(target), str(at), str(exchange)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
        replace_folder.restore_previous(target)
        assert content(target) in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"}), at
        fill(target, "next")
        assert content(tmp_path) == {"model/a": "next", "model/b": "next"}
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL
    raise AssertionError("it never ran to its end")


def test_unwritable_folder_is_detected_beforehand(tmp_path):
    make_writable(tmp_path / "new" / "deeper")
    assert content(tmp_path) == {}
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="nothing can be written"):
        make_writable(tmp_path / "file" / "out")
