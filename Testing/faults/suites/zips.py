"""Hostile zip files for the import of models: refused, with everything left unchanged."""

from __future__ import annotations

import io
import os
import random
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from models import write_brain_model

from DanteSegmenterLib.model_folder.zip_file import unpack_model
from faults.doors import state_of
from faults.tally import Case

Contents = list[tuple[str | zipfile.ZipInfo, bytes]]
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Importing:
    """A folder with one model, beside files that must not be touched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models = folder, folder / "settings" / "models"
        model = write_brain_model(folder / "model", with_full=True)
        self.contents: Contents = [(file.name, file.read_bytes()) for file in sorted(model.iterdir())]
        (folder / "zips").mkdir()
        unpack_model(self.written("m.zip", packed(self.contents)), self.models)
        (folder / "settings" / "Slicer.ini").write_text("precious")

    def written(self, name: str, content: bytes) -> Path:
        path = self.folder / "zips" / name
        path.write_bytes(content)
        return path

    def of(self, content: bytes, name: str = "m.zip") -> Callable[[], None]:
        """Import a zip file with this content."""
        return lambda: self.unpack(self.written(name, content))

    def unpack(self, archive: Path) -> None:
        before = state_of(self.folder / "settings")
        try:
            unpack_model(archive, self.models)
        finally:
            changed = set(before.items()) ^ set(state_of(self.folder / "settings").items())
            if changed:
                raise AssertionError(f"'{min(changed)[0]}' was changed")


def packed(contents: Sequence[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content in contents:
            archive.writestr(name, content)
    return whole.getvalue()


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    door = Importing(folder)
    yield from hostile_members(door)
    yield from bombs(door)
    yield from no_models(door)
    yield from damaged(door, chance)
    yield from places_taken(door)


def entry(kind: int, name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def hostile_members(door: Importing) -> Iterator[Case]:
    outside = ("../evil", "a/../../evil", "/etc/evil", "//server/share/evil", "c:\\evil", "C:evil", "..\\evil")
    extra: Contents = [(name, b"evil") for name in (*outside, "../Slicer.ini", "x:stream", "b/model.json")]
    extra += [(entry(kind, "odd"), b"/etc/passwd") for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)]
    for name, content in extra:
        label = name if isinstance(name, str) else f"an entry of kind {name.external_attr >> 16:o}"
        yield label, door.of(packed([*door.contents, (name, content)]))
    for name in ("model.json", "limited.safetensors"):
        info = zipfile.ZipInfo(name)  # not by its name, of which `zipfile` would warn
        twice = io.BytesIO(packed(door.contents))
        with zipfile.ZipFile(twice, "a") as archive:
            archive.NameToInfo.clear()
            archive.writestr(info, b"{}")
        yield f"{name} twice", door.of(twice.getvalue())


def bombs(door: Importing) -> Iterator[Case]:
    """Small files that unpack to large ones."""
    others = [pair for pair in door.contents if pair[0] != "limited.safetensors"]
    yield "weights of zeros", door.of(packed([*others, ("limited.safetensors", bytes(64 << 20))]))
    yield "a card of zeros", door.of(packed([*door.contents, ("README.md", bytes(32 << 20))]))
    without = [pair for pair in door.contents if pair[0] != "model.json"]
    yield "a description of zeros", door.of(packed([*without, ("model.json", bytes(32 << 20))]))
    yield "a list of contents without end", door.of(packed([(f"{n:0200}", b"") for n in range(6000)]))
    yield "thousands of files", door.of(packed([*door.contents, *((f"x{n}", b"") for n in range(3000))]))


def no_models(door: Importing) -> Iterator[Case]:
    inner = packed(door.contents)
    for name, content in {"nothing": b"", "text": b"hello", "a rar": b"Rar!\x1a\x07\0" + bytes(99)}.items():
        yield name, door.of(content)
    yield "a zip of nothing", door.of(packed([]))
    yield "a zip in a zip", door.of(packed([("inner.zip", inner)]))
    for missing, _ in door.contents:
        yield f"without {missing}", door.of(packed([pair for pair in door.contents if pair[0] != missing]))
    for wanted in ("model.json", "limited.safetensors"):
        others = [pair for pair in door.contents if pair[0] != wanted]
        yield f"{wanted} is text", door.of(packed([*others, (wanted, b"hello")]))
    places = {"gone": door.folder / "gone.zip", "a folder": door.folder / "zips", "a pipe": door.folder / "pipe.zip"}
    os.mkfifo(places["a pipe"])
    places["zeros without end"] = door.folder / "zero.zip"
    places["zeros without end"].symlink_to("/dev/zero")
    for name, path in places.items():
        yield name, lambda path=path: door.unpack(path)


def damaged(door: Importing, chance: random.Random) -> Iterator[Case]:
    """Corrupt bytes at random places; only where Python's own check also detects them."""
    for method in METHODS:
        whole = packed(door.contents, method)
        for _ in range(10):
            place = chance.choice((chance.randrange(len(whole)), chance.randrange(len(whole) - 400, len(whole))))
            content = whole[:place] + chance.randbytes(chance.choice((1, 4))) + whole[place + 4 :]
            if not readable(content, door.contents):
                yield f"method {method}: wrong bytes at {place}", door.of(content)
        for _ in range(4):
            cut = chance.randrange(len(whole))
            yield f"method {method}: cut to {cut} bytes", door.of(whole[:cut])


def readable(content: bytes, wanted: Contents) -> bool:
    """Whether everything that a model needs is there."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return all(archive.read(name) == whole for name, whole in wanted)
    except Exception:  # `zipfile` raises a dozen kinds
        return False


def places_taken(door: Importing) -> Iterator[Case]:
    """The model's destination is occupied by something else."""
    mine, file, link = (door.models / name for name in ("mine", "file", "link"))
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    file.write_text("precious")
    link.symlink_to(door.folder)
    for name in ("mine", "file", "link"):
        yield f"a {name} is in its place", door.of(packed(door.contents), f"{name}.zip")
