"""Masks for every element of a model, made of 32 bytes: who knows the key makes the same ones, and nobody else can tell them from chance.

The stream of a key and a shard is AES-256 in counter mode (NIST SP 800-38A, section 6.5): the encryption of the numbers

    shard * 2^64 + 0,  shard * 2^64 + 1,  ...

as blocks of 16 bytes, big-endian. Its bytes are read as little-endian integers of an element's width, one for each element.
So each shard can be unmasked by itself, in any process, and from any element on, since the number of an element's block is known.
Telling 2^30 bytes of it from chance takes breaking AES, but for a probability of 2^-77: blocks^2 / 2^129, for a cipher never repeats one.

A mask is added, modulo 2^bits, and not put on by exclusive-or as encryption does it: masks must cancel in a sum.
The cipher runs as fast as memory, so what counts is how often elements move.
Hence masks are made in blocks that stay in the cache, and all masks of a block are added before the next block is read.
Both leave Python's lock to others: shards may be masked by several threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedplane.runtime.errors import BadInput

__all__ = ["BLOCK_BYTES", "RINGS", "TALLY_SHARD", "Mask", "Ring", "apply", "apply_all"]

Ring = NDArray[Any]
"""Integers modulo 2^32 or 2^64, as unsigned ones of that width."""

RINGS: dict[int, np.dtype[Any]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}
"""By bits: how elements are written, on the bus as in memory."""

TALLY_SHARD = 2**63
"""The number under which the tally is masked: no model has as many shards."""

BLOCK_BYTES = 131_072
"""Elements, zeros and stream of a block stay in a second-level cache. Half of it was slower by a twentieth, twice as much hardly faster."""

CIPHER_BLOCK_BYTES = 16
KEY_BYTES = 32

_ZEROS = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Mask:
    """A key, and whether its stream is taken off or put on."""

    key: bytes = field(repr=False)
    subtract: bool


def apply(values: Ring, key: bytes, shard: int, first_element: int = 0, *, subtract: bool = False) -> None:
    """Add the stream of a key to the values, in place, or subtract it. The first of them is the shard's `first_element`."""
    apply_all(values, [Mask(key, subtract)], shard, first_element)


def apply_all(values: Ring, masks: Iterable[Mask], shard: int, first_element: int = 0) -> None:
    """Apply several masks in one pass over the values."""
    if values.dtype not in RINGS.values() or values.ndim != 1 or not values.flags.writeable:
        raise BadInput(f"a mask is for a writeable row of <u4 or <u8, and this is {values.ndim} x {values.dtype}")
    streams = [(_Stream(mask.key, shard, first_element * values.itemsize), np.subtract if mask.subtract else np.add) for mask in masks]
    buffer = bytearray(BLOCK_BYTES + CIPHER_BLOCK_BYTES - 1)  # the cipher wants room for a block that it does not fill
    words = np.frombuffer(buffer, values.dtype, BLOCK_BYTES // values.itemsize)
    for begin in range(0, len(values), len(words)):
        part = values[begin : begin + len(words)]
        for stream, put in streams:
            stream.read_into(buffer, part.nbytes)
            put(part, words[: len(part)], out=part)


class _Stream:
    """A key's stream from some byte of a shard on."""

    def __init__(self, key: bytes, shard: int, first_byte: int) -> None:
        if len(key) != KEY_BYTES:
            raise BadInput(f"a key has {KEY_BYTES} bytes, and this one {len(key)}")
        block, skipped = divmod(first_byte, CIPHER_BLOCK_BYTES)
        if not (0 <= shard < 2**64 and 0 <= block < 2**64):
            raise BadInput(f"shards are numbered from 0 to 2^64 - 1, and so are their blocks; there is none {block} of shard {shard}")
        counter = shard.to_bytes(8, "big") + block.to_bytes(8, "big")
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
        self._cipher.update(_ZEROS[:skipped])

    def read_into(self, buffer: bytearray, size: int) -> None:
        self._cipher.update_into(_ZEROS if size == len(_ZEROS) else _ZEROS[:size], buffer)
