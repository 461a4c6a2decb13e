"""The command `threadline`: look into a store, work with its past, and carry threads into it and out of it.

Read `app` first (the commands), then `options` (what they share: the file, the filters, how errors are said) and
`output` (what reaches the terminal). Only the public API stands below; a user could have written all of it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from threadline import ThreadlineError
from threadline.cli.app import app
from threadline.cli.options import Refusal
from threadline.cli.output import complain, ready_streams

#: How a program ends: well, or because of what it was given.
DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`args`: instead of the process's own) and exit.

    0: done. 1: `verify` found something wrong. 2: bad input, or a store that cannot be used; the reason is on stderr.
    130: interrupted.
    """
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
    except (Refusal, ThreadlineError, OSError) as error:
        complain(str(error))
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
