import json
import struct

import numpy as np
import pytest

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Finding, Report
from DanteSegmenterLib.worker.protocol import (
    FRAME_MAGIC,
    FRAME_PREFIX,
    PROTOCOL_VERSION,
    CancelRequest,
    FailureMessage,
    FrameReader,
    Grid,
    ProtocolError,
    ResultMessage,
    SegmentRequest,
    encode,
)

EYE = tuple(np.eye(4).ravel().tolist())
REQUEST = SegmentRequest(7, "a model", "cpu", (Grid("t1", "Größe 1", EYE), Grid("t2", "b", EYE)))
ARRAYS = (np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2))


def frame(message=REQUEST, arrays=ARRAYS):
    return b"".join(bytes(piece) for piece in encode(message, arrays))


def raw(header, payload=b"", magic=FRAME_MAGIC, version=PROTOCOL_VERSION, header_bytes=None, payload_bytes=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = (
        len(text) if header_bytes is None else header_bytes,
        len(payload) if payload_bytes is None else payload_bytes,
    )
    return FRAME_PREFIX.pack(magic, version, *lengths) + text + payload


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_messages_and_arrays_round_trip_in_any_pieces(piece):
    findings = (Finding("WT", 1.5, 1.0, 2.0, 0.9), Finding("ET", 0.0, 0.0, 0.5))
    report = Report("m", "1", "0a", SegmentOptions(mirror=True), findings, {"network": 0.5}, "cpu", ("a note",))
    result = ResultMessage(7, "t1", report)
    stream = frame() + frame(CancelRequest(7), ()) + frame(result, (np.zeros((2, 2, 2), np.uint8),))
    reader = FrameReader()
    found = [f for n in range(0, len(stream), piece) for f in reader.feed(stream[n : n + piece])]
    assert [f.message for f in found] == [REQUEST, CancelRequest(7), result] and reader.idle
    for sent, got in zip(ARRAYS, found[0].arrays):
        assert sent.dtype == got.dtype and np.array_equal(sent, got)


def test_array_keeps_its_memory_order():
    turned = np.asfortranarray(ARRAYS[0])[::-1]
    assert np.array_equal(next(FrameReader().feed(frame(REQUEST, (turned, ARRAYS[1])))).arrays[0], turned)


def test_truncated_frame_is_never_taken_for_a_complete_one():
    whole = frame()
    for cut in range(len(whole)):
        reader = FrameReader()
        assert list(reader.feed(whole[:cut])) == []
        assert next(reader.feed(whole[cut:])).message == REQUEST


def test_corrupt_frame_is_refused_or_read_without_a_crash():
    whole = frame()
    refused = 0
    for n in range(FRAME_PREFIX.size + 300):
        for wrong in (0, 255, whole[n] ^ 1):
            damaged = whole[:n] + bytes([wrong]) + whole[n + 1 :]
            try:
                list(FrameReader().feed(damaged))
            except DanteError:
                refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (raw({"type": "cancel", "id": 1, "arrays": []}, magic=b"HTTP"), "no message begins with"),
        (raw({"type": "cancel", "id": 1, "arrays": []}, version=PROTOCOL_VERSION + 1), "protocol version"),
        (raw(b"", header_bytes=1 << 31), "too large"),
        (raw(b"", payload_bytes=1 << 50), "too large"),
        (raw(b"[" * 5000), "not JSON"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw([1, 2]), "unknown type"),
        (raw({"type": "exec", "arrays": []}), "unknown type"),
        (raw({"type": "cancel", "id": "one", "arrays": []}), "int is needed"),
        (raw({"type": "cancel", "id": 1, "more": 2, "arrays": []}), "unknown key 'more'"),
        (raw({"type": "cancel", "arrays": []}), "'id' is missing"),
        (raw({"type": "cancel", "id": 1}), "do not add up"),
        (raw({"type": "cancel", "id": 1, "arrays": [{"dtype": "object", "shape": [1]}]}, b"12345678"), "cannot be"),
        (raw({"type": "cancel", "id": 1, "arrays": [{"dtype": "uint8", "shape": [-4]}]}, b""), "cannot be"),
        (raw({"type": "cancel", "id": 1, "arrays": [{"dtype": "uint8", "shape": [1 << 40]}]}, b""), "cannot be"),
        (raw({"type": "cancel", "id": 1, "arrays": [{"dtype": "uint8", "shape": [9]}]}, b"1"), "do not add up"),
        (raw({"type": "cancel", "id": 1, "arrays": [{"dtype": "uint8", "shape": [1]}]}, b"12"), "do not add up"),
    ],
)  # fmt: skip
def test_invalid_frame_is_refused_before_allocating(stream, reason):
    with pytest.raises(ProtocolError, match=reason):
        list(FrameReader().feed(stream))


def test_claimed_gigabytes_are_not_allocated_before_the_header_is_checked():
    claim = struct.pack("<4sHIQ", FRAME_MAGIC, PROTOCOL_VERSION, 100, 1 << 33)
    reader = FrameReader()
    assert list(reader.feed(claim)) == [] and reader._payload is None


def test_objects_cannot_be_sent():
    with pytest.raises(ValueError, match="cannot be sent"):
        encode(FailureMessage(1, "defect", "x"), (np.array([object()]),))
