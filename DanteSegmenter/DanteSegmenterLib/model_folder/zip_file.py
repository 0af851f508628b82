"""A model folder out of a zip file, taking nothing from it but what a model folder holds."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from ..errors import ModelError, ResourceError
from .spec import SPEC_FILE, check_weights_file, read_spec

OTHER_FILES = ("README.md", "provenance.json", "LICENSE", "LICENSE.txt")
MAX_FILES = 20
MAX_BYTES = 4 << 30
PIECE = 1 << 20


def unpack_model(archive: Path | str, into: Path) -> Path:
    """Unpack a zipped model folder to `into`/NAME, NAME being the zip file's; an earlier model there is replaced.

    Args:
        archive: holds model.json and weights at its top, or in one folder.
        into: made if missing.

    Raises:
        ModelError: no zip file, no model in it, a path that leads outside, a link, too many or too large files, or a
            model folder that cannot be used. ResourceError: `into` cannot be written.
    """
    archive = Path(archive)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _members(packed, archive)
            into.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".model-", dir=into))
            try:
                for name, member in members.items():
                    _extract(packed, member, temporary / name)
                spec = read_spec(temporary)
                for pathway in filter(None, (spec.limited, spec.full)):
                    check_weights_file(temporary, pathway)
                target = into / archive.stem
                shutil.rmtree(target, ignore_errors=True)
                os.chmod(temporary, 0o755)
                os.replace(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"'{archive}' is no zip file that can be read ({error}). Copy it again.") from None
    except OSError as error:
        raise ResourceError(f"'{archive}' could not be unpacked to '{into}': {error.strerror or error}.") from None
    return target


def _members(packed: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """File name -> member of the model folder, after looking at the list of contents alone."""
    members = [member for member in packed.infolist() if not member.is_dir()]
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ModelError(f"'{archive}' holds '{member.filename}', a path that leads outside. It is not unpacked.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ModelError(f"'{archive}' holds a link, '{member.filename}'. It is not unpacked.")
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
        raise ModelError(f"'{archive}' holds more than a model ({len(members)} files). It is not unpacked.")
    specs = [PurePosixPath(member.filename) for member in members if PurePosixPath(member.filename).name == SPEC_FILE]
    if len(specs) != 1:
        raise ModelError(f"'{archive}' holds {len(specs)} files named {SPEC_FILE}; one model folder is wanted.")
    beside = {PurePosixPath(m.filename).name: m for m in members if PurePosixPath(m.filename).parent == specs[0].parent}
    return {n: m for n, m in beside.items() if n == SPEC_FILE or n.endswith(".safetensors") or n in OTHER_FILES}


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """In pieces, and not a byte more than the list of contents says: a bomb claims little."""
    left = member.file_size
    with packed.open(member) as source, open(target, "wb") as file:
        while piece := source.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                raise ModelError(f"'{member.filename}' in the zip file is larger than it says. It is not unpacked.")
            file.write(piece)
