"""Facts on the wire: CloudEvents 1.0 over NATS, in binary mode.

Attributes travel as `ce-*` headers and the fact as the JSON body, so a subscriber with any NATS client reads both without us.
The id of an event is derived from its content, so stating the same fact twice is the same event.
That is what `Nats-Msg-Id` and subscribers need to drop repetitions.
This mapping is pure; publishing it is the business of `runtime`.
Sources: CloudEvents 1.0.2 and its NATS protocol binding, W3C Trace Context.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from fedplane.schemas.facts import Fact, fact_type
from fedplane.schemas.resources import IGNORE_UNKNOWN, explain_invalid

__all__ = ["FACT_BYTES_MAX", "TRACEPARENT", "Unreadable", "Wire", "read", "read_structured", "write", "write_structured"]

FACT_BYTES_MAX = Fact.bytes_max
"""What any fact may have, and what is read; some facts may have less (`Fact.bytes_max`)."""

ID_CHARACTERS = 32
"""128 bits of the content's SHA-256: as many as a UUID has."""

SAID_CHARACTERS_MAX = 500
"""A body of a megabyte can be wrong in a hundred thousand places; the first of them tell enough."""

TRACEPARENT = "traceparent"
_PREFIX = "ce-"
_ESCAPED = re.compile(r"[^\x21\x23\x24\x26-\x7e]")  # NATS binding 3.1.3.2: space, '"', '%' and what is not printable ASCII


@dataclass(frozen=True, slots=True)
class Wire:
    """What is published: the subject, the headers, the body."""

    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The event's id."""
        return self.headers[_PREFIX + "id"]


class Unreadable(ValueError):
    """A message that is no fact of ours: the sentence says what is wrong with it."""

    def __init__(self, said: str) -> None:
        super().__init__(said[:SAID_CHARACTERS_MAX])


def _event(fact: Fact, source: str, more: Mapping[str, str], read_from: bytes = b"") -> CloudEvent:
    body = fact.model_dump(mode="json", by_alias=True, exclude_none=True)
    content = json.dumps([fact.subject, body], sort_keys=True).encode()  # equal facts may have their metrics in another order
    return CloudEvent(
        {
            "specversion": "1.0",
            "id": hashlib.sha256(content).hexdigest()[:ID_CHARACTERS],
            "source": source,
            "type": fact.type,
            "subject": fact.subject,
            "time": fact.at,
            "datacontenttype": "application/json",
            **more,
        },
        json.loads(read_from) if read_from else body,
    )


def write(fact: Fact, source: str, traceparent: str | None = None) -> Wire:
    """The fact as a NATS message. `source` is a URI reference of the process that states it.

    Raises Unreadable when the fact is too large to travel, or has text that UTF-8 cannot write.
    """
    try:
        attributes = _event(fact, source, {}).get_attributes()
        body = fact.model_dump_json(by_alias=True, exclude_none=True).encode()
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise Unreadable(f"{fact.subject} cannot be written: {error}") from error
    if len(body) > fact.bytes_max:
        raise Unreadable(f"{fact.subject} has {len(body)} bytes, and such a fact may have {fact.bytes_max}")
    headers = {_PREFIX + name: _escape(value if isinstance(value, str) else value.isoformat()) for name, value in attributes.items()}
    headers["Nats-Msg-Id"] = headers[_PREFIX + "id"]
    if traceparent:
        headers[TRACEPARENT] = traceparent
    return Wire(fact.subject, headers, body)


def write_structured(fact: Fact, source: str, more: Mapping[str, str] = MappingProxyType({}), read_from: bytes = b"") -> bytes:
    """The fact as one JSON document in CloudEvents' structured mode, for those who do not read headers. `more` are further attributes.

    What the fact was `read_from`, if it was, is in it with fields that this version does not know.
    """
    return JSONFormat().write(_event(fact, source, more, read_from))


def read_structured(document: bytes) -> tuple[Fact, dict[str, str], bytes]:
    """The fact in a JSON document of that kind, the event's attributes, and what the fact was read from.

    Raises Unreadable as `read` does.
    """
    try:
        event = json.loads(document)
        body, attributes = event.pop("data"), {name: str(value) for name, value in event.items()}
        subject, type_, data = attributes["subject"], attributes["type"], json.dumps(body).encode()
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Unreadable(f"this is no CloudEvent with a subject, a type and data: {error!r}") from error
    return _fact(subject, type_, data), attributes, data


def read(subject: str, headers: Mapping[str, str] | None, body: bytes) -> Fact:
    """The fact in a message.

    Raises Unreadable when the type is unknown, the body does not fit the type, or the fact's own subject is not the message's.
    Nobody may state another's fact by publishing it under his own subject.
    """
    named = {name.lower(): value for name, value in (headers or {}).items()}
    type_ = named.get(_PREFIX + "type", "")
    if len(body) > FACT_BYTES_MAX:
        raise Unreadable(f"{subject} has {len(body)} bytes, and a fact may have {FACT_BYTES_MAX}")
    return _fact(subject, type_, body)


def _fact(subject: str, type_: str, body: bytes) -> Fact:
    known = fact_type(type_)
    if known is None:
        raise Unreadable(f"{subject} has the type {type_!r}, which this version does not know")
    try:
        fact = known.model_validate_json(body, context=IGNORE_UNKNOWN)
    except ValidationError as error:
        raise Unreadable(f"{subject} is no {type_}: {explain_invalid(error)}") from error
    if fact.subject != subject:
        raise Unreadable(f"{subject} carries a fact whose own subject is {fact.subject}")
    return fact


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
