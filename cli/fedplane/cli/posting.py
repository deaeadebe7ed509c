"""Sending one fact to a webhook by the CloudEvents HTTP binding, and saying what came of it in words that `verdicts` judges.

The library is aiohttp, because a deadline has to hold for a whole exchange, and whoever is told to end must end at once.
A receiver that says one byte a second keeps a thread for as long as it likes; a coroutine is cancelled.
Certificates are checked against what this machine trusts, or SSL_CERT_FILE names. Redirects, cookies and proxies are not followed.

The handshake by which a receiver agrees to be sent events (OPTIONS, of the same specification) is left out.
It protects receivers from services where anybody can enter any address; who starts this command chooses the address himself.
Sources: CloudEvents 1.0.2, HTTP protocol binding; "HTTP 1.1 Web Hooks for Event Delivery".
"""

import os
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from cloudevents.core.bindings.http import HTTPMessage, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from fedplane.cli.verdicts import Answered, Outcome, Unanswered
from fedplane.runtime.archive import structured_line
from fedplane.runtime.errors import BadInput, Corrupt
from fedplane.runtime.ports import Recorded

__all__ = ["Header", "Poster", "header", "message", "shown"]

SAID_BYTES_MAX = 200
"""How much of an answer is kept: the beginning of a sentence that says why."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header may be called (RFC 9110, 5.6.2)."""

OURS = re.compile(r"(?i)ce-.*|content-.*|host|transfer-encoding|connection")
"""Headers that say what is sent, and where, which is not for a person to contradict."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header of every request, and where its value comes from: as it is, a file, or a variable. A file is read anew each time."""

    name: str
    value: str = ""
    file: Path | None = None
    variable: str = ""

    def read(self) -> str:
        """The value now. Raises BadInput if it cannot be had, or is none."""
        try:
            value = self.file.read_text().strip() if self.file else os.environ[self.variable] if self.variable else self.value
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the header {self.name} is in {self.file}, which cannot be read: {error}") from error
        except KeyError as error:
            raise BadInput(f"the header {self.name} is in the variable {self.variable}, which is not set") from error
        if not value.isprintable():
            raise BadInput(f"the value of the header {self.name} has characters that cannot be printed; a header is one line")
        return value


def header(text: str, kind: str = "value") -> Header:
    """The header that NAME=VALUE means, where the value is one, or the name of a `file` or a `variable`. Raises BadInput."""
    name, equals, rest = text.partition("=")
    if not equals or not TOKEN.fullmatch(name) or not rest:
        raise BadInput(f"a header is given as NAME={kind.upper()}, and {name!r} begins with no such thing")
    if OURS.fullmatch(name):
        raise BadInput(f"the header {name} says what is sent, and is not for you to choose")
    match kind:
        case "file":
            return Header(name, file=Path(rest))
        case "variable":
            return Header(name, variable=rest)
        case _:
            return Header(name, value=rest)


def shown(url: str) -> str:
    """Where an address leads, without what may be a secret in it: of many webhooks the path is. Raises BadInput for what is no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, f":{parts.port}" if parts.port is not None else ""
        (host or "").encode("idna")  # as it is looked up
    except ValueError as error:
        raise BadInput("that is no address of a webhook: its host or port cannot be one") from error
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput("the address of a webhook begins with https:// (or http://) and a host")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def message(record: Recorded, *, structured: bool) -> HTTPMessage:
    """The fact as an HTTP message: its attributes as headers and its own bytes as the body, or all in one document. Raises Corrupt."""
    document = structured_line(record)
    if structured:
        return HTTPMessage({"content-type": JSONFormat.CONTENT_TYPE}, document)
    binary = to_binary(JSONFormat().read(CloudEvent, document), JSONFormat())
    return HTTPMessage(binary.headers, record.body or binary.body)


class Poster:
    """Posts facts to one address. Used as a context, which keeps connections from one fact to the next."""

    def __init__(self, url: str, headers: Sequence[Header] = (), *, structured: bool = False, timeout_seconds: float = 10.0) -> None:
        self.shown = shown(url)
        self._url = url
        self._headers = headers
        self._structured = structured
        self._timeout_seconds = timeout_seconds
        names = {name.lower() for name in read_headers(headers)}  # what is missing is said before anything is sent
        if "authorization" in names and "@" in urlsplit(url).netloc:
            raise BadInput(
                "the address has a user in it, which becomes the header Authorization, and that is given as well; leave one away"
            )

    async def __aenter__(self) -> "Poster":
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, record: Recorded) -> Outcome:
        """Send the fact once."""
        try:
            written = message(record, structured=self._structured)
            headers = {"user-agent": "fedplane", **read_headers(self._headers), **written.headers}
            async with self._session.post(self._url, data=written.body, headers=headers, allow_redirects=False) as answer:
                return Answered(answer.status, answer.headers.get("retry-after", ""), await _reason_of(answer))
        except TimeoutError:
            return Unanswered(f"no answer within {self._timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, UnicodeError, BadInput) as error:  # UnicodeError: a host that cannot be looked up
            return Unanswered(f"no answer: {_said(error)}")
        except Corrupt as error:
            return Unanswered(str(error))


async def _reason_of(answer: aiohttp.ClientResponse) -> str:
    """What the receiver says beside a status that is no success. The status stands, whether or not it says all it has announced."""
    if answer.ok:
        return ""
    try:
        return _printable(await answer.content.read(SAID_BYTES_MAX))
    except (TimeoutError, aiohttp.ClientError):
        return ""


def read_headers(headers: Iterable[Header]) -> Mapping[str, str]:
    """Each header's value as it is now. Raises BadInput."""
    return {each.name: each.read() for each in headers}


def _said(error: Exception) -> str:
    """What was wrong. Some of the library's errors say the whole address, and that may be a secret."""
    match error:
        case aiohttp.ClientResponseError():
            said = f"what came is no HTTP: {error.message}"
        case aiohttp.InvalidURL():
            said = "the address cannot be used"
        case _:
            said = str(error)
    return _printable(said.encode()) or type(error).__name__


def _printable(said: bytes) -> str:
    """The beginning of what was said, on one line."""
    return " ".join("".join(each if each.isprintable() else " " for each in said[:SAID_BYTES_MAX].decode(errors="replace")).split())
