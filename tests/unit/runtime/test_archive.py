"""Facts into a file and back."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.runtime.archive import STEP_BYTES, Packer, Unpacker
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Recorded
from fedplane.schemas import envelope
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Declined

LOG = [
    Recorded(fact, 7 * number, envelope.write(fact, "/test").id, f"00-trace-{number}-01" if number % 2 else None, "/test/ü")
    for number, fact in enumerate(EXAMPLES, 1)
]


def packed(records: list[Recorded]) -> bytes:
    packer = Packer()
    for record in records:
        packer.add(record)
    assert packer.facts == len(records)
    return bytes(packer.end())


def unpacked(*parts: bytes) -> list[Recorded]:
    unpacker = Unpacker()
    records = [record for part in parts for record in unpacker.take(part)]
    unpacker.end()
    return records


def test_every_fact_comes_back_as_the_log_had_it() -> None:
    again = unpacked(packed(LOG))

    assert again == LOG
    assert [envelope.write(record.fact, record.source) for record in again] == [envelope.write(r.fact, r.source) for r in LOG]


@given(st.lists(st.integers(0, 10_000), max_size=5))
def test_it_does_not_matter_how_the_file_is_cut(cuts: list[int]) -> None:
    whole = packed(LOG)
    marks = sorted({0, *(cut % len(whole) for cut in cuts), len(whole)})

    assert unpacked(*(whole[begin:end] for begin, end in pairwise(marks))) == LOG


def test_the_same_facts_make_the_same_bytes() -> None:
    assert packed(LOG) == packed(LOG)


def test_a_file_is_what_other_programs_call_gzip_and_a_line_is_a_cloud_event() -> None:
    lines = gzip.decompress(packed(LOG)).splitlines()
    event = json.loads(lines[0])

    assert len(lines) == len(LOG)
    assert (event["specversion"], event["type"], event["sequence"]) == ("1.0", LOG[0].fact.type, "00000000000000000007")
    assert (event["id"], event["source"], event["traceparent"]) == (LOG[0].id, "/test/ü", "00-trace-1-01")


def test_what_a_later_version_says_in_a_fact_is_kept_by_an_earlier_one_that_does_not_know_it() -> None:
    body = json.dumps({**EXAMPLES[0].model_dump(mode="json", by_alias=True), "later": {"than": "this"}}).encode()
    file = packed([replace(LOG[0], body=body)])

    assert json.loads(gzip.decompress(file))["data"] == json.loads(body)
    assert json.loads(unpacked(file)[0].body) == json.loads(body)


def test_an_id_that_somebody_else_chose_is_kept() -> None:
    foreign = Recorded(EXAMPLES[0], 1, "their-own", None, "/theirs")

    assert unpacked(packed([foreign])) == [foreign]


def test_facts_that_compress_well_are_unpacked_step_by_step() -> None:
    fact = Declined(run="r-1", round=1, cluster="a", at=EXAMPLES[0].at, reason="test", message="no", detail="x" * 800_000)
    long = [Recorded(fact.model_copy(update={"round": n}), n + 1, "i", None, "/test") for n in range(5)]
    taken = Unpacker().take(packed(long))

    assert next(taken) == long[0]
    assert list(taken) == long[1:]
    assert len(packed(long)) < STEP_BYTES / 10


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"no gzip", "this is no archive of facts"),
        (packed(LOG)[:-9], "ends in the middle"),
        (gzip.compress(b'{"no": "event"}\n'), "a line that is none: this is no CloudEvent"),
        (gzip.compress(b"[1]\n"), "a line that is none"),
        (gzip.compress(packed([])), "ends in the middle"),
        (gzip.compress(b"x" * 8_000_000), "no line of more than"),
    ],
    ids=["no gzip", "cut off", "no event", "no object", "no end of line", "no lines"],
)
def test_what_is_no_archive_is_corrupt(file: bytes, said: str) -> None:
    with pytest.raises(Corrupt, match=said):
        unpacked(file)
