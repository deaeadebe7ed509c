"""Where a client asks for a reader of the log: the subject says who asks, and of which runs."""

import pytest

from fedplane.schemas.roles import Role, inbox_of
from fedplane.schemas.subjects import listen, parse_listen


@pytest.mark.parametrize(
    ("asks", "subject"),
    [
        ((Role.COLLABORATOR, "amsterdam", ""), "listen.fed.v1.collaborator.amsterdam"),
        ((Role.COLLABORATOR, "amsterdam", "mnist-5f3a9c1e"), "listen.fed.v1.collaborator.amsterdam.mnist-5f3a9c1e"),
        ((Role.DRIVER, "driver", "mnist-5f3a9c1e"), "listen.fed.v1.driver.driver.mnist-5f3a9c1e"),
    ],
)
def test_who_asks_is_read_back_from_where_it_asks(asks: tuple[Role, str, str], subject: str) -> None:
    assert (listen(*asks), parse_listen(subject)) == (subject, asks)


@pytest.mark.parametrize("subject", ["listen.fed.v1.visitor.amsterdam", "listen.fed.v1.collaborator", "listen"])
def test_what_says_nobody_is_no_such_subject(subject: str) -> None:
    with pytest.raises(ValueError, match=r"visitor|unpack"):
        parse_listen(subject)


def test_no_two_clients_have_one_inbox() -> None:
    assert inbox_of(Role.COLLABORATOR, "a-b") == "_INBOX_collaborator_a-b"
