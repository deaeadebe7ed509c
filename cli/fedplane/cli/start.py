"""The very beginning of the program: so little that Ctrl-C while the rest is being loaded ends it as it does later, without a traceback."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

__all__ = ["main"]

EXIT_INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended: 128 and the number of SIGINT."""


def main() -> None:
    """Load the command line and run it."""
    try:
        _load()()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _load() -> Callable[[], None]:
    """Loading takes a third of a second, in which people press Ctrl-C.

    An exception would come out in the midst of some module, which may take it for an error of its own.
    Nothing is begun yet, so it just ends.

    What is loaded stays, so nobody need look through it for garbage: not meanwhile, and not at the end, which is a third of the whole time.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background of a script it is not
    if heeded:
        signal.signal(signal.SIGINT, _end)
    gc.disable()
    from fedplane.cli.main import main as run  # noqa: PLC0415 -- what is loaded is the point

    gc.freeze()
    gc.enable()
    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
