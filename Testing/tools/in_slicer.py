"""Runs the click-through and the self-tests in an installed Slicer: `make test-slicer SLICER=/path/to/Slicer`.

Slicer runs with temporary settings; nothing is installed into it, and steps whose packages are missing are skipped.
Writes junit.xml and a picture of every step into the folder `--out`. Without `--slicer` everything is reported as
skipped; with `--stand-in` the tests run in Testing/app.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / "Testing" / "tools"
MODULES = ("DanteSegmenter", "DanteTrainer")
CLICK_THROUGH = "click-through"
MARK = "DANTE_TEST_MARK"
TIMEOUT_S = 900
# The training left running by the click-through exits after its step and a checkpoint.
END_SECONDS = 60
LINES = 60
# The stand-in draws no views: deferred work is done in the next turn of the event loop.
STAND_IN_LIVES = {"DANTE_LIVE_SECONDS": "0.05"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", default="", help="the Slicer launcher of an installed or built Slicer")
    parser.add_argument("--stand-in", action="store_true", help="Testing/app instead of a Slicer")
    parser.add_argument("--out", type=Path, default=Path("slicer-test"), help="folder for junit.xml and pictures")
    parser.add_argument("--only", choices=(CLICK_THROUGH, *MODULES), help="one part of it")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    parts = [options.only] if options.only else [CLICK_THROUGH, *MODULES]
    if not options.slicer and not options.stand_in:
        suites = [_skipped(part, "no Slicer was given: make test-slicer SLICER=/path/to/Slicer") for part in parts]
    else:
        suites = [run_part(part, options.slicer, out) for part in parts]
    root = ElementTree.Element("testsuites")
    root.extend(suites)
    ElementTree.ElementTree(root).write(out / "junit.xml", encoding="utf-8", xml_declaration=True)
    for case in root.iter("testcase"):
        print(f"{case.get('classname')}: {case.get('name')}: {_outcome(case)}")
    print(f"wrote {out / 'junit.xml'}")
    return 1 if list(root.iter("failure")) else 0


def run_part(part: str, slicer: str, out: Path) -> ElementTree.Element:
    """Run one process of Slicer, or of the stand-in if `slicer` is empty; returns its suite of test cases."""
    written = out / part
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir()
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="dante-settings-", ignore_cleanup_errors=True) as settings:
        environment = {**os.environ, "DANTE_OUT": str(written), MARK: mark, "XDG_CONFIG_HOME": settings}
        environment.pop("PYTHONPATH", None)
        environment |= {} if slicer else STAND_IN_LIVES
        command = slicer_command(part, slicer) if slicer else stand_in_command(part)
        code, text = _run(command, environment)
        suite = _suite(part, code, text, written / "junit.xml")
    left = _left_over(mark)
    if left is not None:
        _add_case(suite, part, "no process is left when Slicer ends", f"left: {left}" if left else "")
    status = written / "work" / "run" / "status.json"
    if status.is_file() and left is not None:
        state = json.loads(status.read_text(encoding="utf-8"))["state"]
        reason = "" if state == "stopped" else f"its state is '{state}'"
        _add_case(suite, part, "a training that was left running ended with a checkpoint", reason)
    shutil.rmtree(written / "work", ignore_errors=True)
    (written / "output.txt").write_text(text, encoding="utf-8")
    return suite


def _add_case(suite: ElementTree.Element, part: str, name: str, failure: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=part, name=name)
    if failure:
        ElementTree.SubElement(case, "failure", message=failure)


def slicer_command(part: str, slicer: str) -> list[str]:
    """`--testing` uses temporary settings and no start-up file, and answers or logs dialogs."""
    folders = [str(REPOSITORY / module) for module in MODULES]
    command = [slicer, "--testing", "--no-splash", "--additional-module-paths", *folders]
    if part == CLICK_THROUGH:
        command += ["--python-script", str(TOOLS / "click_through.py")]
    else:
        command += ["--python-code", f"import slicer.testing; slicer.testing.runUnitTest({folders!r}, {part!r})"]
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        command = ["xvfb-run", "--auto-servernum", "--server-args=-screen 0 1280x800x24", *command]
    return command


def stand_in_command(part: str) -> list[str]:
    if part == CLICK_THROUGH:
        return [
            sys.executable,
            str(REPOSITORY / "Testing" / "tools" / "run_self_test.py"),
            "--script",
            str(TOOLS / "click_through.py"),
        ]
    return [sys.executable, str(REPOSITORY / "Testing" / "tools" / "run_self_test.py"), part]


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and all output."""
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        return 124, f"{(error.stdout or b'').decode(errors='replace')}\nended after {TIMEOUT_S} s"
    except OSError as error:
        return 127, f"{command[0]} could not be started: {error}"
    return result.returncode, result.stdout


def _suite(part: str, code: int, text: str, path: Path) -> ElementTree.Element:
    """The cases written by a process, and whether it exited properly; a process that wrote none becomes a case."""
    if path.is_file():
        suite = ElementTree.parse(path).getroot()
        expected = 1 if list(suite.iter("failure")) else 0
        _add_case(suite, part, "Slicer ends in order", "" if code == expected else f"exit code {code}")
        return suite
    suite = ElementTree.Element("testsuite", name=part)
    failed = code != 0 or part == CLICK_THROUGH
    _add_case(suite, part, "self-test" if part in MODULES else part, f"exit code {code}" if failed else "")
    for failure in suite.iter("failure"):
        failure.text = "\n".join(text.splitlines()[-LINES:])
    return suite


def _skipped(part: str, reason: str) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=part, tests="1", skipped="1")
    case = ElementTree.SubElement(suite, "testcase", classname=part, name=part)
    ElementTree.SubElement(case, "skipped", message=reason)
    return suite


def _outcome(case: ElementTree.Element) -> str:
    for kind in ("failure", "skipped"):
        found = case.find(kind)
        if found is not None:
            return f"{kind}: {found.get('message')}"
    return "passed"


def _left_over(mark: str) -> list[str] | None:
    """Processes of Slicer that are still running after a grace period; None if that cannot be determined."""
    if not Path("/proc/self/environ").is_file():
        return None
    end = time.monotonic() + END_SECONDS
    while (left := _family(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def _family(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has just exited, or is another user's
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
