"""Secrets that two clusters share though everything they say goes over the hub, and messages that only the other one can read.

Each cluster makes a private number a and publishes A = a*G, a point of the curve y^2 = x^3 + 486662 x^2 + x over the prime 2^255 - 19.
Two of them compute the same a*B = b*A, which whoever sees A and B cannot (X25519, RFC 7748).
That point is no key yet: HKDF with SHA-256 (RFC 5869) makes keys of it, each for one purpose that is named in it.
Both public keys are part of the purpose, since other points than A give the same secret (RFC 7748, section 7).

A message is sealed with AES-SIV (RFC 5297), with keys of 256 bits: it is encrypted, and whoever changes a bit of it is found out.
It needs no nonce, hence no chance. Ciphers that take one break if a key seals two messages with it; this one shows whether they are equal.

Chance is the caller's: private keys are 32 bytes that nobody can guess.
Whose a public key is, is said by a signature (`fedplane.privacy.vouching`); without one the hub may put itself between the two.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedplane.runtime.errors import BadInput

__all__ = ["KEY_BYTES", "SEAL_BYTES", "Tampered", "derived", "public_of", "purpose", "seal", "shared_secret", "unseal"]

KEY_BYTES = 32
"""Of private keys, public keys and everything that is derived from them: X25519's size, and 256 bits for a cipher."""

SEAL_BYTES = 16
"""What a sealed message has more than the message: AES-SIV's tag."""

_LENGTH_BYTES = 4
"""Before each part of a purpose: far more than any name is long."""

_SEALING = b"fedplane sealing"


class Tampered(BadInput):
    """A sealed message is not what was sealed with this key and about this."""


def public_of(private: bytes) -> bytes:
    """The public key that belongs to 32 private bytes."""
    return _private(private).public_key().public_bytes_raw()


def shared_secret(private: bytes, public: bytes, info: bytes) -> bytes:
    """The 32 bytes that the two owners of these keys have in common for the purpose `info`, whichever of them asks."""
    own = _private(private)
    if len(public) != KEY_BYTES:
        raise BadInput(f"a public key has {KEY_BYTES} bytes, and this one {len(public)}; send what public_of gives")
    try:
        point = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # a point of small order: the secret would be zero whoever asks
        raise BadInput("a public key is none that any private key has; its owner must make new keys") from error
    first, second = sorted((own.public_key().public_bytes_raw(), public))
    return derived(point, purpose(info, first, second))


def derived(secret: bytes, info: bytes, size: int = KEY_BYTES) -> bytes:
    """A key for the purpose `info`: it tells nothing of the secret, nor of the secret's keys for other purposes."""
    return HKDF(SHA256(), size, salt=None, info=info).derive(secret)


def purpose(what: bytes, *parts: bytes) -> bytes:
    """What a key is for, as bytes: each part with its length before it, so that no two lists of parts are the same bytes."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in (what, *parts))


def seal(key: bytes, message: bytes, about: bytes) -> bytes:
    """The message for whoever has the key. `about` (from whom, to whom, in which round) is not in it, and must be the same to open it."""
    return _cipher(key).encrypt(message, [about])


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """What was sealed with this key about this; raises Tampered if that is not what it is."""
    try:
        return _cipher(key).decrypt(sealed, [about])
    except InvalidTag as error:
        raise Tampered("a sealed message was changed on its way, or was sealed for somebody or something else") from error


def _cipher(key: bytes) -> AESSIV:
    if len(key) != KEY_BYTES:
        raise BadInput(f"a key has {KEY_BYTES} bytes, and this one {len(key)}")
    return AESSIV(derived(key, _SEALING, 2 * KEY_BYTES))


def _private(private: bytes) -> X25519PrivateKey:
    if len(private) != KEY_BYTES:
        raise BadInput(f"a private key has {KEY_BYTES} bytes, and this one {len(private)}")
    return X25519PrivateKey.from_private_bytes(private)
