"""A real ssh server on the loopback, with temporary keys, settings and home folder, in place of a remote host."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import REPOSITORY

NAME = "far"  # the host name in the client's settings
# Run by the server in place of every command: sets a separate home and runs the commands of its .bashrc.
LOGIN = """#!/bin/sh
cd "$HOME" || exit 1
[ -f .bashrc ] && . ./.bashrc
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


class SshServer:
    """An sshd of the current user on 127.0.0.1.

    home: of the remote account. bin: contains an `ssh` that reads these settings instead of the user's.
    """

    def __init__(self, folder: Path, sshd: str) -> None:
        self.folder, self._sshd = folder, sshd
        self.home, self.bin = folder / "home", folder / "bin"
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        self.home.mkdir(parents=True)
        self.bin.mkdir()
        for name in ("host_key", "key", "wrong_key"):
            make_key(folder / name)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        script(folder / "login", LOGIN)
        self._write_server_settings()
        self.write_client_settings()

    def _write_server_settings(self) -> None:
        environment = {
            "HOME": str(self.home),
            "PYTHONPATH": str(REPOSITORY / "DanteSegmenter"),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TMPDIR": str(self.home),
        }
        pairs = " ".join(f'"{name}={value}"' for name, value in environment.items())
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nSetEnv {pairs}\nForceCommand {self.folder}/login\n"
        )

    def write_client_settings(self, key: str = "key", known: bool = True, more: str = "") -> None:
        """Write the client's ~/.ssh/config and known_hosts."""
        host_key = (self.folder / "host_key.pub").read_text().split()
        line = f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n" if known else ""
        (self.folder / "known_hosts").write_text(line)
        (self.folder / "config").write_text(
            f"{more}\nHost {NAME}\n HostName 127.0.0.1\n Port {self.port}\nHost *\n User {getpass.getuser()}\n"
            f" IdentityFile {self.folder}/{key}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {self.folder}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
        )
        script(self.bin / "ssh", f'#!/bin/sh\nexec {shutil.which("ssh", path=SYSTEM)} -F {self.folder}/config "$@"\n')

    def start(self) -> None:
        """Start listening; returns once connections are accepted."""
        command = [self._sshd, "-D", "-E", str(self.folder / "log"), "-f", str(self.folder / "sshd_config")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        pytest.skip(f"sshd does not start here: {(self.folder / 'log').read_text()[-300:]}")

    def stop(self) -> None:
        """Stop the server and all its connections."""
        if self.process is not None:
            for pid in descendants(self.process.pid):
                kill(pid)
            self.process.kill()
            self.process.wait()
            self.process = None

    def workers(self) -> list[int]:
        """The worker processes run by its connections."""
        found = descendants(self.process.pid) if self.process is not None else []
        return [pid for pid in found if b"worker.server" in command_of(pid)]

    def sessions(self) -> list[int]:
        """The server processes that serve a connection."""
        found = descendants(self.process.pid) if self.process is not None else []
        return [pid for pid in found if b"sshd" in command_of(pid)]

    def files(self) -> list[str]:
        """All files in the remote home folder."""
        return sorted(path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file())


SYSTEM = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """A listening server whose `ssh` comes first on the path; skips the test if there is no sshd."""
    sshd = shutil.which("sshd", path=SYSTEM)
    if sshd is None or shutil.which("ssh", path=SYSTEM) is None or not Path("/proc").is_dir():
        pytest.skip("no sshd here (Debian: openssh-server, openssh-client)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # root's sshd drops its privileges there
    server, before = SshServer(folder, sshd), os.environ["PATH"]
    os.environ["PATH"] = f"{server.bin}{os.pathsep}{before}"
    try:
        server.start()
        yield server
    finally:
        server.stop()
        os.environ["PATH"] = before


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """The child processes of a process, recursively."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, 9)
