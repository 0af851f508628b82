"""Messages between GUI and inference process: framed, typed, versioned; no torch, no pickle, no network port.

A frame consists of a prefix: magic "DNTE", protocol version (uint16), header length (uint32), payload length (uint64),
all little-endian; the header, a JSON object {"type": ..., fields of the message ..., "arrays": [{"dtype", "shape"},
...]}; and the payload, the arrays' bytes in C order, concatenated. For a remote host the frames form one compressed
stream in each direction, after the greeting (see `connection`). Every length is checked before memory is allocated for
it; a frame that breaks a rule ends the connection with a `ProtocolError`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, get_args

import numpy as np

from ..errors import DanteError
from ..options import DEFAULTS, SegmentOptions
from ..result.report import Report
from ..strict_dataclass import from_plain, to_plain
from ..volume import Volume

PROTOCOL_VERSION = 3
FRAME_MAGIC = b"DNTE"
ENDED_IDLE = 4  # exit code of a process that was idle for too long
FRAME_PREFIX = struct.Struct("<4sHIQ")
MAX_FRAME_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 34  # 16 GiB: four float32 volumes of 1024^3
BRAIN_MASK = "brain mask"
"""Used in place of a modality for the user's own brain mask of a raw study."""
ARRAY_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "float16")


class ProtocolError(DanteError):
    """The other side sent something that is not a message of this version."""


@dataclass(frozen=True)
class Grid:
    """One volume of a request: modality, name and position (row-major 4x4, RAS mm)."""

    modality: str
    name: str
    ijk_to_ras: tuple[float, ...]


@dataclass(frozen=True)
class Hello:
    """First message of the process, sent when it is ready."""

    type: ClassVar[str] = "hello"
    pid: int
    version: str
    seconds: float  # from start to ready, including the import of torch


@dataclass(frozen=True)
class SegmentRequest:
    """Segment the volumes whose arrays follow, one per grid; `model` is a folder, or for a remote host a digest."""

    type: ClassVar[str] = "segment"
    id: int
    model: str
    device: str
    grids: tuple[Grid, ...]
    options: SegmentOptions = DEFAULTS


@dataclass(frozen=True)
class CancelRequest:
    """Cancel run `id`; has no effect if the run has ended already."""

    type: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True)
class ProgressMessage:
    """Progress of run `id`."""

    type: ClassVar[str] = "progress"
    id: int
    phase: str
    fraction: float
    message: str


@dataclass(frozen=True)
class ResultMessage:
    """Result of run `id`.

    Arrays: label map uint8 [K, J, I]; if requested, probabilities float16 [R, K, J, I]; if `brain` is set, brain mask
    uint8 [K, J, I].
    """

    type: ClassVar[str] = "result"
    id: int
    modality: str  # whose grid the arrays are on
    report: Report
    alignments: dict[str, tuple[float, ...]] = field(default_factory=dict)  # by modality: row-major 4x4, RAS mm
    brain: bool = False


@dataclass(frozen=True)
class FailureMessage:
    """Run `id` ended without a result.

    kind: "cancelled"; "refused", or "lacking" if the computer lacks something, both with an explanation; "defect".
    """

    type: ClassVar[str] = "failure"
    id: int
    kind: str
    message: str


@dataclass(frozen=True)
class ModelWanted:
    """From a remote host: run `id` waits for its model, which is not cached."""

    type: ClassVar[str] = "model wanted"
    id: int


@dataclass(frozen=True)
class ModelFiles:
    """The model of run `id`: names of its files; arrays: their contents, uint8 [bytes] each."""

    type: ClassVar[str] = "model"
    id: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class CaseMessage:
    """A case of a batch segmented by another machine.

    Arrays, if there is a result: a slice of the reference float32 [1, J, I], and its label map uint8 [1, J, I].
    """

    type: ClassVar[str] = "case"
    case: str
    state: str
    message: str
    report: Report | None = None


Message = (
    Hello
    | SegmentRequest
    | CancelRequest
    | ProgressMessage
    | ResultMessage
    | FailureMessage
    | ModelWanted
    | ModelFiles
    | CaseMessage
)
MESSAGES: dict[str, type[Message]] = {kind.type: kind for kind in get_args(Message)}


@dataclass(frozen=True, eq=False)
class Frame:
    """A message and its arrays."""

    message: Message
    arrays: tuple[np.ndarray, ...] = ()


def encode(message: Message, arrays: tuple[np.ndarray, ...] = ()) -> list[bytes | memoryview]:
    """Encode a frame in pieces, to be written one after the other; arrays are not copied."""
    plain = {"type": message.type, **to_plain(message)}
    plain["arrays"] = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    for array in arrays:
        if array.dtype.name not in ARRAY_DTYPES:
            raise ValueError(f"arrays of {array.dtype} cannot be sent")
    header = json.dumps(plain, allow_nan=False).encode()
    payload = [_bytes_of(array) for array in arrays]
    return [
        FRAME_PREFIX.pack(FRAME_MAGIC, PROTOCOL_VERSION, len(header), sum(len(p) for p in payload)),
        header,
        *payload,
    ]


def arrays_of(volumes: Mapping[str, Volume]) -> tuple[np.ndarray, ...]:
    """The volumes' arrays in dtypes that can be sent; 64-bit integers become float64."""
    return tuple(_sendable(volume.array) for volume in volumes.values())


def _sendable(array: np.ndarray) -> np.ndarray:
    if array.dtype.name in ARRAY_DTYPES:
        return array
    return array.astype(np.uint8 if array.dtype == bool else np.float64)


def _bytes_of(array: np.ndarray) -> memoryview:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


class FrameReader:
    """Parses a stream of bytes, arriving in any pieces, into frames."""

    def __init__(self) -> None:
        self._start_frame()

    def _start_frame(self) -> None:
        self._prefix, self._header = bytearray(), bytearray()
        self._lengths: tuple[int, int] | None = None  # of header and payload
        self._parsed: tuple[Message, list[tuple[np.dtype, tuple[int, ...]]]] | None = None
        self._payload: bytearray | None = None
        self._filled = 0  # bytes of the payload

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Yield the frames completed by `data`.

        Raises:
            ProtocolError: the stream has another protocol or version; it cannot be read further.
        """
        data = memoryview(data)
        while len(data) or self._complete():
            data = self._take(data)
            if self._complete():
                yield self._finish()

    @property
    def idle(self) -> bool:
        """Whether no frame is incomplete, so that the stream may end here."""
        return not self._prefix

    def _complete(self) -> bool:
        return self._payload is not None and self._filled == len(self._payload)

    def _take(self, data: memoryview) -> memoryview:
        if self._lengths is None:
            data = _fill(self._prefix, FRAME_PREFIX.size, data)
            if len(self._prefix) == FRAME_PREFIX.size:
                self._lengths = _lengths(bytes(self._prefix))
        if self._lengths is not None and self._parsed is None:
            data = _fill(self._header, self._lengths[0], data)
            if len(self._header) == self._lengths[0]:
                self._parsed = _parse(bytes(self._header), self._lengths[1])
                self._payload = bytearray(self._lengths[1])
        if self._payload is not None and len(data):
            count = min(len(data), len(self._payload) - self._filled)
            self._payload[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
        return data

    def _finish(self) -> Frame:
        assert self._parsed is not None and self._payload is not None  # checked by `_complete`
        message, layouts = self._parsed
        arrays, start, payload = [], 0, self._payload
        for dtype, shape in layouts:
            count = math.prod(shape)
            arrays.append(np.frombuffer(payload, dtype, count, start).reshape(shape))
            start += count * dtype.itemsize
        self._start_frame()
        return Frame(message, tuple(arrays))


def _fill(buffer: bytearray, size: int, data: memoryview) -> memoryview:
    count = min(size - len(buffer), len(data))
    buffer += data[:count]
    return data[count:]


def _lengths(prefix: bytes) -> tuple[int, int]:
    magic, version, header, payload = FRAME_PREFIX.unpack(prefix)
    if magic != FRAME_MAGIC:
        raise ProtocolError(f"no message begins with {magic!r}.")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the other side speaks protocol version {version}, this one {PROTOCOL_VERSION}. Restart Slicer."
        )
    if header > MAX_FRAME_HEADER_BYTES or payload > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a message of {header} + {payload} bytes is too large.")
    return header, payload


def _parse(header: bytes, payload_bytes: int) -> tuple[Message, list[tuple[np.dtype, tuple[int, ...]]]]:
    try:
        plain = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message's header is not JSON ({error}).") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("type"), str) or plain["type"] not in MESSAGES:
        raise ProtocolError("a message of unknown type.")
    kind, arrays = MESSAGES[plain.pop("type")], plain.pop("arrays", None)
    message: Message = from_plain(kind, plain, kind.__name__, ProtocolError)
    layouts = [_layout(entry) for entry in arrays] if isinstance(arrays, list) else None
    if layouts is None or sum(dtype.itemsize * math.prod(shape) for dtype, shape in layouts) != payload_bytes:
        raise ProtocolError(f"the arrays of a {kind.__name__} do not add up to its {payload_bytes} bytes.")
    return message, layouts


def _layout(entry: object) -> tuple[np.dtype, tuple[int, ...]]:
    layout = from_plain(_ArrayLayout, entry, "arrays", ProtocolError)
    if layout.dtype not in ARRAY_DTYPES or len(layout.shape) > 4 or not all(0 <= n < 1 << 31 for n in layout.shape):
        raise ProtocolError(f"an array of {layout.dtype} {layout.shape} cannot be received.")
    return np.dtype(layout.dtype).newbyteorder("<"), layout.shape


@dataclass(frozen=True)
class _ArrayLayout:
    dtype: str
    shape: tuple[int, ...]
