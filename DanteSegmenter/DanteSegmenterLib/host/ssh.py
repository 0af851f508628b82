"""Command line of the system's ssh for starting our process on a remote host, with the user's settings and keys."""

from __future__ import annotations

import os
import shlex
import shutil

from ..errors import ResourceError
from .address import Host

# A connection is considered dead after three missing keep-alive answers.
ALIVE_SECONDS, ALIVE_ANSWERS = 5, 3
CONNECT_TO_HOST_SECONDS = 15
SSH_OPTIONS = (
    "-T",  # a terminal would alter bytes
    "-a",  # our process needs no forwarded keys,
    "-x",  # no X11 forwarding,
    "-oClearAllForwardings=yes",  # and none of the port forwardings that the user has configured
    "-oBatchMode=yes",  # questions cannot be answered on a pipe
    "-oRemoteCommand=none",  # override a user's setting, which would conflict with our command
    "-oControlMaster=no",  # an open connection of the user's is shared, but ours is never kept as one
    "-oLogLevel=INFO",  # reports why it fails, even if the user's settings suppress that
    f"-oConnectTimeout={CONNECT_TO_HOST_SECONDS}",
    f"-oServerAliveInterval={ALIVE_SECONDS}",
    f"-oServerAliveCountMax={ALIVE_ANSWERS}",
)
# Slicer's own libraries, e.g. OpenSSL, differ from those that the system's ssh was built with.
_NOT_FOR_SSH = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "PYTHONPATH",
    "PYTHONHOME",
)


def ssh_command(host: Host, module: str, arguments: list[str]) -> list[str]:
    """The command that runs `python -m module arguments` on the host, through `priority`.

    Raises:
        ResourceError: ssh is not installed here.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ResourceError("the program ssh is not installed here. Install OpenSSH's client, or compute here.")
    port = [] if host.port is None else ["-p", str(host.port)]
    return [ssh, *SSH_OPTIONS, *port, "--", host.target, remote_command(host, module, arguments)]


def remote_command(host: Host, module: str, arguments: list[str]) -> str:
    """One command line for any login shell: every word is quoted, and the shell is replaced by the command."""
    ours = ["-m", "DanteSegmenterLib.priority", module, *arguments]
    # The current folder is the account's home, where a file such as `queue.py` must not be imported.
    return " ".join(["exec env PYTHONSAFEPATH=1 PYTHONIOENCODING=utf-8", *map(_quoted, (*host.python, *ours))])


def _quoted(word: str) -> str:
    """Quote for a shell, which still expands a tilde to the home folder."""
    return f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word)


def ssh_environment() -> dict[str, str]:
    """Environment of this process without variables that redirect programs to non-system libraries."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_FOR_SSH}
