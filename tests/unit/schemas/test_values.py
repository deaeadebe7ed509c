"""The values inside facts."""

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from fedplane.schemas.digests import digest
from fedplane.schemas.models import (
    METRICS_MAX,
    Chosen,
    Configuration,
    Instant,
    Metrics,
    Model,
    Piece,
    Refused,
    Term,
    Value,
    Weight,
    model_digest,
)  # fmt: skip

DIGEST = "blake3:" + "0" * 64


def piece(size: int, chunk_bytes: int = 8, digest: str = DIGEST) -> Piece:
    return Piece(subject="s", bytes=size, chunk_bytes=chunk_bytes, digest=digest)


@pytest.mark.parametrize(("size", "chunks"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2)])
def test_a_piece_has_as_many_chunks_as_its_bytes_need(size: int, chunks: int) -> None:
    assert piece(size).chunks == chunks


@pytest.mark.parametrize(
    "fields",
    [
        {"bytes": -1},
        {"chunk_bytes": 0},
        {"digest": "0" * 64},
        {"digest": "sha256:" + "0" * 64},
        {"digest": DIGEST[:-1]},
        {"digest": DIGEST[:-1] + "G"},
        {"digest": DIGEST[:-1] + "A"},
        {"digest": DIGEST + "\n"},
        {"digest": " " + DIGEST},
    ],
)
def test_a_piece_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Piece.model_validate({"subject": "s", "bytes": 1, "chunk_bytes": 8, "digest": DIGEST} | fields)


def test_a_models_digest_names_its_parts_and_their_order() -> None:
    layout, first, second = (piece(8, digest=digest(text)) for text in (b"layout", b"first", b"second"))

    expected = digest(b"".join(bytes.fromhex(part.digest.removeprefix("blake3:")) for part in (layout, first, second)))
    assert model_digest(layout, (first, second)) == expected
    assert model_digest(layout, (second, first)) != expected


@pytest.mark.parametrize("given", [True, 1, 1.5, "text", [1, 2.5, "three", False]])
def test_a_configuration_keeps_plain_values_as_they_are(given: object) -> None:
    kept = TypeAdapter(Configuration).validate_python({"key": given})["key"]

    assert (kept, type(kept)) == (given, type(given))


@pytest.mark.parametrize("given", [None, {"nested": 1}, [[1]], [None]])
def test_a_configuration_with_anything_else_is_refused_in_one_sentence(given: object) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Configuration).validate_python({"key": given})

    assert [problem["msg"] for problem in refused.value.errors()] == ["must be true or false, a finite number, a text, or a list of those"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_value_carries_a_number_that_json_cannot_write(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Chosen(cluster="a", score=number, terms=())
    with pytest.raises(ValidationError, match="finite"):
        Term(criterion="cpu", score=1, weight=number)


@pytest.mark.parametrize("value", [Piece, Model, Term, Chosen, Refused])
def test_values_are_immutable_and_let_later_versions_add_fields(value: type[BaseModel]) -> None:
    assert issubclass(value, Value)
    assert value.model_config["frozen"] is True
    assert value.model_config["extra"] == "ignore"


def test_a_score_of_a_criterion_is_between_minus_100_and_100() -> None:
    for score in (-100.1, 100.1):
        with pytest.raises(ValidationError):
            Term(criterion="cpu", score=score, weight=1)


def test_a_time_is_kept_in_utc_so_that_equal_times_are_written_alike() -> None:
    noon = datetime(2026, 3, 2, 13, tzinfo=timezone(timedelta(hours=1)))

    assert TypeAdapter(Instant).dump_json(TypeAdapter(Instant).validate_python(noon)) == b'"2026-03-02T12:00:00Z"'


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
def test_a_time_at_the_end_of_the_calendar_is_refused_because_a_lease_could_leave_it(time: str) -> None:
    with pytest.raises(ValidationError, match="between the years 1970 and 2999"):
        TypeAdapter(Instant).validate_python(time)


def test_an_answer_has_a_bounded_number_of_metrics_with_names_of_a_bounded_length() -> None:
    fitting = {f"metric-{number}": 0.5 for number in range(METRICS_MAX)}

    assert TypeAdapter(Metrics).validate_python(fitting) == fitting
    for too_much in (fitting | {"another": 0.5}, {"m" * 101: 0.5}):
        with pytest.raises(ValidationError):
            TypeAdapter(Metrics).validate_python(too_much)


def test_a_configuration_that_would_not_fit_an_invitation_is_refused() -> None:
    with pytest.raises(ValidationError, match="has 100013 bytes as JSON, and a configuration may have 100000"):
        TypeAdapter(Configuration).validate_python({"words": "w" * 100_000})


@pytest.mark.parametrize("weight", [0, -1, 1.1e15, float("inf"), float("nan")])
def test_a_weight_is_a_number_of_examples(weight: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Weight).validate_python(weight)
