"""Masks: AES in counter mode as NIST has it, the same from wherever it is read, and gone when it is taken off again."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.privacy.keystream import BLOCK_BYTES, RINGS, Mask, apply, apply_all
from fedplane.runtime.errors import BadInput

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
ELEMENTS = BLOCK_BYTES // 4 * 2 + 13
"""Of 32 bits: two blocks and a bit of a third."""

rings = pytest.mark.parametrize("bits", RINGS)


def stream(key: bytes, shard: int, size: int, bits: int = 32) -> np.ndarray[Any, Any]:
    values = np.zeros(size, RINGS[bits])
    apply(values, key, shard)
    return values


@rings
def test_the_stream_is_that_of_nist_sp_800_38a(bits: int) -> None:
    """Appendix F.5.5, CTR-AES256: the stream is what was added to the plaintext. Its counter lies deep in a shard with a large number."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = (
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    encrypted = (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    values = np.zeros(64 * 8 // bits, RINGS[bits])

    apply(values, key, shard=0xF0F1F2F3F4F5F6F7, first_element=0xF8F9FAFBFCFDFEFF * 128 // bits)

    assert int(values.tobytes().hex(), 16) == int(plain, 16) ^ int(encrypted, 16)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(sorted(RINGS)))
def test_the_stream_is_the_same_from_wherever_it_is_read(data: st.DataObject, bits: int) -> None:
    size = ELEMENTS * 32 // bits
    whole = stream(KEY, 3, size, bits)
    begin = data.draw(st.integers(0, size))
    part = np.zeros(data.draw(st.integers(0, size - begin)), RINGS[bits])

    apply(part, KEY, 3, begin)

    assert np.array_equal(part, whole[begin : begin + len(part)])


def test_shards_keys_and_places_have_streams_of_their_own() -> None:
    streams = [stream(KEY, 0, 64), stream(KEY, 1, 64), stream(OTHER_KEY, 0, 64), stream(KEY, 0, 128)[64:]]

    assert len({one.tobytes() for one in streams}) == 4
    assert not set.intersection(*({*one.tolist()} for one in streams))


@rings
def test_what_one_adds_the_other_takes_off(bits: int) -> None:
    values = np.arange(ELEMENTS, dtype=RINGS[bits])
    masked = values.copy()

    apply(masked, KEY, 5)
    assert np.count_nonzero(masked == values) <= 1
    apply(masked, KEY, 5, subtract=True)

    assert np.array_equal(masked, values)


@rings
def test_several_masks_in_one_pass_are_the_same_as_one_by_one(bits: int) -> None:
    together, single = np.arange(ELEMENTS, dtype=RINGS[bits]), np.arange(ELEMENTS, dtype=RINGS[bits])

    apply_all(together, [Mask(KEY, False), Mask(OTHER_KEY, True)], 2, 7)
    apply(single, OTHER_KEY, 2, 7, subtract=True)
    apply(single, KEY, 2, 7)

    assert np.array_equal(together, single)


def test_parts_may_be_masked_by_several_threads() -> None:
    whole, parts = np.zeros(8 * 50_000, np.uint32), np.zeros(8 * 50_000, np.uint32)
    masks = [Mask(KEY, False), Mask(OTHER_KEY, False)]

    apply_all(whole, masks, 1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda begin: apply_all(parts[begin : begin + 50_000], masks, 1, begin), range(0, len(parts), 50_000)))

    assert np.array_equal(parts, whole)


def test_a_mask_does_not_tell_its_key() -> None:
    assert repr(Mask(KEY, True)) == "Mask(subtract=True)"


def test_without_masks_and_without_values_nothing_changes() -> None:
    values = np.arange(9, dtype=np.uint32)

    apply_all(values, [], 0)
    apply(values[:0], KEY, 0)

    assert values.tolist() == list(range(9))


@pytest.mark.parametrize(
    ("values", "key", "shard", "first", "said"),
    [
        (np.zeros(3), KEY, 0, 0, "a writeable row of <u4 or <u8, and this is 1 x float64"),
        (np.zeros((3, 3), np.uint32), KEY, 0, 0, "and this is 2 x uint32"),
        (np.frombuffer(bytes(8), np.uint32), KEY, 0, 0, "a writeable row"),
        (np.zeros(3, np.uint32), KEY[:16], 0, 0, "a key has 32 bytes, and this one 16"),
        (np.zeros(3, np.uint32), KEY, -1, 0, "there is none 0 of shard -1"),
        (np.zeros(3, np.uint32), KEY, 2**64, 0, "of shard 18446744073709551616"),
        (np.zeros(3, np.uint32), KEY, 0, -1, "there is none -1 of shard 0"),
        (np.zeros(3, np.uint32), KEY, 0, 2**66, "there is none 18446744073709551616 of shard 0"),
    ],
)
def test_what_cannot_be_masked_is_refused(values: np.ndarray[Any, Any], key: bytes, shard: int, first: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        apply(values, key, shard, first)
