"""The command line. `serve` is dispatched before slow imports, because hosts wait for its start.

parser.py       the options of each command
dispatch.py     calls the pipeline for a command, and returns the exit status
screens.py      the screens of plan, scaffold, validate and refusals: findings, the verdict, the next command
run_screens.py  the screens of `status`, `submit`, `history`, `explain` and `add`; the screens and questions of `new`
printing.py     lines, tables, findings and progress, in colour or plain
"""

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence

from scaffold_torchtune.system import processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. By default, `arguments` are the arguments of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    processes.open_streams()
    if given[:1] == ["serve"]:
        from scaffold_torchtune.cli.parser import serve_parser
        from scaffold_torchtune.mcp_server import serve

        return serve(serve_parser().parse_args(given[1:]).root)
    gc.disable()  # imports create no garbage
    with _starting(given):
        from scaffold_torchtune.cli import dispatch

    gc.enable()
    if arguments is None:  # a separate process, which ends soon
        gc.freeze()
    return dispatch.run(given)


_STARTING = "starting ..."


@contextlib.contextmanager
def _starting(given: Sequence[str]) -> Iterator[None]:
    """Show on a terminal that the command has started, because imports can take seconds on a busy machine."""
    is_shown = sys.stderr.isatty() and "--json" not in given
    for text in (_STARTING, " " * len(_STARTING)):
        with contextlib.suppress(OSError):
            if is_shown:
                sys.stderr.write(f"{text}\r")
                sys.stderr.flush()
        if text == _STARTING:
            yield
