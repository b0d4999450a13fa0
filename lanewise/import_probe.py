"""Imports one module in a child process and writes down how it went; user_code starts it, it knows no other.

It runs as a script with the standard library only, so that what it meets is the user's module and not ours.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

_OURS = (str(Path(__file__).parent) + os.sep, "<frozen importlib", importlib.__file__)
_TORCH_CALLS = str(Path("torch", "nn", "modules", "module.py"))


def last_lines(error: BaseException, count: int = 8) -> list[str]:
    """The last lines of an error's traceback, without the frames that are not the user's.

    Args:
        error: Any exception that was caught.
        count: How many lines to keep.

    Returns:
        Lines of at most 200 characters, the exception's own line last.
    """
    told = traceback.TracebackException.from_exception(error)
    theirs = [f for f in told.stack if not f.filename.startswith(_OURS)]
    told.stack = traceback.StackSummary.from_list(
        [f for f in theirs if not f.filename.endswith(_TORCH_CALLS)]
    )
    lines = "".join(told.format()).rstrip().splitlines()
    return [line[:200] for line in lines[-count:]]


def main(folder: Path) -> None:
    """Read `order.json` in `folder`, import the module it names, write `answer.json` or leave none.

    No answer means the process ended on the way: then `stack.txt` holds where, for a time limit or a crash.
    """
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    sys.path[:] = order["path"]
    stack = (folder / "stack.txt").open("w", encoding="utf-8")
    faulthandler.enable(file=stack)
    # The watchdog is a C thread: it fires even while the user's code never lets the interpreter go.
    faulthandler.dump_traceback_later(order["limit_s"], exit=True, file=stack)
    answer: dict[str, object] = {}
    try:
        importlib.import_module(order["module"])
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too, all of it is the answer
        answer = {
            "error": type(error).__name__,
            "missing": error.name if isinstance(error, ModuleNotFoundError) else None,
            "exit": isinstance(error, SystemExit),
            "lines": last_lines(error),
        }
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    os._exit(0)  # threads and exit handlers the module started must not hold the answer back


if __name__ == "__main__":
    main(Path(sys.argv[1]))
