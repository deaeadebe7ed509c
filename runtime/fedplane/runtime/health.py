"""Whether this process is well, said over HTTP to whoever supervises it; off unless a port is set.

A supervisor sees that a process has ended, and cannot see that it hangs. So Kubernetes' kubelet asks every few seconds:

| path | 200 says | otherwise |
|---|---|---|
| `/live` | the event loop turns: it is what answers | no answer in time; the process is restarted |
| `/started` | and what it works on is open, so it does for others what they wait for | 503; nobody asks the other two yet |
| `/ready` | and the bus is connected | 503; nobody sends a service requests, but a rollout waits, and people see it |

A bus that is away is no reason to restart anything: the connection heals itself. So `/live` does not ask about it.
What the process has to do, and whether it gets on with it, is not said here; that is in its log, its traces, and the facts it states.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fedplane.runtime.errors import Unavailable

__all__ = ["Health", "answering"]

QUESTION_BYTES = 8_192
QUESTION_SECONDS = 2.0
"""A supervisor's question has a few hundred bytes and comes at once. Whoever says more, or nothing, is cut off."""


class Health:
    """What is answered. `is_ready` is replaced as soon as there is something to ask, and `has_started` is true from then on."""

    def __init__(self) -> None:
        self.is_ready: Callable[[], bool] = lambda: False
        self.has_started = False

    def answer(self, path: str) -> tuple[str, str]:
        """The status and the words for a path."""
        match path:
            case "/live":
                return "200 OK", "the event loop turns"
            case "/started":
                return ("200 OK", "it has started") if self.has_started else ("503 Service Unavailable", "it is still starting")
            case "/ready":
                return ("200 OK", "the bus is connected") if self.is_ready() else ("503 Service Unavailable", "the bus is not connected")
            case _:
                return "404 Not Found", "ask for /live, /started or /ready"


@asynccontextmanager
async def answering(port: int | None, health: Health, host: str = "") -> AsyncIterator[None]:
    """Answer on this port as long as the block lasts; without a port, do nothing. Without a host, on every interface.

    Raises Unavailable if the port is taken.
    """
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(health, reader, writer)

    try:
        server = await asyncio.start_server(answer, host or None, port, limit=QUESTION_BYTES)
    except OSError as error:
        raise Unavailable(f"cannot answer for this process's health on port {port}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()


async def _answer(health: Health, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One question, one answer. A question that is none gets no answer: what is wrong with it is not this process's concern."""
    try:
        async with asyncio.timeout(QUESTION_SECONDS):
            question = await reader.readuntil(b"\r\n\r\n")
            _, path, _ = question.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
            status, words = health.answer(path)
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(words)}\r\nConnection: close\r\n\r\n"
            writer.write((head + words).encode())
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        pass  # cut off, as its docstring says
    finally:
        writer.close()
