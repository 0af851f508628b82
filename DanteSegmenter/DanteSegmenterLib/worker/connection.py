"""The bytes to and from a computing process, here or on another computer. No torch, no Qt; nothing here waits.

Another computer's shell may print before our process speaks. So that one begins with `MEETING` and its protocol's
version; it is looked for within `NOISE_BYTES`, and before it has come nothing of a patient leaves this computer.
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
from ..host.address import Host
from ..host.explain import explain_end, no_answer, not_ours, other_version
from ..host.ssh import ssh_command, ssh_environment
from .outcome import HostFailed, WorkerDied
from .pipes import READ_BYTES, reason_of, widen
from .protocol import PROTOCOL_VERSION, FrameReader, Hello, Message
from .zipped import Unzip, Zip

# Bytes are moved for so long at most per exchange, so that a window stays fluid.
POLL_SECONDS = 0.015
ERROR_BYTES = 1 << 16
MEETING = b"\0DANTE-WORKER %d\0"  # no text of a shell holds a zero byte
NOISE_BYTES = 1 << 16
ANSWER_SECONDS = 60.0  # in which another computer's process must have begun to speak
WRITE_BYTES, ZIP_BYTES, ZIPPED_BYTES = 1 << 20, 1 << 18, 1 << 16  # written, squeezed, read to be unsqueezed at a time
_MEETING = re.compile(MEETING.replace(b"%d", rb"(\d{1,9})"))

Messages = list[tuple[Message, tuple[np.ndarray, ...]]]


class Connection:
    """A process that computes, and what goes to it and comes from it.

    Attributes:
        host: the computer it runs on; None for this one.
        hello: what it said when it was ready; None before.
        seconds: what the start cost ("start"; of another computer "connect"; "import").
    """

    def __init__(self, host: Host | None, idle_seconds: float) -> None:
        """Start the process.

        Raises:
            ResourceError: it cannot be started.
        """
        self.host = host
        self.hello: Hello | None = None
        self._reader = FrameReader()
        self._outbox: deque[memoryview] = deque()
        self._zip = None if host is None else Zip()
        self._unzip = None if host is None else Unzip()
        self._squeezed = memoryview(b"")  # to be written before what is in the outbox
        self._heard = bytearray()  # from another computer, before our process spoke
        self._met = host is None
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
        """Whether it lives, and has said that it is ready."""
        return self.hello is not None and self._child.running

    def ended(self) -> int | None:
        """The exit code of the process, or of ssh; None while it runs."""
        return self._child.poll()

    def send(self, frame: list[bytes | memoryview]) -> None:
        """Put a message behind those that wait; `exchange` sends it."""
        self._outbox.extend(memoryview(piece).cast("B") for piece in frame if len(piece))

    def stage(self) -> str:
        """What of the way to another computer is going on; empty of a process here, and when it is done."""
        if self.host is None:
            return ""
        if not self._met:
            return f"Connecting to {self.host.name}"
        waiting = sum(map(len, self._outbox))
        if waiting > ZIP_BYTES:
            return f"Sending to {self.host.name}, {waiting / 1e6:.0f} MB left"
        return f"Starting the computing process on {self.host.name}" if self.hello is None else ""

    def exchange(self) -> Messages:
        """Move bytes both ways until there is nothing to move, or the time for it is over.

        Raises:
            ProtocolError: what came is no message.
            HostFailed: another computer does not answer as ours do.
        """
        messages: Messages = []
        _, output, errors = self._child.streams()
        deadline = time.monotonic() + POLL_SECONDS
        while time.monotonic() < deadline:
            written, data = self._write(deadline), _read(output, READ_BYTES if self._unzip is None else ZIPPED_BYTES)
            self._hear(_read(errors))
            messages += self._messages(data or b"")
            if not written and not data:
                if not self._outbox or not self._met:
                    break
                self._until_movable(deadline)
        if not self._met and self._child.running and time.monotonic() - self._began > ANSWER_SECONDS:
            assert self.host is not None  # a process here needs no meeting
            raise HostFailed(no_answer(self.host, ANSWER_SECONDS, bytes(self._heard)))
        return messages

    def why_ended(self, code: int) -> WorkerDied:
        """What is said of a process that is gone."""
        self._hear(_read(self._child.streams()[2]))
        if self.host is None:
            return WorkerDied(
                f"The computing process ended unexpectedly ({reason_of(code)}). {self.last_words()}".strip()
            )
        said = self._errors.decode("utf-8", "replace").strip() or self._heard.decode("utf-8", "replace")
        kind = WorkerDied if self.hello is not None else HostFailed
        return kind(explain_end(self.host, code, said, self._met))

    def last_words(self) -> str:
        """The end of what the process wrote to its standard error."""
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return f"Its last words: {lines[-1]}" if lines else ""

    def end(self, patience: float) -> None:
        """End the process with those that it started; it has so many seconds to do so itself.

        On another computer it ends because its standard input does.
        """
        self._child.end(patience)
        pid = self.hello.pid if self.hello is not None and self.host is None else None
        if pid is not None and pid != self._child.pid and os.name == "nt":  # behind Slicer's launcher
            with contextlib.suppress(OSError):
                os.kill(pid, 15)

    def _messages(self, data: bytes) -> Messages:
        messages: Messages = []
        data = data if self._met else self._after_meeting(data)
        for piece in [data] if self._unzip is None else self._unzip.feed(data):
            for frame in self._reader.feed(piece):
                if isinstance(frame.message, Hello):
                    self.hello = frame.message
                    self.seconds["import"] = frame.message.seconds
                else:
                    messages.append((frame.message, frame.arrays))
        return messages

    def _after_meeting(self, data: bytes) -> bytes:
        """What follows the first word of our process on another computer, if that has come.

        Raises:
            HostFailed: it speaks another version, or something else speaks.
        """
        assert self.host is not None
        self._heard += data
        found = _MEETING.search(self._heard)
        if found is None:
            if len(self._heard) > NOISE_BYTES:
                raise HostFailed(not_ours(self.host, bytes(self._heard)))
            return b""
        if int(found[1]) != PROTOCOL_VERSION:
            raise HostFailed(other_version(self.host, int(found[1]), PROTOCOL_VERSION))
        self._met = True
        self.seconds["connect"] = time.monotonic() - self._began
        return bytes(self._heard[found.end() :])

    def _until_movable(self, deadline: float) -> None:
        """The pipe is full: wait until the other side has read from it."""
        if os.name == "nt":  # select knows sockets only there
            time.sleep(0.0005)
            return
        left = max(0.0, deadline - time.monotonic())
        to_child, from_child, _ = self._child.streams()
        select.select([from_child], [to_child], [], left)

    def _write(self, deadline: float) -> int:
        total, stream = 0, self._child.streams()[0]
        while self._met and (piece := self._next_piece(deadline)):
            try:
                count = os.write(stream.fileno(), piece[:WRITE_BYTES])
            except BlockingIOError:
                break
            except OSError:  # it is gone; `why_ended` says so
                self._outbox.clear()
                self._squeezed = memoryview(b"")
                break
            total += count
            if self._zip is not None:
                self._squeezed = piece[count:]
            elif count < len(piece):
                self._outbox[0] = piece[count:]
            else:
                self._outbox.popleft()
        return total

    def _next_piece(self, deadline: float) -> memoryview:
        """What is to be written now; empty if that is nothing, or squeezing took too long."""
        if self._zip is None:
            return self._outbox[0] if self._outbox else memoryview(b"")
        while not self._squeezed and self._outbox and time.monotonic() < deadline:
            piece = self._outbox.popleft()
            if len(piece) > ZIP_BYTES:
                self._outbox.appendleft(piece[ZIP_BYTES:])
            self._squeezed = memoryview(self._zip.feed(piece[:ZIP_BYTES]))
            if not self._outbox:
                self._squeezed = memoryview(bytes(self._squeezed) + self._zip.flush())
        return self._squeezed

    def _hear(self, words: bytes | None) -> None:
        """Keep the end of what it writes to standard error."""
        self._errors += words or b""
        del self._errors[:-ERROR_BYTES]


def _start(host: Host | None, idle_seconds: float) -> Child:
    module, arguments = "DanteSegmenterLib.worker.server", ["--idle-seconds", str(idle_seconds)]
    if host is None:
        return Child(module, arguments, pipes=True)
    return Child.of_program(ssh_command(host, module, [*arguments, "--by-ssh"]), ssh_environment())


def _read(stream: IO[bytes], most: int = READ_BYTES) -> bytes | None:
    try:
        return os.read(stream.fileno(), most)
    except BlockingIOError:
        return None
    except (OSError, ValueError):
        return b""
