"""The decision: what a server asks about a connection, and what is answered. Pure; the signature is put below it by `answering`.

The server sends its user's public key, which the answer must be about, and the chains of certificates that it has verified.
Anything else that a client says of itself, as a name, a password or a certificate that was not verified, is not looked at.
Source: ADR-26 of the NATS architecture repository (auth callout); github.com/nats-io/jwt, version 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fedplane.authorizer import grants
from fedplane.authorizer.certificates import parse
from fedplane.authorizer.grants import Grant
from fedplane.authorizer.identity import Because, Identity, Refused, Trust, identify
from fedplane.authorizer.standing import Known, Standing, judge
from fedplane.runtime.errors import BadInput
from fedplane.schemas.roles import Role

__all__ = ["BY_THE_LOG", "Asked", "asked", "decide", "refusal", "response", "user"]

SERVER_KEY = "N"
"""What the public key of a server begins with."""

CHAIN_MAX = 8
"""Certificates from a client's to its authority's. OCM has two; more than a handful is nothing that we have to read."""


BY_THE_LOG = frozenset({Role.COLLABORATOR, Role.SUBSCRIBER})
"""Whose rights cannot be told before the log was read. Others have to be let in earlier: among them is who makes the log."""

ANSWER = {"max": 1, "ttl": 5_000_000_000}
"""Who answers others may do so once, and within five seconds, in which whoever asked has given up. The server counts in nanoseconds."""


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
        chain = tuple(map(str, chains[0]))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"that is no request for authorization: {error!r}") from error
    if request.get("type") != "authorization_request":
        raise BadInput(f"that is no request for authorization, but {request.get('type')!r}")
    if not isinstance(user, str) or not str(server).startswith(SERVER_KEY) or claims.get("iss") != server:
        raise BadInput("a request for authorization has to be signed by the server that it is from")
    return Asked(user, server, chain)


def decide(question: Asked, known: Known | None, trust: Trust, now: datetime) -> Grant | Refused | None:
    """What the client may do, by its certificates and by what the log says now; None if that cannot be told before the log is known."""
    if len(question.chain) > CHAIN_MAX:
        return Refused(f"the chain has {len(question.chain)} certificates, and {CHAIN_MAX} are read at most", Because.CERTIFICATE)
    try:
        chain = [parse(each) for each in question.chain]
    except BadInput as error:
        return Refused(str(error), Because.CERTIFICATE)
    identity = identify(chain, trust)
    if isinstance(identity, Refused):
        return identity
    if known is None and identity.role in BY_THE_LOG:
        return None
    standing = judge(identity, known or Known(), now)
    if isinstance(standing, Refused):
        return standing
    if standing.certificate not in ("", chain[0].fingerprint):
        return Refused(f"{identity} was granted something, but to another certificate than this one", Because.NOT_GRANTED)
    ends = [at for at in (standing.until, chain[0].until) if at is not None]
    return replace(_grant(identity, standing), until=min(ends, default=None), mark=standing.mark)


def _grant(identity: Identity, standing: Standing) -> Grant:
    match identity:
        case Identity(Role.COLLABORATOR, cluster):
            return grants.collaborator(cluster, standing.runs)
        case Identity(Role.SUBSCRIBER, name):
            return grants.subscriber(name, standing.patterns)
        case Identity(role, name):
            return grants.of_role(role, name)


def user(question: Asked, grant: Grant, now: datetime) -> dict[str, Any]:
    """The grant as a server reads it: the claims about its user, whose name says who it is and by which mark."""
    expires = int(now.timestamp()) + grant.limits.expires_seconds
    return {
        "sub": question.user,
        "aud": grant.account,
        "name": f"{grant.role}:{grant.name}:{grant.mark}",
        "iat": int(now.timestamp()),
        "exp": min(expires, int(grant.until.timestamp())) if grant.until else expires,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": _permission(grant.publish),
            "sub": _permission(grant.subscribe),
            **({"resp": ANSWER} if grant.answers else {}),
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
