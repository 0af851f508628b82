"""Read voxels from a file's bytes: exactly as many as the header says, undamaged, from an unchanged file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import InputError, ResourceError
from ..memory import available_bytes

GZIP = b"\x1f\x8b"
PIECE = 1 << 20
# More than any scanner produces: 1024 x 1024 x 1024.
MAX_VOXELS = 1 << 30
# Maximum number of bytes after the voxels; a small file that unpacks to more is meant to fill the memory.
MAX_EXTRA_BYTES = 1 << 30
# zlib's code for detecting gzip or zlib format.
EITHER_FORM = 32 + zlib.MAX_WBITS


class HeaderError(Exception):
    """An invalid header, described in half a sentence; `read_volume` adds the file and what to do."""


class DamageError(Exception):
    """The file is truncated or altered, with a description of how it shows."""


class Bytes(Protocol):
    """A file, or the decompressed content of one."""

    def read(self, size: int, /) -> bytes | bytearray: ...


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        InputError: it cannot be opened, or changed meanwhile, so header and voxels may not match.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; here only its opening may fail
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened: {error.strerror}.") from None
    with file:
        before = os.fstat(file.fileno())
        yield file
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"'{path}' was changed while it was read. Wait until it is copied, then try again.")


class Unpacked:
    """Content of a gzip or zlib stream; its checksum is verified when the end is read."""

    def __init__(self, file: Bytes) -> None:
        self._file, self._engine, self._waiting = file, zlib.decompressobj(EITHER_FORM), b""
        self.garbage = 0  # bytes after the stream that are not part of it

    def read(self, size: int, /) -> bytearray:
        """Read this many bytes; fewer only at the end of the stream.

        Raises:
            DamageError: the stream is truncated or damaged.
        """
        result = bytearray()
        while len(result) < size and (piece := self._more(size - len(result))):
            result += piece
        return result

    def _more(self, limit: int) -> bytes:
        while True:
            if self._engine.eof and not self._next_member():
                return b""
            packed = self._waiting or bytes(self._file.read(PIECE))
            if not packed:
                raise DamageError("the compressed data end too early")
            try:
                piece = self._engine.decompress(packed, min(limit, PIECE))
            except zlib.error as error:
                raise DamageError(str(error)) from None
            self._waiting = self._engine.unconsumed_tail
            if piece:
                return piece

    def _next_member(self) -> bool:
        """Continue with a concatenated gzip stream; anything else after a stream, such as zeros, is not part of it."""
        rest = self._engine.unused_data or bytes(self._file.read(PIECE))
        if rest.startswith(GZIP):
            self._engine, self._waiting = zlib.decompressobj(EITHER_FORM), rest
            return True
        self.garbage = len(rest.strip(b"\0"))
        return False


def read_voxels(source: Bytes, shape: tuple[int, ...], dtype: np.dtype, skip: int = 0, follow: int = 0) -> np.ndarray:
    """Read an array [K, J, I] in native byte order.

    Args:
        skip, follow: bytes before and after these voxels that belong to the image: other volumes of a series.

    Raises:
        DamageError: the source ends too early.
        HeaderError: larger than any image.
        ResourceError: larger than the free memory.
    """
    count = int(np.prod(shape, dtype=object))
    check_size(shape, dtype)
    _pass_over(source, skip)
    wanted = count * dtype.itemsize
    content = source.read(wanted)
    if len(content) < wanted:
        raise DamageError(f"{len(content)} bytes of voxels are there, {wanted} are needed for {shape[::-1]} voxels")
    _pass_over(source, follow)
    array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=not array.flags.writeable)


def check_size(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Check a size before allocating it.

    Raises:
        HeaderError: more voxels than any image has.
        ResourceError: larger than the free memory.
    """
    count = int(np.prod(shape, dtype=object))
    if count > MAX_VOXELS:
        raise HeaderError(f"the header gives {' x '.join(map(str, shape[::-1]))} voxels, more than any scanner's image")
    free = available_bytes()
    if free is not None and count * dtype.itemsize > free:
        raise ResourceError(
            f"an image of {' x '.join(map(str, shape[::-1]))} voxels needs {count * dtype.itemsize / 1e6:.0f} MB; "
            f"{free / 1e6:.0f} MB of memory are free. Close other programs, or crop the image."
        )


def bytes_left(source: Bytes) -> int:
    """Number of remaining bytes, read to the end, where a checksum is verified.

    Raises:
        DamageError: the stream is damaged, or unpacks to much more than its header says.
    """
    left = 0
    while piece := source.read(PIECE):
        left += len(piece)
        if left > MAX_EXTRA_BYTES:
            raise DamageError("it unpacks to far more than its header speaks of")
    return left


def note_of_extra(extra: int, shape: tuple[int, ...], dtype: np.dtype) -> list[str]:
    """A note if the file has at least one slice more than the header says."""
    if extra < shape[1] * shape[2] * dtype.itemsize:
        return []
    return [
        f"WARNING: the file holds {extra} bytes more than its header speaks of: a part of the image is not shown. "
        "Was the header changed?"
    ]


def volume_number(volumes: int, component: int | None, sizes: Sequence[int]) -> int:
    """Index of the requested volume of a series.

    Raises:
        HeaderError: none is requested although there are several, or it does not exist.
    """
    if component is None and volumes > 1:
        raise HeaderError(
            f"it has {len(sizes)} dimensions, size {tuple(sizes)}; a single three-dimensional volume is needed. "
            "Extract one volume of the series"
        )
    if component is not None and not 0 <= component < volumes:
        raise HeaderError(f"it holds {volumes} volumes; number {component} does not exist")
    return component or 0


def check_length(size: int, offset: int, wanted: int) -> None:
    """Check the length of an uncompressed file before allocating memory.

    Raises:
        DamageError: it is too short.
    """
    if size < offset + wanted:
        raise DamageError(f"it is cut short: {size} bytes are there, {offset + wanted} are needed")


def read_raw(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, skip: int) -> tuple[np.ndarray, int]:
    """Read the array [K, J, I] at the current position; also returns the number of bytes after it.

    Args:
        skip: bytes before the voxels; -1 if the voxels are at the end of the file.

    Raises:
        DamageError: the file ends too early.
        HeaderError: larger than any image.
        ResourceError: larger than the free memory.
    """
    check_size(shape, dtype)
    size, wanted = os.fstat(file.fileno()).st_size, int(np.prod(shape, dtype=object)) * dtype.itemsize
    start = max(file.tell(), size - wanted) if skip == -1 else file.tell() + max(0, skip)
    check_length(size, start, wanted)
    file.seek(start)
    return read_voxels(file, shape, dtype), size - start - wanted


def read_packed(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, skip: int = 0) -> tuple[np.ndarray, int]:
    """Like `read_raw`, for a gzip or zlib stream; `skip` counts unpacked bytes."""
    source = Unpacked(file)
    array = read_voxels(source, shape, dtype, max(0, skip))
    return array, bytes_left(source)


def _pass_over(source: Bytes, count: int) -> None:
    while count > 0:
        piece = source.read(min(count, PIECE))
        if not piece:
            raise DamageError(f"it ends {count} bytes too early")
        count -= len(piece)
