"""Whoever asks over HTTP gets an answer within bounds, and whoever asks badly, slowly or from elsewhere gets none of what is here."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator

import pytest
from apiserver import free_port

from fedplane.runtime.errors import Unavailable
from fedplane.status.page import listening as door
from fedplane.status.page.files import KINDS, pages
from fedplane.status.page.listening import Answer, Question, listening

PLAIN = "text/plain"
CUT_OFF = b""
LARGE = 30_000_000
"""More than the sockets of both ends hold."""


async def ever() -> AsyncGenerator[bytes, None]:
    while True:
        yield b"data: x\n\n"
        await asyncio.sleep(0.01)


def respond(question: Question) -> Answer:
    match question.path:
        case "/events":
            return Answer(200, "text/event-stream", ever)
        case "/large":
            return Answer(200, PLAIN, b"x" * LARGE)
    return Answer(200, PLAIN, f"{question.path} {question.query} {question.last_event_id}".encode(), (("X-More", "1"),))


async def ask(port: int, question: bytes, seconds: float = 20) -> bytes:
    """All that comes back until the other end is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds):
            writer.write(question)
            return await reader.read()
    except ConnectionResetError:
        return CUT_OFF
    finally:
        writer.close()


def get(path: str, *headers: str, host: str = "127.0.0.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_an_answer_has_what_was_asked_for_and_tells_the_browser_to_trust_nothing_else() -> None:
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        head, _, body = (await ask(port, get("/some?query=1", "Last-Event-ID: 1-2-3"))).partition(b"\r\n\r\n")

    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert (status(head), body) == (200, b"/some query=1 1-2-3")
    assert headers == {"Content-Type": PLAIN, "Content-Length": "19", **dict(door.HEADERS), "X-More": "1"}
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (get("/", host="localhost:4280"), 200),
        (get("/", host="[::1]:4280"), 200),
        (get("/", method="HEAD"), 200),
        (get("/", host="evil.example"), 421),
        (get("/", host="127.0.0.1.evil.example:4280"), 421),
        (get("/", host="localhost.evil.example"), 421),
        (get("/", host=""), 421),
        (get("/", method="POST"), 405),
        (get("/", method="DELETE"), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (get("/", "X: " + "x" * 40_000), 431),
    ],
)  # fmt: skip
async def test_a_question_is_judged_before_it_is_answered(question: bytes, expected: int) -> None:
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        assert status(await ask(port, question)) == expected


async def test_whoever_asks_only_for_the_head_gets_no_body_and_whoever_leaves_gets_nothing() -> None:
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        assert (await ask(port, get("/x", method="HEAD"))).endswith(b"\r\n\r\n")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        assert status(await ask(port, get("/x"))) == 200


async def test_on_an_address_for_others_any_name_will_do() -> None:
    port = free_port()

    async with listening("0.0.0.0", port, respond):
        assert status(await ask(port, get("/", host="fedplane.example.org"))) == 200


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unavailable, match=r"cannot serve the page at 127\.0\.0\.1, port "):
        async with listening("127.0.0.1", taken.getsockname()[1], respond):
            raise AssertionError("it listens all the same")


async def test_whoever_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "QUESTION_SECONDS", 0.05)
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        assert await ask(port, b"GET / HTTP/1.1\r\n") == CUT_OFF


async def test_a_reader_that_leaves_an_answer_unread_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SEND_SECONDS", 0.1)
    port, received = free_port(), 0

    async with listening("127.0.0.1", port, respond):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get("/large"))
        await asyncio.sleep(0.4)
        with contextlib.suppress(ConnectionResetError):  # a cut, said more rudely
            while piece := await reader.read(1_000_000):
                received += len(piece)
        writer.close()
        assert received < LARGE
        assert status(await ask(port, get("/x"))) == 200


async def test_a_reader_that_leaves_a_stream_unread_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SEND_SECONDS", 0.1)
    port, ended = free_port(), asyncio.Event()

    async def flood() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            ended.set()

    async with listening("127.0.0.1", port, lambda question: Answer(200, "text/event-stream", flood)):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get("/events"))
        assert await asyncio.wait_for(ended.wait(), 5)
        writer.close()


async def test_when_the_page_is_closed_its_streams_end_and_nobody_complains(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/events"))
        await reader.readuntil(b"data: x")
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):  # a cut, said more rudely
            await reader.read()
    writer.close()

    assert caplog.records == []


async def test_a_stream_ends_when_its_reader_has_gone_and_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "STREAMS_MAX", 1)
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/events"))
        await reader.readuntil(b"data: x")
        refused = await ask(port, get("/events"))
        assert (status(refused), b"Retry-After: 5" in refused) == (503, True)
        assert status(await ask(port, get("/x"))) == 200, "who only asks is still answered"
        writer.close()
        async with asyncio.timeout(5):
            while status(await first(port)) != 200:
                await asyncio.sleep(0.01)


async def test_a_reader_at_the_end_of_a_slow_line_gets_all_of_a_large_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SEND_SECONDS", 0.5)
    port, received = free_port(), b""

    async with listening("127.0.0.1", port, respond):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get("/large"))
        while piece := await reader.read(1_000_000):
            received += piece
            await asyncio.sleep(0.01)
        writer.close()

    assert received.partition(b"\r\n\r\n")[2] == b"x" * LARGE


async def test_connections_that_say_nothing_do_not_use_up_what_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 3)
    port = free_port()

    async with listening("127.0.0.1", port, respond):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await ask(port, get("/x")) == CUT_OFF
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(5):
            while not (answer := await ask(port, get("/x"))):
                await asyncio.sleep(0.01)
        assert status(answer) == 200


async def first(port: int) -> bytes:
    """The first bytes of a stream, which is left then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/events"))
    answer = await reader.read(100)
    writer.close()
    return answer


def test_the_page_has_every_file_that_it_names_and_names_every_file() -> None:
    page = pages()
    texts = {path: answer.body.decode() for path, answer in page.items() if isinstance(answer.body, bytes)}
    named = {f"/{name}" for text in texts.values() for name in _named(text)}

    assert page["/"] == page["/index.html"]
    assert named == set(page) - {"/", "/index.html"}
    assert {answer.kind for answer in page.values()} == set(KINDS.values())


def _named(text: str) -> list[str]:
    return re.findall(r'(?:from "\./|href="|src=")([a-z]+\.(?:js|css|svg))"', text)


def test_nothing_on_the_page_comes_from_elsewhere_or_is_written_into_it_as_markup() -> None:
    for path, answer in pages().items():
        assert isinstance(answer.body, bytes)
        text = answer.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not any(word in text for word in ("http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval(")), path
        assert " style=" not in text, f"{path}: the policy forbids it"
        assert len(text.splitlines()) <= 400, path
