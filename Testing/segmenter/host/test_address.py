"""Valid names of a remote host, and the command built from them."""

import shlex
import subprocess

import pytest

from DanteSegmenterLib.errors import ConfigError, ResourceError
from DanteSegmenterLib.host.address import Host, parse_host
from DanteSegmenterLib.host.ssh import remote_command, ssh_command, ssh_environment


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("ssh:gpu", Host("gpu"), "gpu"),
        ("ssh:me@gpu.example.org", Host("gpu.example.org", "me"), "me@gpu.example.org"),
        ("ssh:m.e-2@10.0.0.7:2222", Host("10.0.0.7", "m.e-2", 2222), "m.e-2@10.0.0.7"),
        ("ssh:me@[fe80::1]:22", Host("fe80::1", "me", 22), "me@fe80::1"),
    ],
)
def test_host_is_named_as_for_ssh(text, host, target):
    assert parse_host(text) == host and host.target == target


@pytest.mark.parametrize(
    "text",
    [
        "", "gpu", "ssh:", "ssh:-oProxyCommand=touch x", "ssh:-oProxyCommand=x@gpu", "ssh:me@-gpu", "ssh:-me@gpu",
        "ssh:gpu;reboot", "ssh:gpu reboot", " ssh:gpu", "ssh:gpu\n", "ssh:gpu\nProxyCommand x", "ssh:$(reboot)",
        "ssh:`reboot`", "ssh:gpu|x", "ssh:gpu&", "ssh:a@b@c", "ssh:gpu:0", "ssh:gpu:65536", "ssh:gpu:22:22",
        "ssh:gpu:-1", "ssh:gpu:", "ssh:%h", "ssh:me@[::1", "ssh:gpü", "ssh:gpu\0", "ssh:../x", "ssh:a/b", "SSH:gpu",
        "ssh:gpu\x1b[2J", "ssh:" + "a" * 300, "ssh:gpu٣", "ssh:gpu:٢٢",
    ],
)  # fmt: skip
def test_anything_but_a_host_name_is_refused_in_one_sentence(text):
    with pytest.raises(ConfigError, match="is no computer: ssh:USER@HOST") as refusal:
        parse_host(text)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("python", ["-c x", "'", "A=1 python3", "python3\nreboot", "''", "x" * 3000])
def test_command_that_starts_no_python_is_refused(python):
    with pytest.raises(ConfigError, match="starts no Python there"):
        parse_host("ssh:gpu", python)


def test_remote_command_line_is_quoted_for_the_shell(tmp_path):
    """Asks the shell how it splits the line, with a program in place of Python that prints its arguments."""
    program = tmp_path / "a folder; touch hacked" / "python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONSAFEPATH" "$@"\n')
    program.chmod(0o755)
    arguments = ["$(touch hacked)", "a b", "'", "--idle-seconds"]
    host = parse_host("ssh:gpu", f"~/{shlex.quote('a folder; touch hacked')}/python")
    done = subprocess.run(
        ["sh", "-c", remote_command(host, "module", arguments)],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["1", "-m", "DanteSegmenterLib.priority", "module", *arguments]
    assert [path.name for path in tmp_path.iterdir()] == [program.parent.name]


def test_ssh_runs_without_terminal_prompt_or_forwarding_and_the_name_is_no_option(tmp_path, monkeypatch):
    (tmp_path / "ssh").write_text("")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ssh_command(parse_host("ssh:me@gpu:2222"), "module", [])
    assert command[0] == str(tmp_path / "ssh") and command[-4:-1] == ["2222", "--", "me@gpu"]
    assert {"-T", "-a", "-x", "-oBatchMode=yes", "-oClearAllForwardings=yes"} <= set(command)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ResourceError, match="ssh is not installed here"):
        ssh_command(parse_host("ssh:gpu"), "module", [])


def test_ssh_uses_the_system_libraries_inside_slicer(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    assert "LD_LIBRARY_PATH" not in ssh_environment() and ssh_environment()["SSH_AUTH_SOCK"] == "/agent"
