"""Messages of ssh and Python, recorded from OpenSSH 9.2 and Python 3.11, and their explanations."""

import pytest

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.host.address import parse_host
from DanteSegmenterLib.host.explain import explain_end, foreign_output, no_answer, other_version

GPU = parse_host("ssh:me@gpu:2222", "/opt/py")
CHANGED = "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\r\nHost key verification failed.\r\n"


@pytest.mark.parametrize(
    ("code", "errors", "met", "wanted"),
    [
        (255, "ssh: Could not resolve hostname gpu: Name or service not known\r\n", False, "no computer 'gpu'"),
        (255, "ssh: connect to host gpu port 22: Connection refused\r\n", False, "cannot be reached: is it on"),
        (255, "ssh: connect to host gpu port 22: Connection timed out\r\n", False, "cannot be reached: is it on"),
        (255, "me@gpu: Permission denied (publickey).\r\n", False, "'ssh -p 2222 me@gpu' in a terminal must work"),
        (255, "Host key verification failed.\r\n", False, "is not known here: run 'ssh -p 2222 me@gpu'"),
        (255, CHANGED, False, "is not the one that this computer knows"),
        (255, "/home/me/.ssh/config: line 1: Bad configuration option: x\r\n", False, "Its last words: /home/me/.ssh"),
        (127, "env: '/opt/py': No such file or directory\n", False, "There is no '/opt/py' that runs on 'gpu'"),
        (126, "env: '/opt/py': Permission denied\n", False, "There is no '/opt/py' that runs on 'gpu'"),
        (1, "/opt/py: No module named DanteSegmenterLib\n", False, "has no slicer-dante: install it there"),
        (1, "ModuleNotFoundError: No module named 'DanteSegmenterLib'\n", False, "has no slicer-dante"),
        (1, "/opt/py: No module named DanteSegmenterLib.priority\n", False, "is older than this one"),
        (2, "server.py: error: unrecognized arguments: --by-ssh\n", False, "is older than this one"),
        (1, "ModuleNotFoundError: No module named 'torch'\n", True, "lacks the package torch"),
        (255, "Connection to gpu closed by remote host.\r\n", True, "The connection to 'gpu' was lost"),
        (255, "Timeout, server gpu not responding.\r\n", True, "The connection to 'gpu' was lost"),
        (255, "", True, "ended unexpectedly: it was killed"),
        (-9, "", True, "ended unexpectedly: it was killed"),
        (5, "DANTE worker: there is not enough memory\n", True, "Its last words: DANTE worker: there is not"),
    ],
)  # fmt: skip
def test_every_failure_is_one_sentence_with_advice(code, errors, met, wanted):
    sentence = explain_end(GPU, code, errors, met)
    assert wanted in sentence and "\n" not in sentence and "Traceback" not in sentence


def test_outdated_side_is_named():
    assert "update it there" in other_version(GPU, 2, 3) and "update it here" in other_version(GPU, 4, 3)


@pytest.mark.parametrize("say", [foreign_output, lambda host, heard: no_answer(host, 60, heard)])
def test_remote_output_is_one_short_harmless_line(say):
    shown = str(DanteError(say(GPU, b"\x1b[2J\xff\r\n" + b"welcome " * 5000)))
    assert shown.isprintable() and "welcome" in shown and len(shown) < 600
