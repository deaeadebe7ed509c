"""Who a process says it is, as its settings have it; and that it says nothing to anybody when they have nothing."""

from pathlib import Path
from typing import Any

import pytest

from fedplane.runtime.errors import BadInput
from fedplane.runtime.nats import Credentials
from fedplane.runtime.service import credentials_of
from fedplane.runtime.settings import ServiceSettings
from fedplane.schemas.roles import Role

BUNDLE, CERTIFICATE, KEY, AUTHORITY = Path("/keys/one.pem"), Path("/keys/tls.crt"), Path("/keys/tls.key"), Path("/keys/ca.crt")


@pytest.mark.parametrize(
    ("told", "role", "said"),
    [
        ({"tls_certificate": BUNDLE}, Role.SCHEDULER, Credentials(BUNDLE, BUNDLE, BUNDLE, "_INBOX_scheduler_scheduler")),
        ({"tls_certificate": BUNDLE, "tls_name": "two"}, Role.STATUS, Credentials(BUNDLE, BUNDLE, BUNDLE, "_INBOX_status_two")),
        ({"tls_certificate": BUNDLE, "insecure": True}, Role.OPERATOR, Credentials(BUNDLE, BUNDLE, BUNDLE, "_INBOX_cli_cli")),
        (
            {"tls_certificate": CERTIFICATE, "tls_key": KEY, "tls_authority": AUTHORITY},
            Role.DRIVER,
            Credentials(CERTIFICATE, KEY, AUTHORITY, "_INBOX_driver_driver"),
        ),
        ({"insecure": True}, Role.SCHEDULER, None),
    ],
)
def test_a_process_shows_what_its_settings_name(told: dict[str, Any], role: Role, said: Credentials | None) -> None:
    assert credentials_of(ServiceSettings(**told), role) == said


def test_a_collaborator_is_its_cluster_whatever_else_is_said_and_asks_for_its_reader() -> None:
    settings = ServiceSettings(tls_certificate=BUNDLE, tls_name="other")

    assert credentials_of(settings, Role.COLLABORATOR, "a", "listen.a") == Credentials(
        BUNDLE, BUNDLE, BUNDLE, "_INBOX_collaborator_a", "listen.a"
    )


def test_a_password_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(Credentials(BUNDLE, BUNDLE, BUNDLE, "_INBOX", user="system", password="secret"))


def test_who_has_no_certificate_is_told_what_to_set() -> None:
    with pytest.raises(BadInput, match=r"set FEDPLANE_TLS_CERTIFICATE to .*, or FEDPLANE_INSECURE=true for "):
        credentials_of(ServiceSettings(), Role.SCHEDULER)
