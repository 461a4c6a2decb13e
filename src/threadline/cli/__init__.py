"""The command `threadline`: look into a store, work with its past, and carry threads into it and out of it.

Read `app` first (the commands), then `options` (what they share: the file, the filters, how errors are said) and
`output` (what reaches the terminal). Only the public API stands below; a user could have written all of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

#: How a program ends: well, or because of what it was given.
DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`args`: instead of the process's own) and exit.

    0: done. 1: `verify` found something wrong. 2: bad input, or a store that cannot be used; the reason is on stderr.
    130: interrupted.
    """
    with _ending_when_interrupted():
        from threadline import ThreadlineError
        from threadline.cli.app import app
        from threadline.cli.options import Refusal
        from threadline.cli.output import complain, ready_streams

    ready_streams()
    code: object = DONE
    try:
        app(args=None if args is None else list(args), prog_name="threadline")
    except SystemExit as end:
        # The framework ends with 1 where whoever read the output has seen enough.
        code = DONE if isinstance(end.__context__, BrokenPipeError) else end.code
    except BrokenPipeError:
        code = DONE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (Refusal, ThreadlineError) as error:
        complain(str(error))
        code = BAD_INPUT
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = BAD_INPUT
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # Whoever read our output has seen enough.
        _let_go_of_stdout()
    raise SystemExit(code)


def _let_go_of_stdout() -> None:
    # Else the interpreter flushes once more when it ends, and complains.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _ending_when_interrupted() -> Iterator[None]:
    """Let Ctrl-C end the process at once, while nothing is open yet: an exception would be shown, or lost, where it
    meets the import of a module."""
    usual = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not usual
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
