"""Byte transfer to and from an inference process, local or remote. No torch, no Qt; nothing here blocks.

The login shell of a remote host may print something before our process does, so the process first writes `GREETING`
with its protocol version. The greeting must come within the first `NOISE_BYTES`; before that, no patient data leave
this computer.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections import deque
from typing import IO

import numpy as np

from ..child_process import Child
from ..errors import ResourceError
from ..host.address import Host
from ..host.explain import explain_end, foreign_output, no_answer, other_version
from ..host.ssh import ssh_command, ssh_environment
from .compression import Compressor, Decompressor
from .outcome import HostFailed, WorkerDied
from .pipes import READ_BYTES, reason_of, widen
from .protocol import PROTOCOL_VERSION, FrameReader, Hello, Message

# One exchange transfers bytes for at most this long, so that the GUI stays responsive.
POLL_SECONDS = 0.015
ERROR_BYTES = 1 << 16
GREETING = b"\0DANTE-WORKER %d\0"  # texts of a shell contain no zero bytes
NOISE_BYTES = 1 << 16
ANSWER_SECONDS = 60.0  # maximum time until the greeting
# Maximum number of bytes per write, compression step, and read for decompression.
WRITE_BYTES, COMPRESS_BYTES, DECOMPRESS_BYTES = 1 << 20, 1 << 18, 1 << 16
_GREETING = re.compile(GREETING.replace(b"%d", rb"(\d{1,9})"))

Messages = list[tuple[Message, tuple[np.ndarray, ...]]]


class Connection:
    """An inference process, and the bytes sent to and received from it.

    Attributes:
        host: the remote host; None for this computer.
        hello: its first message, sent when it is ready; None before.
        seconds: duration of the start by step ("start", "import"; for a remote host also "connect").
    """

    def __init__(self, host: Host | None, idle_seconds: float) -> None:
        """Start the process.

        Raises:
            ResourceError: it cannot be started, or this Python cannot read its pipes without waiting.
        """
        _check_python()
        self.host = host
        self.hello: Hello | None = None
        self._reader = FrameReader()
        self._outbox: deque[memoryview] = deque()
        self._compressor = None if host is None else Compressor()
        self._decompressor = None if host is None else Decompressor()
        self._compressed = memoryview(b"")  # to be written before the outbox
        self._received = bytearray()  # what a remote host sent before the greeting
        self._greeted = host is None
        self._errors = bytearray()
        self._began = time.monotonic()
        self._child = _start(host, idle_seconds)
        for stream in self._child.streams():
            os.set_blocking(stream.fileno(), False)
        for stream in self._child.streams()[:2]:
            widen(stream.fileno())
        self.seconds = {"start": time.monotonic() - self._began}

    @property
    def usable(self) -> bool:
        """Whether the process runs and has sent its hello."""
        return self.hello is not None and self._child.running

    def ended(self) -> int | None:
        """The exit code of the process, or of ssh; None while it runs."""
        return self._child.poll()

    def send(self, frame: list[bytes | memoryview]) -> None:
        """Queue a message; `exchange` sends it."""
        self._outbox.extend(memoryview(piece).cast("B") for piece in frame if len(piece))

    def stage(self) -> str:
        """Status text while a remote host is being reached; empty for this computer, and once it is reached."""
        if self.host is None:
            return ""
        if not self._greeted:
            return f"Connecting to {self.host.name}"
        waiting = sum(map(len, self._outbox))
        if waiting > COMPRESS_BYTES:
            return f"Sending to {self.host.name}, {waiting / 1e6:.0f} MB left"
        return f"Starting the computing process on {self.host.name}" if self.hello is None else ""

    def exchange(self) -> Messages:
        """Transfer bytes both ways until nothing is left to transfer, or for `POLL_SECONDS`; returns received messages.

        Raises:
            ProtocolError: something other than a message was received.
            HostFailed: the remote host does not send the greeting.
        """
        messages: Messages = []
        _, output, errors = self._child.streams()
        deadline = time.monotonic() + POLL_SECONDS
        while time.monotonic() < deadline:
            written, data = (
                self._write(deadline),
                _read(output, READ_BYTES if self._decompressor is None else DECOMPRESS_BYTES),
            )
            self._keep_errors(_read(errors))
            messages += self._messages(data or b"")
            if not written and not data:
                if not self._outbox or not self._greeted:
                    break
                self._until_movable(deadline)
        if not self._greeted and self._child.running and time.monotonic() - self._began > ANSWER_SECONDS:
            assert self.host is not None  # a process on this computer needs no greeting
            raise HostFailed(no_answer(self.host, ANSWER_SECONDS, bytes(self._received)))
        return messages

    def why_ended(self, code: int) -> WorkerDied:
        """The error for a process that has ended with `code`."""
        self._keep_errors(_read(self._child.streams()[2]))
        if self.host is None:
            return WorkerDied(
                f"The computing process ended unexpectedly ({reason_of(code)}). {self.last_error_line()}".strip()
            )
        said = self._errors.decode("utf-8", "replace").strip() or self._received.decode("utf-8", "replace")
        kind = WorkerDied if self.hello is not None else HostFailed
        return kind(explain_end(self.host, code, said, self._greeted))

    def last_error_line(self) -> str:
        """The last line that the process wrote to standard error."""
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return f"Its last words: {lines[-1]}" if lines else ""

    def end(self, patience: float) -> None:
        """End the process and its children; killed after `patience` seconds.

        On a remote host it ends by itself, because its standard input is closed.
        """
        self._child.end(patience)
        pid = self.hello.pid if self.hello is not None and self.host is None else None
        if pid is not None and pid != self._child.pid and os.name == "nt":  # started by Slicer's launcher
            with contextlib.suppress(OSError):
                os.kill(pid, 15)

    def _messages(self, data: bytes) -> Messages:
        messages: Messages = []
        data = data if self._greeted else self._after_greeting(data)
        for piece in [data] if self._decompressor is None else self._decompressor.feed(data):
            for frame in self._reader.feed(piece):
                if isinstance(frame.message, Hello):
                    self.hello = frame.message
                    self.seconds["import"] = frame.message.seconds
                else:
                    messages.append((frame.message, frame.arrays))
        return messages

    def _after_greeting(self, data: bytes) -> bytes:
        """The data after a remote host's greeting; empty until the greeting is complete.

        Raises:
            HostFailed: the greeting has another version, or does not come within `NOISE_BYTES`.
        """
        assert self.host is not None
        self._received += data
        found = _GREETING.search(self._received)
        if found is None:
            if len(self._received) > NOISE_BYTES:
                raise HostFailed(foreign_output(self.host, bytes(self._received)))
            return b""
        if int(found[1]) != PROTOCOL_VERSION:
            raise HostFailed(other_version(self.host, int(found[1]), PROTOCOL_VERSION))
        self._greeted = True
        self.seconds["connect"] = time.monotonic() - self._began
        return bytes(self._received[found.end() :])

    def _until_movable(self, deadline: float) -> None:
        """Wait until there is something to read, or space in the full pipe to the process."""
        if os.name == "nt":  # on Windows select works only with sockets
            time.sleep(0.0005)
            return
        left = max(0.0, deadline - time.monotonic())
        to_child, from_child, _ = self._child.streams()
        select.select([from_child], [to_child], [], left)

    def _write(self, deadline: float) -> int:
        total, stream = 0, self._child.streams()[0]
        while self._greeted and (piece := self._next_piece(deadline)):
            try:
                count = os.write(stream.fileno(), piece[:WRITE_BYTES])
            except BlockingIOError:
                break
            except OSError:  # the process has ended; `why_ended` explains it
                self._outbox.clear()
                self._compressed = memoryview(b"")
                break
            total += count
            if self._compressor is not None:
                self._compressed = piece[count:]
            elif count < len(piece):
                self._outbox[0] = piece[count:]
            else:
                self._outbox.popleft()
        return total

    def _next_piece(self, deadline: float) -> memoryview:
        """The next bytes to write; empty if there are none, or if none are compressed by `deadline`."""
        if self._compressor is None:
            return self._outbox[0] if self._outbox else memoryview(b"")
        while not self._compressed and self._outbox and time.monotonic() < deadline:
            piece = self._outbox.popleft()
            if len(piece) > COMPRESS_BYTES:
                self._outbox.appendleft(piece[COMPRESS_BYTES:])
            self._compressed = memoryview(self._compressor.feed(piece[:COMPRESS_BYTES]))
            if not self._outbox:
                self._compressed = memoryview(bytes(self._compressed) + self._compressor.flush())
        return self._compressed

    def _keep_errors(self, data: bytes | None) -> None:
        """Keep the last `ERROR_BYTES` that the process writes to standard error."""
        self._errors += data or b""
        del self._errors[:-ERROR_BYTES]


def _check_python() -> None:
    """
    Raises:
        ResourceError: this Python cannot read from a pipe without waiting.
    """
    if not hasattr(os, "set_blocking"):
        raise ResourceError("on Windows this needs Python 3.12 or newer. Take another Python, or leave out --host.")


def _start(host: Host | None, idle_seconds: float) -> Child:
    module, arguments = "DanteSegmenterLib.worker.server", ["--idle-seconds", str(idle_seconds)]
    if host is None:
        return Child.of_module(module, arguments, pipes=True)
    command = ssh_command(host, module, [*arguments, "--by-ssh"])
    return Child(command, ssh_environment(), pipes=True, own_session=True)


def _read(stream: IO[bytes], most: int = READ_BYTES) -> bytes | None:
    try:
        return os.read(stream.fileno(), most)
    except BlockingIOError:
        return None
    except (OSError, ValueError):
        return b""
