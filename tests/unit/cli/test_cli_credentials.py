"""A bundle: whose it is, by its first line, and who may read it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedplane.cli.credentials import check_lasts, keep_secret, owner_of, read_bundle, render_bundle
from fedplane.runtime.certificates import Authority, of_client
from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.runtime.nats import Credentials
from fedplane.schemas.roles import Role

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_a_bundle_says_whose_it_is_and_is_read_thrice(tmp_path: Path) -> None:
    file = tmp_path / "ann.pem"
    keep_secret(file, render_bundle(Role.OPERATOR, "ann", key="K\n", certificate="C\n", authority="A\n"))

    assert file.read_text() == "# fedplane:cli:ann\nK\nC\nA\n"
    assert owner_of(file) == (Role.OPERATOR, "ann")
    assert read_bundle(file) == Credentials(file, file, file, "_INBOX_cli_ann")


@pytest.mark.parametrize("first", ["", "-----BEGIN PRIVATE KEY-----", "# fedplane:king:ann", "# fedplane:cli:>", "# fedplane:cli:ann more"])
def test_what_does_not_say_whose_it_is_is_no_bundle(tmp_path: Path, first: str) -> None:
    (tmp_path / "ann.pem").write_text(first + "\nrest\n")

    with pytest.raises(BadInput, match=r"ann.pem is no bundle: its first line is not `# fedplane:ROLE:NAME`"):
        read_bundle(tmp_path / "ann.pem")


def test_a_bundle_that_is_not_there_is_told_of_with_who_makes_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no bundle .*ann.pem; `fedplane up` and `fedplane access` make such files"):
        read_bundle(tmp_path / "ann.pem")


def test_a_secret_is_for_its_owner_alone_also_where_an_open_file_was_before(tmp_path: Path) -> None:
    for left in ("secret", "secret.new"):
        (tmp_path / left).write_text("old")
        (tmp_path / left).chmod(0o644)

    keep_secret(tmp_path / "secret", "new")

    assert ((tmp_path / "secret").stat().st_mode & 0o777, (tmp_path / "secret").read_text()) == (0o600, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    with pytest.raises(Unavailable, match="cannot write"):
        keep_secret(tmp_path / "nowhere" / "secret", "new")


def test_a_certificate_that_has_ended_is_told_of_with_its_end(tmp_path: Path) -> None:
    authority, file = Authority.new("ours", NOON), tmp_path / "ann.pem"
    issued = authority.issue(of_client(Role.OPERATOR, "ann"), NOON, timedelta(days=1))
    keep_secret(file, render_bundle(Role.OPERATOR, "ann", key=issued.key, certificate=issued.certificate, authority=authority.certificate))

    check_lasts(file, NOON + timedelta(hours=23))
    with pytest.raises(BadInput, match=r"the certificate in .*ann.pem ended on 2026-03-03 at 12:00 UTC; `fedplane up` renews"):
        check_lasts(file, NOON + timedelta(hours=25))
