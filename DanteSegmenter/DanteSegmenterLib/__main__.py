"""The deployed half's command line: `python -m DanteSegmenterLib segment | batch | info | import | sample | export`."""

from __future__ import annotations

from . import program


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns 0 for success, 1 if stopped, 2 for an error, which is printed in one line."""

    def work(stop: program.StopRequest) -> None:
        # Imported here, so that Ctrl-C during these imports is also reported in one sentence.
        from .command_line.parser import parser
        from .memory import keep_freed_memory

        given = parser().parse_args(arguments)
        keep_freed_memory()
        given.command(given, stop)

    return program.run(work)


if __name__ == "__main__":
    program.prepare_streams()
    program.leave(main())
