"""NATS's own keys (nkeys) for accounts: an Ed25519 key in letters. Whoever signs answers about rights is known to servers by one.

The letters are base32 of a byte that says what kind of key it is, the key, and a checksum.
The library that makes certificates knows Ed25519 as well, so another one for thirty lines would be one more to trust.
Source: github.com/nats-io/nkeys (`strkey.go`, `crc16.go`).
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedplane.runtime.errors import BadInput

__all__ = ["KEY_BYTES", "Account", "is_signed", "seed_of"]

ACCOUNT, SEED = 0, 18 << 3
"""The first bytes of an account's public key and of a seed, whose letters are then A and S."""

KEY_BYTES = 32
"""Of an Ed25519 key (RFC 8032)."""


class Account:
    """Signs as an account. Servers know its public key as the issuer of answers."""

    def __init__(self, seed: str) -> None:
        """Raises BadInput unless this is an account's seed, as `nk -gen account` makes one. It is not repeated in the message."""
        raw = _decoded(seed)
        if raw[:2] != bytes([SEED, ACCOUNT]) or len(raw) != 2 + KEY_BYTES:
            raise BadInput("the signing key is no seed of an account; it begins with SA, and `nk -gen account` makes one")
        self._key = Ed25519PrivateKey.from_private_bytes(raw[2:])
        self.public = _encoded(bytes([ACCOUNT]) + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, signed: bytes) -> bytes:
        """The signature of these bytes."""
        return self._key.sign(signed)


def seed_of(chance: bytes) -> str:
    """The seed of an account that is made of so many random bytes."""
    if len(chance) != KEY_BYTES:
        raise ValueError(f"a seed is made of {KEY_BYTES} bytes, not of {len(chance)}")
    return _encoded(bytes([SEED, ACCOUNT]) + chance)


def is_signed(public: str, signature: bytes, signed: bytes) -> bool:
    """Whether the account with this public key has signed the bytes. Raises BadInput for what is no key."""
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(public)[1:]).verify(signature, signed)
    except InvalidSignature:
        return False
    except ValueError as error:
        raise BadInput(f"that is no public key of an account: {error}") from error
    return True


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
