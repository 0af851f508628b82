"""How the system's own ssh is asked to start our process on another computer: with the user's settings and keys."""

from __future__ import annotations

import os
import shlex
import shutil

from ..errors import ResourceError
from .address import Host

# A connection that is dead is given up after three answers that were due did not come.
ALIVE_SECONDS, ALIVE_ANSWERS = 5, 3
CONNECT_TO_HOST_SECONDS = 15
SSH_OPTIONS = (
    "-T",  # a terminal would change bytes
    "-a",  # our process there needs neither the user's keys
    "-x",  # nor their screen,
    "-oClearAllForwardings=yes",  # nor ports that the user forwards there when they work by hand
    "-oBatchMode=yes",  # nobody answers a question on a pipe
    "-oRemoteCommand=none",  # of the user's settings, which ours would contradict
    "-oControlMaster=no",  # a connection that the user has opened is used; ours never stays behind as one
    "-oLogLevel=INFO",  # says why it fails, also where the user's settings keep it quiet
    f"-oConnectTimeout={CONNECT_TO_HOST_SECONDS}",
    f"-oServerAliveInterval={ALIVE_SECONDS}",
    f"-oServerAliveCountMax={ALIVE_ANSWERS}",
)
# Slicer's own libraries, OpenSSL among them, are not those that the system's ssh was built with.
_NOT_FOR_SSH = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "PYTHONPATH",
    "PYTHONHOME",
)


def ssh_command(host: Host, module: str, arguments: list[str]) -> list[str]:
    """The command that runs `python -m module arguments` there, through `priority`.

    Raises:
        ResourceError: there is no ssh here.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ResourceError("the program ssh is not installed here. Install OpenSSH's client, or compute here.")
    port = [] if host.port is None else ["-p", str(host.port)]
    return [ssh, *SSH_OPTIONS, *port, "--", host.target, remote_command(host, module, arguments)]


def remote_command(host: Host, module: str, arguments: list[str]) -> str:
    """One line for the account's shell, whichever that is: every word is quoted, and the shell makes way for it."""
    ours = ["-m", "DanteSegmenterLib.priority", module, *arguments]
    # The account's home is the current folder: a file `queue.py` in it is not ours.
    return " ".join(["exec env PYTHONSAFEPATH=1 PYTHONIOENCODING=utf-8", *map(_quoted, (*host.python, *ours))])


def _quoted(word: str) -> str:
    """For a shell, which still puts the home folder in place of a tilde."""
    return f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word)


def ssh_environment() -> dict[str, str]:
    """Of this process, without what leads programs to libraries that are not the system's."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_FOR_SSH}
