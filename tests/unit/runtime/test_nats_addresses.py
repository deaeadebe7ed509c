"""What is said of a server's address is for everybody to read."""

import pytest

from fedplane.runtime.nats import without_secrets


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://me:secret@hub:4222", "nats://hub:4222"),
        ("secret@hub", "hub"),
        ("nats://me:se/cr@et@hub:4222", "nats://hub:4222"),
        ("tls://a:b@one,nats://two,c@three", "tls://one,nats://two,three"),
    ],
)
def test_users_and_passwords_are_left_out(address: str, said: str) -> None:
    assert without_secrets(address) == said
