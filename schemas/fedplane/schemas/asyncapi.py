"""The facts as an AsyncAPI 3.0 document, for programs that make clients, pages or mocks of such a document: `schemas/asyncapi.yaml`.

There is a channel for each fact, a message in it, and an operation, from the point of view of somebody who subscribes.
What a message's body is stands in the JSON Schemas, to which the document refers; it repeats none of them.
This module only makes the document; `generate` puts it into the tree.
Source: AsyncAPI 3.0.0, https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

import inspect
import re
from typing import Any

from fedplane.schemas.facts import EVERYTHING, FACTS, Fact
from fedplane.schemas.glossary import WORDS
from fedplane.schemas.headers import HEADERS

__all__ = ["ASYNCAPI_VERSION", "asyncapi_document"]

ASYNCAPI_VERSION = "3.0.0"

_DESCRIPTION = f"""\
Everything that happens in fedplane is a fact: a small JSON document on NATS, under a subject that is its identity.
This document is written from the point of view of a subscriber, who receives.

A message is a CloudEvents 1.0 event in the binary mode of the NATS binding: attributes are headers, the body is JSON.
An address with a parameter is subscribed to with `*` in its place, and everything with `{EVERYTHING}`.
The same messages are kept in JetStream under `log.` and the address: facts of runs in LOG, of the fleet in FLEET, of access in ACCESS.
A channel that says that it is not announced is read there and nowhere else.
Whoever must not miss any makes a durable consumer there, and knows a repetition by its `ce-id`.
Ignore fields, headers and types that you do not know."""

_TAGS = {
    "run": "About a run as a whole.",
    "round": "About one round of a run.",
    "fleet": "About a cluster.",
    "access": "About who may use the bus.",
}

_UNANNOUNCED = "Not announced: a subscription hears nothing of it. It is read from the stream ACCESS, under `log.` and the address."

_REQUIRED = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-datacontenttype")


def asyncapi_document() -> dict[str, Any]:
    """The whole document, in the order in which a person reads it."""
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "fedplane",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": name, "description": said} for name, said in _TAGS.items()],
        },
        "defaultContentType": "application/json",
        "servers": {"bus": _server()},
        "channels": {_key(fact): _channel(fact) for fact in FACTS},
        "operations": {f"hear{fact.__name__}": _operation(fact) for fact in FACTS},
        "components": {
            "messages": {_key(fact): _message(fact) for fact in FACTS},
            "parameters": {name: _parameter(name) for name in _all_parameters()},
            "schemas": {"headers": _headers()},
        },
    }


def _key(fact: type[Fact]) -> str:
    return fact.__name__[0].lower() + fact.__name__[1:]


def _tag(fact: type[Fact]) -> str:
    return fact.type.split(".")[2]


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": "nats",
        "description": "The NATS server of a federation; `fedplane up` prints its address.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "4222"}},
    }


def _channel(fact: type[Fact]) -> dict[str, Any]:
    parameters = re.findall(r"{(\w+)}", fact.template)
    return {
        "address": fact.template,
        **({} if fact.is_announced else {"description": _UNANNOUNCED}),
        "messages": {_key(fact): {"$ref": f"#/components/messages/{_key(fact)}"}},
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in parameters},
        "tags": [{"name": _tag(fact)}],
    }


def _operation(fact: type[Fact]) -> dict[str, Any]:
    channel = f"#/channels/{_key(fact)}"
    return {
        "action": "receive",
        "channel": {"$ref": channel},
        "summary": _prose(fact).splitlines()[0],
        "tags": [{"name": _tag(fact)}],
        "messages": [{"$ref": f"{channel}/messages/{_key(fact)}"}],
    }


def _message(fact: type[Fact]) -> dict[str, Any]:
    return {
        "name": fact.type,
        "title": fact.__name__,
        "description": _prose(fact),
        "contentType": "application/json",
        "headers": {
            "allOf": [{"$ref": "#/components/schemas/headers"}, {"type": "object", "properties": {"ce-type": {"const": fact.type}}}],
        },
        "payload": {"$ref": f"json/{fact.type}.json"},
        "tags": [{"name": _tag(fact)}],
        "x-said-by": fact.said_by.split(", "),
    }


def _prose(fact: type[Fact]) -> str:
    return inspect.cleandoc(fact.__doc__ or "")


def _all_parameters() -> list[str]:
    return sorted({name for fact in FACTS for name in re.findall(r"{(\w+)}", fact.template)})


def _parameter(name: str) -> dict[str, Any]:
    return {"description": WORDS[name], "location": f"$message.payload#/{name}"}


def _headers() -> dict[str, Any]:
    described: dict[str, dict[str, Any]] = {name: {"type": "string", "description": said} for name, said in HEADERS.items()}
    described["ce-specversion"]["const"] = "1.0"
    described["ce-datacontenttype"]["const"] = "application/json"
    described["ce-time"]["format"] = "date-time"
    return {"type": "object", "required": list(_REQUIRED), "properties": described}
