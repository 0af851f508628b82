"""Read and write model folders, without torch.

A model folder contains `model.json` (a `ModelSpec`), weights as safetensors, a model card `README.md` and
`provenance.json`. It is the only interface between training and deployment. Reading it never executes code and never
allocates memory in proportion to unverified values.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..guard.plain_text import LONG, SHORT, one_line
from ..strict_dataclass import from_plain, to_plain
from .checks import check_spec
from .spec import FORMAT_VERSION, Member, ModelSpec

SPEC_FILE = "model.json"
MAX_SPEC_BYTES = 1 << 20
# Keys of longer texts; all others are names.
PROSE = {"training_data", "intended_use", "licence", "citations"}


def read_spec(folder: Path | str) -> ModelSpec:
    """Read and validate `model.json`; does not look at the weights.

    Its texts are untrusted, so each is reduced to one printable line (see `plain_text`).

    Raises:
        ModelError: not a model folder, written by a newer version, or inconsistent.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    if not path.is_file():
        choose = f"'{folder / 'model'}'" if (folder / "model" / SPEC_FILE).is_file() else "one that holds that file"
        raise ModelError(f"'{folder}' is no model folder: it has no {SPEC_FILE}. Choose {choose}.")
    try:
        plain = _plain_texts(_read_json(path))
        _check_version(plain)
        spec = from_plain(ModelSpec, plain, where=SPEC_FILE, error=ModelError)
        check_spec(spec)
    except ModelError as error:
        raise ModelError(f"'{path}' cannot be used: {str(error).removesuffix('.')}.") from None
    except RecursionError:
        raise ModelError(f"'{path}' cannot be used: it nests too deeply. Copy the model folder again.") from None
    return spec


def _read_json(path: Path) -> Any:
    """Parse the file strictly: no duplicate keys, no NaN. A byte order mark is skipped."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SPEC_BYTES + 1)
        if len(content) > MAX_SPEC_BYTES:
            raise ModelError(f"it is larger than {MAX_SPEC_BYTES} bytes; a model description is a few kilobytes.")
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once_each, parse_constant=_no_number)
    except ValueError as error:
        raise ModelError(f"it is not valid JSON ({error}). Copy the model folder again.") from None
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror or error}.") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"a key is there twice, among {one_line(', '.join(key for key, _value in pairs))}")
    return table


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _check_version(plain: Any) -> None:
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"it has no valid format_version (got {version!r}, wanted 1 to {FORMAT_VERSION}).")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"it has format version {version}, this extension reads up to {FORMAT_VERSION}. Update SlicerDANTE."
        )


def _plain_texts(value: Any, longest: int = SHORT) -> Any:
    """The same nested structure with every text and key reduced to one printable line."""
    if isinstance(value, str):
        return one_line(value, longest)
    if isinstance(value, list):
        return [_plain_texts(item, longest) for item in value]
    if isinstance(value, dict):
        return {one_line(k): _plain_texts(item, LONG if k in PROSE else longest) for k, item in value.items()}
    return value


def check_weights_file(folder: Path | str, member: Member) -> Path:
    """Path of a network's weights, after comparing their SHA-256 with `model.json`.

    Raises:
        ModelError: the file is missing, a link, or was altered after training.
    """
    path = Path(folder) / member.weights
    if path.is_symlink() or not path.is_file():
        raise ModelError(f"'{path}' is missing (or a link). Copy the whole model folder again.")
    digest = sha256_of(path)
    if digest != member.sha256:
        raise ModelError(
            f"'{path}' is not the file the model was released with: its SHA-256 is {digest[:12]}..., model.json says "
            f"{member.sha256[:12]}.... Copy the model folder again from its source."
        )
    return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def write_spec(folder: Path | str, spec: ModelSpec) -> None:
    """Write `model.json`; refuses what `read_spec` would refuse."""
    (Path(folder) / SPEC_FILE).write_text(spec_text(spec), encoding="utf-8")


def spec_text(spec: ModelSpec) -> str:
    """Content of `model.json`.

    Raises:
        ModelError: `read_spec` would refuse it.
    """
    check_spec(spec)
    return json.dumps(_plain_texts(to_plain(spec)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
