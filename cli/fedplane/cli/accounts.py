"""What a server is told of who may connect: by which certificates, whom it asks, and which accounts there are.

A permission is about the subject that a client publishes to. What a server answers it writes itself, wherever the asker said.
So whoever is not ours has an account without streams, and reaches those of the services by imports (ADR 0019).
There are two users with passwords, both the authorizer's. Everybody else is who the authorizer says, and has no more than it grants.
"""

import json
from typing import Any

from fedplane.cli.keys import Keys
from fedplane.schemas.facts import EVERYTHING
from fedplane.schemas.roles import Role, inbox_of

__all__ = ["ACCOUNT", "callout_variables", "guarded"]

Document = dict[str, Any]

ACCOUNT = "BUS"
"""The account that has the streams, and services and operators."""

TO_STREAMS = (*(f"{space}.{EVERYTHING}" for space in ("log", "bulk", "listen")), "$JS.API.DIRECT.GET.>")
"""What clusters ask of the account with the streams and have one answer to: facts, bytes, what to read, and the last of a subject."""

NEXT_MESSAGES = "$JS.API.CONSUMER.MSG.NEXT.>"
"""The one question that has many answers."""

SYSTEM_PERMISSIONS = {
    "publish": ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.KICK"],
    "subscribe": ["_INBOX.>", f"{inbox_of(Role.AUTHORIZER, Role.AUTHORIZER)}.>"],
}
"""All that the authorizer does in the system account, where one could do much more: look for connections, and end them."""

CALLOUT_PERMISSIONS = {"publish": ["$SYS._INBOX.>"], "subscribe": ["$SYS.REQ.USER.AUTH"]}
"""It hears questions, and answers where the server says."""

GREETED_WITHIN = "500ms"
"""How long the server waits for a client that greets first, as ours do, before it speaks in plain text and only asks for TLS.
Its own 50 ms are too short for Python on a machine that is busy; `nats` and other clients, which wait, connect half a second later.
"""


def guarded(keys: Keys) -> Document:
    """The part of a server's configuration that keeps out whom nobody has let in.

    A client that speaks plain text is told that TLS is wanted, though a moment later.
    """
    return {
        "tls": {
            "cert_file": str(keys.server), "key_file": str(keys.server), "ca_file": str(keys.authorities),
            "verify": True, "handshake_first": GREETED_WITHIN,
        },
        "accounts": {
            "SYS": {"users": [{"user": "system", "password": keys.system_password.read_text(), "permissions": SYSTEM_PERMISSIONS}]},
            "AUTH": {"users": [{"user": "authorizer", "password": keys.callout_password.read_text(), "permissions": CALLOUT_PERMISSIONS}]},
            ACCOUNT: {
                "jetstream": "enabled",
                "exports": [
                    *({"service": subject} for subject in TO_STREAMS),
                    {"service": NEXT_MESSAGES, "response_type": "stream"},
                    {"stream": EVERYTHING},
                ],
            },
            "CLUSTERS": {"imports": [{"service": {"account": ACCOUNT, "subject": subject}} for subject in (*TO_STREAMS, NEXT_MESSAGES)]},
            "SUBSCRIBERS": {"imports": [{"stream": {"account": ACCOUNT, "subject": EVERYTHING}}]},
        },
        "authorization": {"auth_callout": {"issuer": keys.issuer, "account": "AUTH", "auth_users": ["authorizer", "system"]}},
        "system_account": "SYS",
    }  # fmt: skip


def callout_variables(keys: Keys) -> str:
    """What of this no file of deploy/ can know, as variables that a server's configuration includes there (deploy/base/accounts.conf)."""
    told = {
        "callout_issuer": keys.issuer,
        "callout_password": keys.callout_password.read_text(),
        "system_password": keys.system_password.read_text(),
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in told.items())
