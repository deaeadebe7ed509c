"""What names bytes: BLAKE3, said by the digest itself."""

import pytest

from fedplane.schemas.digests import Hashing, digest, digest_of_digests

NOTHING = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
THREE = "blake3:e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"
"""Of the bytes 0, 1, 2. Both are from the test vectors that BLAKE3's authors publish."""


@pytest.mark.parametrize(("data", "expected"), [(b"", NOTHING), (bytes(range(3)), THREE)])
def test_a_digest_is_that_of_the_published_hash(data, expected) -> None:
    assert digest(data) == expected


def test_bytes_that_come_one_after_the_other_have_the_digest_of_the_whole() -> None:
    data = bytes(range(251)) * 1000
    hashing = Hashing()
    for begin in range(0, len(data), 77_777):
        hashing.update(memoryview(data)[begin : begin + 77_777])

    assert hashing.digest == digest(data) == digest(memoryview(bytearray(data)))


def test_a_digest_of_digests_tells_their_order_and_number() -> None:
    one, other = digest(b"one"), digest(b"other")

    assert len({digest_of_digests(each) for each in ([], [one], [one, other], [other, one])}) == 4
