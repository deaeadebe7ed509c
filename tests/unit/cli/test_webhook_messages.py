"""What is sent to a webhook, and which addresses and headers are taken."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import from_http_event

from fedplane.cli.posting import Header, Poster, header, message, shown
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Failed

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = b'{"run":"mnist-1","at":"2026-03-02T12:00:00Z","reason":"r","message":"zu wenig W\xc3\xb6rter","later":1}'
RECORD = Recorded(Failed(run="mnist-1", at=AT, reason="r", message="zu wenig Wörter"), 17, "0bc7", TRACE, "/fedplane/a b", BODY)
ATTRIBUTES = {
    "specversion": "1.0", "id": "0bc7", "source": "/fedplane/a b", "type": "io.fedplane.run.failed.v1", "time": AT,
    "subject": "fed.v1.run.mnist-1.failed", "datacontenttype": "application/json", "sequence": "00000000000000000017",
    "traceparent": TRACE,
}  # fmt: skip


def test_a_fact_is_headers_and_its_own_bytes() -> None:
    sent = message(RECORD, structured=False)

    assert sent.body == BODY
    assert sent.headers == {
        "ce-specversion": "1.0", "ce-id": "0bc7", "ce-source": "/fedplane/a%20b", "ce-type": "io.fedplane.run.failed.v1",
        "ce-subject": "fed.v1.run.mnist-1.failed", "ce-time": "2026-03-02T12:00:00Z", "content-type": "application/json",
        "ce-sequence": "00000000000000000017", "ce-traceparent": TRACE,
    }  # fmt: skip


@pytest.mark.parametrize("structured", [False, True])
def test_a_library_reads_the_event_in_either_mode(structured: bool) -> None:
    event = from_http_event(message(RECORD, structured=structured))

    assert (event.get_attributes(), event.get_data()) == (ATTRIBUTES, json.loads(BODY))


def test_a_structured_event_says_so() -> None:
    assert message(RECORD, structured=True).headers == {"content-type": "application/cloudevents+json"}


def test_an_address_is_shown_without_its_secrets() -> None:
    """Whoever knows the path of such a webhook may post to it."""
    assert shown("https://user:secret@chat.example.org:8443/services/secret?token=secret#x") == "https://chat.example.org:8443"
    assert shown("http://[::1]:8090/hook") == "http://[::1]:8090"


@pytest.mark.parametrize(
    "address", ["registry", "ftp://registry/hook", "https:///hook", "https://[", "https://host:port/", "https://a..b/hook"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="address"):
        Poster(address)


def test_a_header_comes_from_the_command_line_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("Bearer b=1\n")
    monkeypatch.setenv("TOKEN", "Bearer c")
    headers = header("X-Team=a=1"), header(f"Authorization={tmp_path / 'token'}", "file"), header("Authorization=TOKEN", "variable")

    assert [each.read() for each in headers] == ["a=1", "Bearer b=1", "Bearer c"]


@pytest.mark.parametrize("text", ["Authorization", "=x", "a b=x", "Name=", "ce-id=1", "Content-Type=text/plain", "host=x"])
def test_what_is_no_header_or_not_yours_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="header"):
        header(text)


def test_a_user_in_the_address_and_a_header_that_says_another_are_one_too_many() -> None:
    with pytest.raises(BadInput, match="header Authorization, and that is given as well"):
        Poster("https://user:secret@registry.example.org/hook", [Header("authorization", "Bearer x")])


@pytest.mark.parametrize(
    "missing", [Header("X", value="a\r\nY: b"), Header("X", file=Path("nowhere")), Header("X", variable="FEDPLANE_NO_SUCH")]
)
def test_a_header_that_cannot_be_had_is_said_before_anything_is_sent(missing: Header) -> None:
    with pytest.raises(BadInput, match="header X"):
        Poster("https://registry.example.org/hook", [missing])
