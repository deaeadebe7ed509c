"""What may be said about who uses the bus: nothing that becomes a permission by accident."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedplane.schemas.access_facts import PATTERN_CHARACTERS_MAX, PATTERNS_MAX, Granted, Revoked
from fedplane.schemas.facts import FACTS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEGAL = ("fed.v1.>", "fed.v1.run.*.completed", "fed.v1.run.mnist-5f3a9c1e.>", "fed.v1.*", "fed.v1.run.*.round.7.aggregated")


def granted(**given: object) -> Granted:
    return Granted.model_validate({"role": "subscriber", "name": "dashboard", "at": NOON} | given)


@pytest.mark.parametrize("pattern", LEGAL)
def test_subjects_of_announced_facts_can_be_granted(pattern: str) -> None:
    assert granted(patterns=(pattern,)).patterns == (pattern,)


@pytest.mark.parametrize(
    "pattern",
    [
        "", ">", "*", "fed.>", "fed.*.>", "fed.v1", "fed.v1.", "fed.v2.>", "log.fed.v1.>", "_INBOX.>", "$JS.API.>", "fed.v1.run..>",
        "fed.v1.>.x", "fed.v1.run.mni*", "fed.v1.run.a b", "fed.v1.run.>\n", "fed.v1.run.$x", "fed.v1.> queue",
        f"fed.v1.{'a' * PATTERN_CHARACTERS_MAX}",
    ],
)  # fmt: skip
def test_what_reaches_out_of_them_or_is_no_subject_cannot(pattern: str) -> None:
    with pytest.raises(ValidationError, match="is no pattern of subjects below fed"):
        granted(patterns=(pattern,))


@given(st.text(st.sampled_from("fedv1.*> $_-a\n\u00e4"), max_size=20))
def test_whatever_is_taken_is_below_fed_v1_token_by_token(text: str) -> None:
    try:
        (pattern,) = granted(patterns=(f"fed.v1{text}",)).patterns
    except ValidationError:
        return
    first, second, *rest = pattern.split(".")

    assert (first, second) == ("fed", "v1")
    assert rest and all(re.fullmatch(r"\*|>|[A-Za-z0-9_-]+", token) for token in rest) and ">" not in rest[:-1]


def test_a_grant_is_bounded_and_names_one_certificate() -> None:
    for wrong in (
        {"patterns": ("fed.v1.>",) * (PATTERNS_MAX + 1)},
        {"fingerprint": "5E" * 32},
        {"fingerprint": "5e"},
        {"namespace": "A.b"},
    ):
        with pytest.raises(ValidationError):
            granted(**wrong)
    for name in ("*", ">", "a.b", ""):
        with pytest.raises(ValidationError):
            granted(name=name)
        with pytest.raises(ValidationError):
            Revoked(at=NOON, role=name, name="a")


def test_only_what_is_said_of_access_is_not_announced() -> None:
    assert [fact for fact in FACTS if not fact.is_announced] == [Granted, Revoked]
