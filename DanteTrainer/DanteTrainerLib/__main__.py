"""Command line of the training half.

python -m DanteTrainerLib train | resume | evaluate | levels | cost | calibrate | features | study | publish | clean |
list
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from DanteSegmenterLib import program

from .command_line.parser import WITH_PARENT, parser
from .ending import EndRequest, end_children, wait_if_ending

# Everything else is imported where it is needed: until then a signal finds nothing that could get stuck.

# PyTorch reads it when it is imported: what it lacks on Apple's graphics, such as adaptive_max_pool3d, a CPU computes.
MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"


def main(arguments: Sequence[str] | None = None, stop: EndRequest | None = None) -> int:
    """Run a command; 0 success, 1 stopped (resume goes on), 2 refused or failed with one line of reason.

    Args:
        stop: how a program is asked to end; None in a process of somebody else, whose signals are not ours.
    """

    from DanteSegmenterLib.memory import keep_freed_memory

    def work() -> None:
        try:
            options = parser().parse_args(arguments)
            options.stop = stop
            keep_freed_memory()
            options.command(options)
        except Exception:
            wait_if_ending()
            raise

    return program.conclude(work)


def run() -> None:
    """The command line as a process of its own: its streams, its signals, and nothing left behind."""
    program.prepare_streams()
    os.environ.setdefault(MPS_FALLBACK, "1")
    stop = EndRequest()
    if WITH_PARENT in sys.argv:  # at once: the parent may be gone before torch is imported
        stop.end_with_standard_input()
    code = main(stop=stop)
    end_children()
    program.leave(code)


if __name__ == "__main__":
    run()
