"""The signed tokens in which a NATS server asks and is answered: JWTs that are signed with nkeys.

Source: github.com/nats-io/jwt (version 2).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fedplane.runtime.errors import BadInput
from fedplane.runtime.nkeys import Account, is_signed

__all__ = ["Signer", "read"]

HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


class Signer:
    """Signs tokens as an account. The server knows its public key as the issuer of answers."""

    def __init__(self, seed: str) -> None:
        """Raises BadInput unless this is an account's seed, as `nk -gen account` makes one. It is not repeated in the message."""
        self._account = Account(seed)
        self.public = self._account.public

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The claims as a token of this account's, under an id that is their digest."""
        issued = {**claims, "iss": self.public}
        digest = hashlib.sha256(json.dumps(issued, sort_keys=True).encode()).digest()
        body = {**issued, "jti": base64.b32encode(digest).rstrip(b"=").decode()}
        signed = f"{_letters(json.dumps(HEADER).encode())}.{_letters(json.dumps(body).encode())}"
        return f"{signed}.{_letters(self._account.sign(signed.encode()))}"


def read(token: str) -> dict[str, Any]:
    """A token's claims, if whoever it says has issued it has signed it. Raises BadInput otherwise.

    Whether that is somebody to listen to is another question.
    """
    signed, _, signature = token.rpartition(".")
    try:
        claims = json.loads(_bytes(signed.partition(".")[2]))
        whole = is_signed(claims["iss"], _bytes(signature), signed.encode())
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # the last by brackets nested too deep
        raise BadInput(f"that is no token that its issuer has signed: {error!r}") from error
    if not whole:
        raise BadInput("that is no token that its issuer has signed: the signature is of something else")
    return dict(claims)


def _letters(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
