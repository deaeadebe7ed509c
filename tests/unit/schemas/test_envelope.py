"""Facts on the wire and back."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from fedplane.schemas.envelope import FACT_BYTES_MAX, SAID_CHARACTERS_MAX, Unreadable, read, write, write_structured
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import FACTS, Cancelled, Contributed, Declined, Evaluated, Fact, Submitted

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)


def cancelled(message: str = "") -> Cancelled:
    return Cancelled(at=NOON, run="mnist-5f3a9c1e", message=message)


def said_by(unreadable: pytest.ExceptionInfo[Unreadable]) -> str:
    return str(unreadable.value)


@every_example
def test_a_fact_is_read_as_it_was_written(example: Fact) -> None:
    wire = write(example, "/test")

    assert read(wire.subject, wire.headers, wire.body) == example


def test_a_message_is_a_cloudevent_in_binary_mode() -> None:
    wire = write(cancelled("enough"), "/cli/0", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

    assert wire.subject == "fed.v1.run.mnist-5f3a9c1e.cancelled"
    assert wire.headers == {
        "ce-specversion": "1.0",
        "ce-id": wire.id,
        "ce-source": "/cli/0",
        "ce-type": "io.fedplane.run.cancelled.v1",
        "ce-subject": "fed.v1.run.mnist-5f3a9c1e.cancelled",
        "ce-time": "2026-03-02T12:00:00+00:00",
        "ce-datacontenttype": "application/json",
        "Nats-Msg-Id": wire.id,
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    assert json.loads(wire.body) == {"at": "2026-03-02T12:00:00Z", "run": "mnist-5f3a9c1e", "message": "enough"}


@every_example
def test_the_structured_mode_says_the_same(example: Fact) -> None:
    binary, event = write(example, "/test"), JSONFormat().read(None, write_structured(example, "/test"))

    assert (event.get_id(), event.get_type(), event.get_subject()) == (binary.id, example.type, example.subject)
    assert event.get_data() == json.loads(binary.body)


@given(st.dictionaries(st.text(max_size=9), st.floats(allow_nan=False, allow_infinity=False), max_size=9))
def test_equal_facts_are_one_event_in_whatever_order_their_metrics_came(metrics: dict[str, float]) -> None:
    fact, same = (
        Evaluated(at=NOON, run="r", round=1, cluster="c", weight=1, metrics=dict(items))
        for items in (metrics.items(), reversed(metrics.items()))
    )

    assert fact == same
    assert write(fact, "/one").id == write(same, "/another").id


def test_facts_that_differ_are_different_events() -> None:
    ids = {write(fact, "/test").id for fact in (*EXAMPLES, cancelled(), cancelled("again"))}

    assert len(ids) == len(EXAMPLES) + 2


@given(st.text(min_size=1))
def test_header_values_are_escaped_as_the_nats_binding_wants(source: str) -> None:
    escaped = write(cancelled(), source).headers["ce-source"]

    assert re.fullmatch(r"([!#$&-~]|%[0-9A-F]{2})+", escaped)
    assert re.sub(rb"%(..)", lambda found: bytes.fromhex(found[1].decode()), escaped.encode()).decode() == source


def test_escaping_by_example() -> None:
    assert write(cancelled(), '/euro € "50%" ~').headers["ce-source"] == "/euro%20%E2%82%AC%20%2250%25%22%20~"


def test_header_names_are_read_in_any_case() -> None:
    wire = write(cancelled(), "/test")

    assert read(wire.subject, {name.title(): value for name, value in wire.headers.items()}, wire.body) == cancelled()


def test_a_fact_of_a_later_version_is_read_without_what_it_added() -> None:
    submitted = next(example for example in EXAMPLES if isinstance(example, Submitted))
    wire = write(submitted, "/test")
    later: dict[str, Any] = json.loads(wire.body) | {"novelty": 1}
    later["resource"]["spec"]["novelty"] = {"of": "the resource"}

    assert read(wire.subject, wire.headers, json.dumps(later).encode()) == submitted


def test_a_fact_under_anothers_subject_is_refused() -> None:
    theirs, mine = (Declined(at=NOON, run="r", round=1, cluster=name, reason="r", message="m") for name in ("theirs", "mine"))
    wire = write(theirs, "/test")

    with pytest.raises(Unreadable) as refused:
        read(mine.subject, wire.headers, wire.body)

    assert said_by(refused) == f"{mine.subject} carries a fact whose own subject is {theirs.subject}"


@pytest.mark.parametrize("headers", [None, {}, {"ce-type": "io.fedplane.run.cancelled.v9"}])
def test_a_message_of_an_unknown_type_is_refused(headers: dict[str, str] | None) -> None:
    with pytest.raises(Unreadable, match="which this version does not know"):
        read(cancelled().subject, headers, write(cancelled(), "/test").body)


BAD_BODIES = {
    "empty": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "no UTF-8": b'{"run": "\xff"}',
    "half a character": b'{"at":"2026-03-02T12:00:00Z","run":"r","message":"\\ud800"}',
    "nested too deep": b'{"at":' + b"[" * 400_000,
    "a number too long": b'{"at":"2026-03-02T12:00:00Z","run":"r","message":"", "x":' + b"9" * 100_000 + b"}",
    "a time beyond all calendars": b'{"at":"99999-03-02T12:00:00Z","run":"r"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_does_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        read("fed.v1.run.mnist-5f3a9c1e.cancelled", {"ce-type": Cancelled.type}, body)

    assert said_by(refused).startswith("fed.v1.run.mnist-5f3a9c1e.cancelled ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.sampled_from(FACTS), st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_is_worse_than_unreadable(fact: type[Fact], body: bytes) -> None:
    with pytest.raises(Unreadable):
        read("fed.v1.run.r.none", {"ce-type": fact.type}, body)


@given(st.sampled_from(EXAMPLES), st.data())
def test_no_changed_field_is_worse_than_unreadable(example: Fact, data: st.DataObject) -> None:
    wire = write(example, "/test")
    body = json.loads(wire.body)
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)

    try:
        fact = read(wire.subject, wire.headers, json.dumps(body).encode())
    except Unreadable:
        return

    assert (type(fact), fact.subject) == (type(example), example.subject)


def test_a_fact_that_is_too_large_is_neither_written_nor_read() -> None:
    large = cancelled("x" * FACT_BYTES_MAX)
    with pytest.raises(Unreadable, match=f"such a fact may have {FACT_BYTES_MAX}"):
        write(large, "/test")
    with pytest.raises(Unreadable, match=f"a fact may have {FACT_BYTES_MAX}"):
        read(large.subject, {"ce-type": Cancelled.type}, large.model_dump_json().encode())


def test_text_that_utf_8_cannot_write_is_not_written() -> None:
    with pytest.raises(Unreadable, match="cannot be written"):
        write(cancelled("\ud800"), "/test")


def test_a_body_that_is_wrong_in_very_many_places_is_told_in_a_short_sentence() -> None:
    contributed = next(example for example in EXAMPLES if isinstance(example, Contributed))
    wire = write(contributed, "/test")
    hostile = json.loads(wire.body) | {"shards": [0] * 250_000}

    with pytest.raises(Unreadable) as refused:
        read(wire.subject, wire.headers, json.dumps(hostile, separators=(",", ":")).encode())

    assert len(said_by(refused)) <= SAID_CHARACTERS_MAX
    assert "wrong in 250000 places" in said_by(refused)
