"""Kubernetes quantities, by the examples of its documentation and the corners of its grammar."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fedplane.schemas.quantities import Quantity, parse

MEANINGS = {
    "0": "0", "2": "2", "0.5": "0.5", ".5": "0.5", "1.": "1", "-1": "-1", "+1": "1", " 1 ": "1",
    "1n": "1e-9", "1u": "1e-6", "500m": "0.5", "1k": "1000", "2M": "2e6", "2G": "2e9", "2T": "2e12", "2P": "2e15", "2E": "2e18",
    "1Ki": "1024", "1.5Ki": "1536", "1Mi": "1048576", "8Gi": "8589934592", "1Ti": "1099511627776",
    "1Pi": "1125899906842624", "1Ei": "1152921504606846976",
    "1e3": "1000", "1E3": "1000", "12e-1": "1.2", "1e+2": "100",
}  # fmt: skip

NO_QUANTITIES = [
    "",
    " ",
    "Gi",
    "1KI",
    "1ki",
    "1 Gi",
    "1Gib",
    "1mm",
    "1e",
    "1e3m",
    "--1",
    "0x1",
    "1,5",
    "1_000",
    "inf",
    "nan",
    "٣",
    "1e1000",
]


@pytest.mark.parametrize(("text", "value"), MEANINGS.items())
def test_a_quantity_means_what_kubernetes_says(text: str, value: str) -> None:
    assert parse(text) == Decimal(value)


@pytest.mark.parametrize("text", NO_QUANTITIES)
def test_anything_else_is_refused_with_examples_of_what_is_right(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 500m, 2, 8Gi or 1e3"):
        parse(text)


def test_no_digit_is_ever_lost() -> None:
    assert parse("123456789012345678901234567890.5Ki") == Decimal("126419751948641975194864197519872")
    assert parse("9007199254740993") - parse("9007199254740992") == 1
    assert parse("123456789012345678901234567890.123456789m") == Decimal("123456789012345678901234567.890123456789")


@given(st.text())
def test_every_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        value = parse(text)
    except ValueError:
        return

    assert value.is_finite()


@pytest.mark.parametrize(("given_", "kept"), [("500m", "500m"), (2, "2"), (0.5, "0.5")])
def test_a_plain_number_needs_no_quotes(given_: object, kept: str) -> None:
    assert TypeAdapter(Quantity).validate_python(given_) == kept


@pytest.mark.parametrize("given_", [True, None, float("inf"), [1]])
def test_what_is_no_number_is_no_quantity(given_: object) -> None:
    with pytest.raises(ValueError):
        TypeAdapter(Quantity).validate_python(given_)
