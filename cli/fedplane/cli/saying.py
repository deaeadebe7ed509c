"""Writing a line while an event loop runs, so that Ctrl-C ends it though nobody takes the line.

The loop only notes the first Ctrl-C, and acts when the code that runs comes back to it. A write to a pipe whose reader does nothing
never comes back. So while a line is written, Ctrl-C is noted as ever and ends the write as well, as if whoever writes had been waiting.
"""

import asyncio
import signal
import threading
from types import FrameType

import typer

__all__ = ["say"]


def say(line: str, *, err: bool = False) -> None:
    """Write the line to standard output, or to standard error, and flush it. Raises CancelledError once the loop is interrupted."""
    noting = signal.getsignal(signal.SIGINT)
    if not callable(noting) or threading.current_thread() is not threading.main_thread():  # Ctrl-C is ignored, or does not come here
        typer.echo(line, err=err)
        return
    if noting is _interrupted:  # in another task, and this one comes to write before it is cancelled
        raise asyncio.CancelledError

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _interrupted)
        noting(number, frame)
        raise asyncio.CancelledError

    signal.signal(signal.SIGINT, interrupted)
    try:
        typer.echo(line, err=err)
    finally:
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, noting)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """What a second Ctrl-C does."""
    signal.default_int_handler(number, frame)
