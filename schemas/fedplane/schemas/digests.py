"""Digests of bytes that are too many for facts: a fact names them by one, and whoever reads them checks it.

A chunk may be damaged, mixed up with another attempt's, or replaced by somebody who may write to the bulk stream.
So the hash is a cryptographic one.
A cluster states the digest of its own update, and must not have two updates for it: replicas would fold different ones.
It is BLAKE3, because every byte of every update is hashed where it is folded, and that must not take longer than the folding.
A digest says which hash it is of, so that another one can follow; docs/adr/0010 has what was measured.
Which bytes are hashed, and when, is the business of whoever moves them.
"""

from collections.abc import Iterable
from typing import Annotated

from blake3 import blake3
from pydantic import Field

__all__ = ["Digest", "Hashing", "digest", "digest_of_digests"]

_ALGORITHM = "blake3:"

Digest = Annotated[str, Field(pattern=rf"^{_ALGORITHM}[0-9a-f]{{64}}$")]
"""The name of the hash, a colon, and 256 bits in lower-case hexadecimal, as `b3sum` writes them."""


class Hashing:
    """A digest of bytes that come one after the other."""

    def __init__(self) -> None:
        self._hash = blake3()

    def update(self, data: memoryview | bytes) -> None:
        """The next bytes. Other threads can run meanwhile."""
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """The digest of all that came so far."""
        return _ALGORITHM + self._hash.hexdigest()


def digest(data: memoryview | bytes) -> str:
    """The digest of bytes that are all there."""
    hashing = Hashing()
    hashing.update(data)
    return hashing.digest


def digest_of_digests(digests: Iterable[str]) -> str:
    """The digest of what several digests stand for, in their order, without the bytes themselves: the hash of their 256 bits each."""
    return digest(b"".join(bytes.fromhex(each.removeprefix(_ALGORITHM)) for each in digests))
