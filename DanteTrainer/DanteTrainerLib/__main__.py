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

# Everything else is imported where needed, so that a signal during start-up interrupts nothing critical.

# PyTorch reads it when it is imported: what it lacks on Apple's graphics, such as adaptive_max_pool3d, a CPU computes.
MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"


def main(arguments: Sequence[str] | None = None, stop: EndRequest | None = None) -> int:
    """Run a command; returns 0 for success, 1 if stopped (resumable), 2 for an error, which is printed in one line.

    Args:
        stop: receives requests to stop; None when called inside another program, whose signal handlers must stay.
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
    """Run the command line as a separate process: set up streams and signals, and end all child processes."""
    program.prepare_streams()
    os.environ.setdefault(MPS_FALLBACK, "1")
    stop = EndRequest()
    if WITH_PARENT in sys.argv:  # at once: the parent may end before torch is imported
        stop.end_with_standard_input()
    code = main(stop=stop)
    end_children()
    program.leave(code)


if __name__ == "__main__":
    run()
