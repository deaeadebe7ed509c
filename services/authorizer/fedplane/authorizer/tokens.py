"""The signed tokens in which a NATS server asks and is answered: JWTs that are signed with nkeys.

An nkey is an Ed25519 key in letters: a byte that says what kind of key it is, the key, a checksum, all in base32.
The library that reads certificates signs as well, so another one for 30 lines would be one more to trust.
Source: github.com/nats-io/nkeys (`strkey.go`, `crc16.go`), github.com/nats-io/jwt (version 2).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedplane.runtime.errors import BadInput

__all__ = ["Signer", "read"]

ACCOUNT, SEED = 0, 18 << 3
"""The first bytes of an account's public key and of a seed, whose letters are then A and S."""

KEY_BYTES = 32
HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


class Signer:
    """Signs as an account. The server knows its public key as the issuer of answers."""

    def __init__(self, seed: str) -> None:
        """Raises BadInput unless this is an account's seed, as `nk -gen account` makes one. It is not repeated in the message."""
        raw = _decoded(seed)
        if raw[:2] != bytes([SEED, ACCOUNT]) or len(raw) != 2 + KEY_BYTES:
            raise BadInput("the signing key is no seed of an account; it begins with SA, and `nk -gen account` makes one")
        self._key = Ed25519PrivateKey.from_private_bytes(raw[2:])
        self.public = _encoded(bytes([ACCOUNT]) + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The claims as a token of this account's, under an id that is their digest."""
        issued = {**claims, "iss": self.public}
        digest = hashlib.sha256(json.dumps(issued, sort_keys=True).encode()).digest()
        body = {**issued, "jti": base64.b32encode(digest).rstrip(b"=").decode()}
        signed = f"{_letters(json.dumps(HEADER).encode())}.{_letters(json.dumps(body).encode())}"
        return f"{signed}.{_letters(self._key.sign(signed.encode()))}"


def read(token: str) -> dict[str, Any]:
    """A token's claims, if whoever it says has issued it has signed it. Raises BadInput otherwise.

    Whether that is somebody to listen to is another question.
    """
    signed, _, signature = token.rpartition(".")
    try:
        claims = json.loads(_bytes(signed.partition(".")[2]))
        issuer = _decoded(claims["iss"])[1:]
        Ed25519PublicKey.from_public_bytes(issuer).verify(_bytes(signature), signed.encode())
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise BadInput(f"that is no token that its issuer has signed: {error!r}") from error
    return dict(claims)


def _encoded(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise BadInput("an nkey is letters and digits of base32, and this is something else") from error
    if binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise BadInput("an nkey's checksum is wrong; it was not copied whole")
    return raw[:-2]


def _letters(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
