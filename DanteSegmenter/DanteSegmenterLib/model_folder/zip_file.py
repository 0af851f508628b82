"""Extract a model folder from an untrusted zip file, taking only files that belong to a model.

The table of contents is checked before anything is unpacked: number, kind and size of the files, and the compression
ratio. `zipfile` itself trusts what it reads, so it is given bounded pieces.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import DanteError, ModelError, ResourceError
from ..guard.plain_text import one_line
from ..guard.replace_folder import swap_in, unfinished_folder
from .checks import is_device_name
from .read_write import MAX_SPEC_BYTES, SPEC_FILE, check_weights_file, read_spec

OTHER_FILES = ("README.md", "provenance.json", "LICENSE", "LICENSE.txt")
# Files that file managers create in any folder.
FILE_MANAGER_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")
MAX_FILES = 20
MAX_BYTES = 4 << 30
MAX_OTHER_BYTES = 16 << 20
# Weights hardly compress: a higher ratio, beyond some megabytes, means a zip bomb.
MAX_GROWTH = 20
MAX_SMALL = 64 << 20
UNPACK_BYTES = 1 << 20
MAX_NAME_BYTES = 100

Members = dict[str, zipfile.ZipInfo]


def unpack_model(archive: Path | str, into: Path) -> Path:
    """Unpack a zipped model folder to `into`/NAME, where NAME is the zip file's; replaces an earlier model there.

    The new folder is built and checked completely before the earlier one is removed.

    Args:
        archive: has model.json and weights at its top level, or in one folder.
        into: created if missing.

    Raises:
        ModelError: not a zip file, no model in it, a path that leads outside, a link, too many or too large files, an
            unusable model folder, or something other than a model in its place.
        ResourceError: `into` cannot be written, or the disk is full.
    """
    archive, into = Path(archive), Path(into)
    target = into / _folder_name(archive)
    with _opened(archive) as packed:
        members = _members(packed, archive)
        with _written_to(into, archive):
            into.mkdir(parents=True, exist_ok=True)
            _check_place(target)
            _check_sizes(members, archive)
            _check_space(into, sum(member.file_size for member in members.values()))
            with unfinished_folder(into) as new:
                try:
                    _unpack(packed, members, new, archive)
                except ModelError as error:  # report the zip file, which the user knows
                    raise ModelError(str(error).replace(str(new), str(archive))) from None
                swap_in(new, target)
    return target


def _folder_name(archive: Path) -> str:
    """The zip file's name without extension, restricted to characters that any file system allows."""
    letters = (letter if letter not in '<>:"/\\|?*\ufffd' else "_" for letter in one_line(archive.stem))
    name = "".join(letters).strip(". ").encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip(". ")
    return f"{name or 'model'}-model" if is_device_name(name) else name or "model"


# Checking the table of contents


class _InPieces(io.FileIO):
    """Reads a zip file in bounded pieces; `zipfile` would read a table of contents of any length at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = UNPACK_BYTES + 1 if size is None or size < 0 else size
        content = super().read(min(wanted, UNPACK_BYTES + 1)) or b""
        if len(content) > UNPACK_BYTES:
            raise zipfile.BadZipFile("its list of contents is too long for a model's")
        return content


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip file; reports any reading problem in one form."""
    if not archive.is_file():  # not a pipe or a device either, which might never end
        raise ModelError(f"'{archive}' is no file. Choose a zip file of a model folder.")
    try:
        with _InPieces(archive) as file, zipfile.ZipFile(file) as packed:
            yield packed
    except DanteError:
        raise
    except MemoryError:
        raise ResourceError(f"'{archive}' needs more memory than there is to be unpacked.") from None
    except Exception as error:  # zipfile and its decompressors raise many types for damaged data
        reason = one_line(error) or type(error).__name__
        raise ModelError(f"'{archive}' is no zip file that can be read ({reason}). Copy it again.") from None


def _members(packed: zipfile.ZipFile, archive: Path) -> Members:
    """File name -> member of the model folder, from the table of contents alone."""
    members = [member for member in packed.infolist() if not member.is_dir() and not _is_file_managers(member.filename)]
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ModelError(f"'{archive}' holds '{member.filename}', a path that leads outside. It is not unpacked.")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind == stat.S_IFLNK:
            raise ModelError(f"'{archive}' holds a link, '{member.filename}'. It is not unpacked.")
        if kind not in (0, stat.S_IFREG):
            raise ModelError(f"'{archive}' holds '{member.filename}', which is no plain file. It is not unpacked.")
    if len(members) > MAX_FILES:
        raise ModelError(f"'{archive}' holds more than a model ({len(members)} files). It is not unpacked.")
    specs = [PurePosixPath(member.filename) for member in members if PurePosixPath(member.filename).name == SPEC_FILE]
    if len(specs) != 1:
        raise ModelError(f"'{archive}' holds {len(specs)} files named {SPEC_FILE}; one model folder is wanted.")
    beside = [member for member in members if PurePosixPath(member.filename).parent == specs[0].parent]
    return _once_each([member for member in beside if _is_ours(PurePosixPath(member.filename).name)], archive)


def _once_each(members: list[zipfile.ZipInfo], archive: Path) -> Members:
    named = {PurePosixPath(member.filename).name: member for member in members}
    if len(named) < len(members):
        names = ", ".join(PurePosixPath(member.filename).name for member in members)
        raise ModelError(f"'{archive}' holds a file twice, among {names}. It is not unpacked.")
    return named


def _is_ours(name: str) -> bool:
    """Whether a model folder may contain a file of this name."""
    return name == SPEC_FILE or name.endswith(".safetensors") or name in OTHER_FILES


def _is_file_managers(filename: str) -> bool:
    parts = PurePosixPath(filename).parts
    return bool(parts) and (parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] in FILE_MANAGER_FILES)


def _check_sizes(members: Members, archive: Path) -> None:
    """Refuse zip bombs: too high a compression ratio, or too large a file other than weights."""
    size = archive.stat().st_size
    total = sum(member.file_size for member in members.values())
    if total > MAX_BYTES:
        raise ModelError(f"'{archive}' holds more than a model ({total} bytes). It is not unpacked.")
    if total > MAX_SMALL + MAX_GROWTH * size:
        raise ModelError(
            f"'{archive}' has {size} bytes and would become {total}, far more than any weights would. It is not "
            "unpacked."
        )
    for name, member in members.items():
        most = MAX_SPEC_BYTES if name == SPEC_FILE else MAX_BYTES if name.endswith(".safetensors") else MAX_OTHER_BYTES
        if member.file_size > most:
            raise ModelError(f"'{archive}': {name} has {member.file_size} bytes, at most {most} are allowed.")


# Writing the folder


def _check_place(target: Path) -> None:
    """Check that only a model folder would be replaced.

    Raises:
        ModelError: something else is there.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ModelError(f"'{target}' is in the way: it is no folder. Move it away, or rename the zip file.")
    if not target.is_dir():
        return
    names = [path.name for path in target.iterdir() if not _is_file_managers(path.name)]
    foreign = [name for name in names if not _is_ours(name)]
    if foreign or (names and SPEC_FILE not in names):
        some = ", ".join(sorted(foreign or names)[:3])
        raise ModelError(
            f"'{target}' holds what is no model's ({some}) and is not replaced. Move it away, or rename the zip file."
        )


def _check_space(into: Path, wanted: int) -> None:
    free = shutil.disk_usage(into).free
    if free < wanted:
        raise ResourceError(f"'{into}' has {free >> 20} MiB left, the model needs {wanted >> 20} MiB. Free some space.")


@contextmanager
def _written_to(into: Path, archive: Path) -> Iterator[None]:
    """Distinguish errors of the disk from errors of the zip file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # from a decompressor
            raise
        reason = error.strerror or error
        raise ResourceError(f"'{archive}' could not be unpacked to '{into}': {reason}. Nothing was changed.") from None


def _unpack(packed: zipfile.ZipFile, members: Members, new: Path, archive: Path) -> None:
    """Unpack the description first: it names the required weights, and nothing large is unpacked without it."""
    _extract(packed, members[SPEC_FILE], new / SPEC_FILE)
    spec = read_spec(new)
    networks = [network for pathway in spec.pathways.values() for network in pathway.members]
    for network in networks:
        if network.weights not in members:
            raise ModelError(f"'{archive}' holds no '{network.weights}', which its {SPEC_FILE} names.")
    for network in networks:
        _extract(packed, members[network.weights], new / network.weights)
        check_weights_file(new, network)
    for name in OTHER_FILES:
        if name in members:
            _extract(packed, members[name], new / name)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Unpack in pieces; `zipfile` limits the size to the table of contents, and verifies the checksum."""
    with packed.open(member) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file, UNPACK_BYTES)
        file.flush()
        os.fsync(file.fileno())
