"""The guard answers over HTTPS whoever asks as an API server does, and nobody who asks otherwise keeps it from that."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from authority_story import Authority, Known

from fedplane.authorizer.admission.listening import CONNECTIONS_MAX, QUESTION_BYTES_MAX, QUESTION_SECONDS, listening
from fedplane.runtime.errors import BadInput, Unavailable

LOOK_SECONDS = 0.02


@dataclass
class Place:
    """A guard that repeats what it is asked, and the authority that its callers know."""

    port: int
    files: Known
    authority: Authority

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.authority.file)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="guard.test")

    async def say(self, head: str, body: bytes = b"") -> tuple[int, Any]:
        """The status and the JSON that come back."""
        reader, writer = await self.connect()
        writer.write(f"{head} HTTP/1.1\r\nHost: guard\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        said = await reader.read()
        writer.close()
        first, _, rest = said.partition(b"\r\n")
        return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])

    async def number(self) -> int:
        """Of the certificate that it shows."""
        _, writer = await self.connect()
        shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.close()
        return int(shown, 16)


def repeat(body: bytes) -> Mapping[str, Any]:
    if not body:
        raise BadInput("nothing is asked")
    return {"asked": body.decode()}


@asynccontextmanager
async def guarding(directory: Path) -> AsyncIterator[Place]:
    authority = Authority(directory, "guards")
    files = authority.sign("guard", host="guard.test")
    async with listening("127.0.0.1", 0, files.certificate, files.key, repeat, look_seconds=LOOK_SECONDS) as port:
        yield Place(port, files, authority)


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("POST /judge?timeout=5s", b"who", (200, {"asked": "who"})),
        ("POST /judge", b"w" * QUESTION_BYTES_MAX, (200, {"asked": "w" * QUESTION_BYTES_MAX})),
        ("GET /live", b"", (200, {"message": "the guard answers"})),
        ("POST /judge", b"", (400, {"message": "nothing is asked"})),
        ("POST /judge", b"w" * (QUESTION_BYTES_MAX + 1), (413, {"message": "a question has 262,144 bytes at most"})),
        ("GET /judge", b"", (404, {"message": "ask POST /judge, or GET /live"})),
        ("POST /", b"who", (404, {"message": "ask POST /judge, or GET /live"})),
    ],
)
async def test_a_question_is_answered_at_its_path(head: str, body: bytes, expected: tuple[int, Any], tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        assert await guard.say(head, body) == expected


async def test_what_is_no_http_is_told_so_and_what_is_not_spoken_here_is_cut_off(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        reader, writer = await guard.connect()
        writer.write(b"\0\0\0\r\n\r\n")
        said = await reader.read()
        writer.close()
        head, asks = await guard.connect()
        asks.write(b"HEAD /live HTTP/1.1\r\nHost: guard\r\n\r\n")
        assert b"the guard answers" not in await head.read()
        asks.close()
        plain, other = await asyncio.open_connection("127.0.0.1", guard.port)
        other.write(b"POST /judge HTTP/1.1\r\n\r\n")

        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"HTTP/" not in await plain.read()
        assert await guard.say("POST /judge", b"who") == (200, {"asked": "who"})
        other.close()


async def test_a_crowd_that_says_nothing_is_bounded_and_cut_off_in_time(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        crowd = [await guard.connect() for _ in range(CONNECTIONS_MAX)]
        await asyncio.sleep(0.05)  # the last of them has to be met
        reader, one_too_many = await guard.connect()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        one_too_many.close()
        async with asyncio.timeout(2 * QUESTION_SECONDS):
            cut_off = [await reader.read() for reader, _ in crowd]

        assert cut_off == [b""] * CONNECTIONS_MAX
        assert await guard.say("POST /judge", b"who") == (200, {"asked": "who"})
        for _, writer in crowd:
            writer.close()


async def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        before = await guard.number()
        whole = guard.files.certificate.read_bytes()
        guard.files.certificate.write_bytes(whole[:100])
        await asyncio.sleep(4 * LOOK_SECONDS)
        broken = await guard.number()
        renewed = guard.authority.sign("guard", host="guard.test")
        guard.files.certificate.write_bytes(renewed.certificate.read_bytes())
        await asyncio.sleep(4 * LOOK_SECONDS)
        half = await guard.number()
        guard.files.key.write_bytes(renewed.key.read_bytes())
        async with asyncio.timeout(10):
            while await guard.number() == before:
                await asyncio.sleep(LOOK_SECONDS)

        assert (broken, half) == (before, before)


async def test_without_a_certificate_or_an_address_it_does_not_start(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        with pytest.raises(BadInput, match="are no certificate with its key"):
            async with listening("127.0.0.1", 0, guard.files.certificate, tmp_path / "none.key", repeat):
                pass
        with pytest.raises(Unavailable, match=f"cannot listen at 127.0.0.1, port {guard.port}"):
            async with listening("127.0.0.1", guard.port, guard.files.certificate, guard.files.key, repeat):
                pass
