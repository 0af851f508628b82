"""Requests that are truncated, or that break a rule of the protocol."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from models import LIMITED, LPS_2MM

from DanteSegmenterLib.worker.protocol import (
    FRAME_MAGIC,
    FRAME_PREFIX,
    PROTOCOL_VERSION,
    FrameReader,
    Grid,
    SegmentRequest,
    encode,
)
from faults.tally import Case

CANCEL = {"type": "cancel", "id": 1, "arrays": []}


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    whole, head = request()
    for cut in [*range(1, head), *range(head, len(whole), 97)]:  # the next message is no rest of it
        yield f"cut at byte {cut}", reading(whole[:cut] + whole)
    for name, stream in broken_rules().items():
        yield name, reading(stream)
    for layout in odd_layouts():
        yield f"an array {layout}", reading(frame({**CANCEL, "arrays": [layout]}, bytes(8)))
    for n in range(40):
        noise = bytearray(whole)
        noise[:4] = chance.randbytes(4)
        yield f"noise {n} before a message", reading(bytes(noise))


def request() -> tuple[bytes, int]:
    """A complete request, and the number of bytes before its voxels."""
    grids = tuple(Grid(name, name, tuple(map(float, LPS_2MM.ravel()))) for name in LIMITED)
    pieces = encode(SegmentRequest(1, "model", "cpu", grids), tuple(np.zeros((4, 4, 4), np.float32) for _ in LIMITED))
    return b"".join(bytes(piece) for piece in pieces), len(pieces[0]) + len(pieces[1])


def reading(stream: bytes) -> Callable[[], None]:
    def action() -> None:
        frames = list(FrameReader().feed(stream))
        raise AssertionError(f"{len(frames)} messages were read")

    return action


def frame(
    header: object,
    payload: bytes = b"",
    version: int = PROTOCOL_VERSION,
    header_bytes: int | None = None,
    payload_bytes: int | None = None,
) -> bytes:
    """A message with arbitrary content; lengths that are not given are correct."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = (
        (len(text) if header_bytes is None else header_bytes),
        (len(payload) if payload_bytes is None else payload_bytes),
    )
    return FRAME_PREFIX.pack(FRAME_MAGIC, version, *lengths) + text + payload


def broken_rules() -> dict[str, bytes]:
    return {
        "an older version": frame(CANCEL, version=PROTOCOL_VERSION - 1),
        "a newer version": frame(CANCEL, version=PROTOCOL_VERSION + 1),
        "a header of 2 GB": frame(b"", header_bytes=1 << 31),
        "a payload of a petabyte": frame(CANCEL, payload_bytes=1 << 50),
        "a payload that no array claims": frame(CANCEL, bytes(8)),
        "arrays without bytes": frame({**CANCEL, "arrays": [{"dtype": "uint8", "shape": [9]}]}),
        "no JSON": frame(b"[" * 5000),
        "no UTF-8": frame(b"\xff\xfe"),
        "a list": frame([1, 2]),
        "nothing": frame(b""),
        "no type": frame({"id": 1, "arrays": []}),
        "an unknown type": frame({"type": "exec", "arrays": []}),
        "a type that is no text": frame({**CANCEL, "type": ["cancel"]}),
        "a key too many": frame({**CANCEL, "more": 1}),
        "a key too few": frame({"type": "cancel", "arrays": []}),
        "a text for a number": frame({**CANCEL, "id": "one"}),
        "a truth for a number": frame({**CANCEL, "id": True}),
        "no arrays": frame({"type": "cancel", "id": 1}),
        "arrays that are no list": frame({**CANCEL, "arrays": {"dtype": "uint8"}}),
        "NaN": frame(b'{"type": "progress", "id": 1, "phase": "", "fraction": NaN, "message": "", "arrays": [1]}'),
    }


def odd_layouts() -> list[object]:
    good = {"dtype": "float32", "shape": [2]}
    changes: list[dict[str, object]] = [{"dtype": name} for name in ("object", "O", "V8", "complex64", "<f4", "", 7)]
    changes += [{"shape": shape} for shape in ([-2], [1 << 40], [1] * 5, 2, ["2"], [2.0], [1 << 30] * 4, [0])]
    return [{**good, **change} for change in changes] + [None, [], "float32", {"dtype": "float32"}, {**good, "x": 1}]
