"""Keys that two have in common and messages that only they can read: the vectors of the RFCs, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.privacy.agreement import KEY_BYTES, SEAL_BYTES, Tampered, derived, public_of, purpose, seal, shared_secret, unseal
from fedplane.runtime.errors import BadInput

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICES = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOBS = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
THEIRS = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
"""RFC 7748, section 6.1."""

KEY = bytes(range(KEY_BYTES))


def test_public_keys_and_secrets_are_those_of_rfc_7748() -> None:
    wanted = derived(THEIRS, purpose(b"x", ALICES, BOBS))

    assert (public_of(ALICE), public_of(BOB)) == (ALICES, BOBS)
    assert (shared_secret(ALICE, BOBS, b"x"), shared_secret(BOB, ALICES, b"x")) == (wanted, wanted)


def test_keys_are_derived_as_in_rfc_5869() -> None:
    """Appendix A.3, its test case without a salt, as here."""
    wanted = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"

    assert derived(b"\x0b" * 22, b"", 42).hex() == wanted


def test_a_secret_is_another_for_another_purpose_and_for_another_point_of_the_same_secret() -> None:
    same_point = BOBS[:-1] + bytes([BOBS[-1] | 128])  # X25519 does not read the last bit

    assert len({shared_secret(ALICE, BOBS, b"x"), shared_secret(ALICE, BOBS, b"y"), shared_secret(ALICE, same_point, b"x")}) == 3


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=4), st.lists(st.binary(max_size=3), min_size=1, max_size=4))
def test_purposes_of_different_parts_are_different(some: list[bytes], others: list[bytes]) -> None:
    assert (purpose(*some) == purpose(*others)) == (some == others)


@given(st.binary(min_size=1, max_size=80), st.binary(max_size=20))
def test_what_is_sealed_is_unsealed_and_is_not_to_be_seen(message: bytes, about: bytes) -> None:
    sealed = seal(KEY, message, about)

    assert unseal(KEY, sealed, about) == message
    assert len(sealed) == len(message) + SEAL_BYTES
    assert len(message) < 4 or message not in sealed


def test_a_message_that_is_sealed_twice_looks_the_same_and_another_one_shares_no_part_of_it() -> None:
    one, again, other = (seal(KEY, message, b"round 7") for message in (b"a" * 64, b"a" * 64, b"a" * 63 + b"b"))

    assert one == again
    assert not {one[begin : begin + 8] for begin in range(0, 80, 8)} & {other[begin : begin + 8] for begin in range(0, 80, 8)}


def test_every_bit_that_is_changed_is_found_out() -> None:
    sealed = int.from_bytes(seal(KEY, b"shares", b"a to b"), "big")
    size = len(b"shares") + SEAL_BYTES

    for bit in range(8 * size):
        with pytest.raises(Tampered):
            unseal(KEY, (sealed ^ 1 << bit).to_bytes(size, "big"), b"a to b")


@pytest.mark.parametrize(
    ("key", "sealed", "about"),
    [
        (KEY[::-1], seal(KEY, b"shares", b"a to b"), b"a to b"),
        (KEY, seal(KEY, b"shares", b"a to b"), b"b to a"),
        (KEY, seal(KEY, b"shares", b"a to b")[:-1], b"a to b"),
        (KEY, bytes(SEAL_BYTES), b"a to b"),
        (KEY, b"", b"a to b"),
    ],
    ids=["another key", "about something else", "cut off", "nothing sealed", "nothing"],
)
def test_what_was_not_sealed_so_is_not_unsealed(key: bytes, sealed: bytes, about: bytes) -> None:
    with pytest.raises(Tampered):
        unseal(key, sealed, about)


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_point_that_gives_everybody_the_same_secret_is_no_public_key(public: bytes) -> None:
    with pytest.raises(BadInput, match="must make new keys"):
        shared_secret(ALICE, public, b"x")


def test_keys_of_another_size_are_refused() -> None:
    with pytest.raises(BadInput, match="a private key has 32 bytes, and this one 31"):
        public_of(ALICE[1:])
    with pytest.raises(BadInput, match="a public key has 32 bytes, and this one 33"):
        shared_secret(ALICE, BOBS + b"x", b"x")
    with pytest.raises(BadInput, match="a key has 32 bytes, and this one 16"):
        seal(KEY[:16], b"shares", b"")
