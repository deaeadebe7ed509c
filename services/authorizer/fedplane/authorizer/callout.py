"""The decision: what a server asks about a connection, and what is answered. Pure; the signature is put below it by `answering`.

The server sends its user's public key, which the answer must be about, and the chains of certificates that it has verified.
Anything else that a client says of itself, as a name, a password or a certificate that was not verified, is not looked at.
Source: ADR-26 of the NATS architecture repository (auth callout); github.com/nats-io/jwt, version 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fedplane.authorizer import grants
from fedplane.authorizer.certificates import parse
from fedplane.authorizer.grants import Grant, Role
from fedplane.authorizer.identity import Identity, Refused, Trust, identify
from fedplane.authorizer.participants import Participants, runs_of
from fedplane.runtime.errors import BadInput

__all__ = ["Asked", "asked", "decide", "refusal", "response", "user"]

SERVER_KEY = "N"
"""What the public key of a server begins with."""

CHAIN_MAX = 8
"""Certificates from a client's to its authority's. OCM has two; more than a handful is nothing that we have to read."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server wants to know: of which user, for which server, and what it has verified of the client."""

    user: str
    server: str
    chain: tuple[str, ...]


def asked(claims: Mapping[str, Any]) -> Asked:
    """The question in a request's claims. Raises BadInput when there is none, or one server asks in another's name."""
    try:
        request = claims["nats"]
        user, server = request["user_nkey"], request["server_id"]["id"]
        chains = (request.get("client_tls") or {}).get("verified_chains") or [[]]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"that is no request for authorization: {error!r}") from error
    if request.get("type") != "authorization_request":
        raise BadInput(f"that is no request for authorization, but {request.get('type')!r}")
    if not isinstance(user, str) or not str(server).startswith(SERVER_KEY) or claims.get("iss") != server:
        raise BadInput("a request for authorization has to be signed by the server that it is from")
    return Asked(user, server, tuple(map(str, chains[0])))


def decide(question: Asked, participants: Participants, trust: Trust) -> Grant | Refused:
    """What the client may do, by its certificates and by what the log says now."""
    if len(question.chain) > CHAIN_MAX:
        return Refused(f"the chain has {len(question.chain)} certificates, and {CHAIN_MAX} are read at most")
    try:
        chain = [parse(each) for each in question.chain]
    except BadInput as error:
        return Refused(str(error))
    match identify(chain, trust):
        case Refused() as refused:
            return refused
        case Identity(Role.COLLABORATOR, cluster):
            return grants.collaborator(cluster, runs_of(participants, cluster))
        case Identity(role, name):
            return grants.of_role(role, name)


def user(question: Asked, grant: Grant, now: datetime) -> dict[str, Any]:
    """The grant as a server reads it: the claims about its user."""
    return {
        "sub": question.user,
        "aud": grant.account,
        "name": f"{grant.role}:{grant.name}",
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + grant.limits.expires_seconds,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": _permission(grant.publish),
            "sub": _permission(grant.subscribe),
            "subs": grant.limits.subscriptions,
            "payload": grant.limits.payload_bytes,
            "data": -1,
            "allowed_connection_types": ["STANDARD"],
        },
    }


def _permission(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    """To a server no list at all means everything, so who may do nothing is told so."""
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def response(question: Asked, token: str, now: datetime) -> dict[str, Any]:
    """The claims of an answer that lets the user in; `token` is the signed claims about it."""
    return _answer(question, now, {"jwt": token})


def refusal(question: Asked, refused: Refused, now: datetime) -> dict[str, Any]:
    """The claims of an answer that does not. The server logs the reason; the client is told only that it is not let in."""
    return _answer(question, now, {"error": refused.reason})


def _answer(question: Asked, now: datetime, said: Mapping[str, str]) -> dict[str, Any]:
    nats = {"type": "authorization_response", "version": 2, **said}
    return {"sub": question.user, "aud": question.server, "iat": int(now.timestamp()), "nats": nats}
