"""The deployed half's command line: `python -m DanteSegmenterLib segment | batch | info | import | sample | export`."""

from __future__ import annotations

from . import program


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 done, 1 stopped, 2 refused with one line of reason."""

    def work(stop: program.StopRequest) -> None:
        # In here, so that Ctrl-C in these imports too is answered by a sentence.
        from .command_line.parser import parser
        from .memory import keep_freed_memory

        given = parser().parse_args(arguments)
        keep_freed_memory()
        given.command(given, stop)

    return program.run(work)


if __name__ == "__main__":
    program.prepare_streams()
    program.leave(main())
