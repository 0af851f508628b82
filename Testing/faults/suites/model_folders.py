"""Model folders that are incomplete, contradictory or hostile."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from faults.doors import Segmenting
from faults.tally import Case

WEIGHTS = "limited.safetensors"
NEEDED = ("format_version", "name", "modalities", "regions", "network", "limited")
HUGE = 10**400
ESCAPE = "a\x1b]0;owned\x07"


class Models:
    """A good model folder, with one thing changed."""

    def __init__(self, door: Segmenting) -> None:
        self.door = door
        self.plain = json.loads((door.model / "model.json").read_text())
        self.weights = (door.model / WEIGHTS).read_bytes()

    def using(self, description: object = None, content: bytes | None = b"") -> Callable[[], None]:
        """Segment with another description (text, bytes or JSON), other weights (b"": the good ones), or none."""

        def action() -> None:
            model = self.door.folder / "changed"
            shutil.rmtree(model, ignore_errors=True)
            model.mkdir()
            (model / "model.json").write_bytes(self._as_bytes(description))
            if content is not None:
                (model / WEIGHTS).write_bytes(content or self.weights)
            self.door.segment(self.door.paths, model=model)

        return action

    def _as_bytes(self, description: object) -> bytes:
        if isinstance(description, bytes):
            return description
        return json.dumps(self.plain if description is None else description).encode()

    def with_(self, *path: Any, value: object) -> dict[str, Any]:
        """The description with another value at a path."""
        whole = json.loads(json.dumps(self.plain))
        at = whole
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return whole


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    models = Models(Segmenting(folder))
    yield from wrong_keys(models)
    yield from absurd_numbers(models)
    yield from hostile_texts(models)
    yield from no_descriptions(models)
    yield from weights(models, chance)
    yield from places(models)


def wrong_keys(models: Models) -> Iterator[Case]:
    plain = models.plain
    for key in NEEDED:
        yield f"without {key}", models.using({k: v for k, v in plain.items() if k != key})
    for key, value in plain.items():
        if value is not None:
            wrong = "seven" if isinstance(value, int) else 7
            yield f"{key} = {wrong!r}", models.using({**plain, key: wrong})
    for key in plain["network"]:
        yield f"network.{key} is text", models.using(models.with_("network", key, value="x"))
    yield "an unknown key", models.using({**plain, "command": "rm -rf /"})
    yield "a format of the future", models.using({**plain, "format_version": 99})
    yield "one region twice", models.using({**plain, "regions": plain["regions"][:1] * 2})
    yield "one modality twice", models.using({**plain, "modalities": plain["modalities"][:1] * 4})
    yield "no regions", models.using({**plain, "regions": []})


def absurd_numbers(models: Models) -> Iterator[Case]:
    for features in ([1 << 30, 1 << 30], [0, 1], [], [2] * 50, [2], [-2, 4], [HUGE, 2]):
        yield f"features {str(features)[:20]}", models.using(models.with_("network", "features", value=features))
    for patch in ([1 << 20] * 3, [0, 0, 0], [15, 15, 15], [16, 16], [-16] * 3, [HUGE] * 3):
        yield f"patch {str(patch)[:20]}", models.using({**models.plain, "patch": patch})
    for spacing in ([0, 0, 0], [-1, 1, 1], [1e-9] * 3, [HUGE, 1, 1], [1, 1], [1e9] * 3):
        changed = models.with_("preprocessing", "spacing_mm", value=spacing)
        yield f"spacing {str(spacing)[:20]}", models.using(changed)
    for label in (-1, 0, 256, HUGE, 1.5):
        changed = models.with_("regions", 0, "label_value", value=label)
        yield f"a label {str(label)[:20]}", models.using(changed)
    window = {"kind": "ct_window", "low": 0, "high": 1e300}
    changed = models.with_("preprocessing", "normalisation", "t1", value=window)
    yield "a window without end", models.using(changed)


def hostile_texts(models: Models) -> Iterator[Case]:
    """Texts that would do harm when displayed or used as a name or path."""
    for path in (("modalities", 0, "id"), ("regions", 0, "id")):
        for text in ("t1;x:y", "<b>", "../x", ESCAPE, "", "=1+1", "x" * 500):
            yield f"{path[0]}: the id {text[:10]!r}", models.using(models.with_(*path, value=text))
    for path in (("name",), ("regions", 0, "name"), ("modalities", 0, "label")):
        for text in ("", " \n", "\u202e", "\x1b"):
            yield f"{'.'.join(map(str, path))} = {text!r}", models.using(models.with_(*path, value=text))
    for text in ("a|b", "a~b", "a^b"):
        changed = models.with_("regions", 0, "terminology", "type", "meaning", value=text)
        yield f"the code '{text}'", models.using(changed)
    names = ("../good/x.safetensors", "/etc/passwd", "weights.pkl", "", "a/b.safetensors", "..\\x.safetensors")
    for name in (*names, "con.safetensors", ".safetensors", "a\0.safetensors", "x" * 300 + ".safetensors"):
        yield f"weights {name[:30]!r}", models.using(models.with_("limited", "weights", value=name))


def no_descriptions(models: Models) -> Iterator[Case]:
    """Files named model.json that are no description."""
    texts = [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a": NaN}', b"\0" * 50, b"\xff\xfe{}", b'"' + b"x" * 99]
    texts += [b'{"format_version": 1, "format_version": 1}', b'{"format_version": 1e999}', b"1" * 6000]
    for text in texts:
        yield f"model.json of {text[:24]!r}", models.using(text)
    yield "a huge model.json", models.using({**models.plain, "name": "x" * (4 << 20)})


def weights(models: Models, chance: random.Random) -> Iterator[Case]:
    yield "no weights", models.using(content=None)
    contents = {
        "a pickle": pickle.dumps({"w": 1}),
        "cut": models.weights[:-5],
        "of one byte": b"\0",
        "longer": models.weights + b"\0",
        "a claim of 10 GB": struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,1]}}',
        "a header of 2^60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
        "noise": chance.randbytes(4000),
        "of another network": save({"w": np.zeros(3, np.float32)}),
        "not finite": save(not_finite(load(models.weights), chance)),
    }
    for name, content in contents.items():
        digest = hashlib.sha256(content).hexdigest()
        yield f"weights: {name}", models.using(content=content)
        yield (
            f"weights: {name}, with their digest",
            models.using(models.with_("limited", "sha256", value=digest), content),
        )
    for _ in range(8):
        place = chance.randrange(len(models.weights))
        wrong = bytes([models.weights[place] ^ 1 << chance.randrange(8)])
        content = models.weights[:place] + wrong + models.weights[place + 1 :]
        yield f"weights: one wrong bit in byte {place}", models.using(content=content)


def not_finite(tensors: dict[str, np.ndarray], chance: random.Random) -> dict[str, np.ndarray]:
    name = chance.choice(sorted(tensors))
    spoiled = tensors[name].copy()
    spoiled.flat[chance.randrange(spoiled.size)] = chance.choice((np.nan, np.inf, -np.inf))
    return {**tensors, name: spoiled}


def places(models: Models) -> Iterator[Case]:
    """Paths that are not a folder with its own files."""
    door = models.door

    def using(model: Path) -> Callable[[], None]:
        return lambda: door.segment(door.paths, model=model)

    linked, empty = door.folder / "linked", door.folder / "empty"
    linked.mkdir()
    empty.mkdir()
    shutil.copy(door.model / "model.json", linked)
    (linked / WEIGHTS).symlink_to(door.model / WEIGHTS)
    yield "weights are a symbolic link", using(linked)
    yield "an empty folder", using(empty)
    yield "no folder", using(door.folder / "nowhere")
    yield "a file", using(door.paths["t1"])
    yield "its description", using(door.model / "model.json")
    yield "a name that no folder can have", using(door.folder / "x\0y")
