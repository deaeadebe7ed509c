"""How much of another's text is repeated, and in which characters."""

import pytest

from fedplane.scheduler.excerpts import excerpt


@pytest.mark.parametrize(
    ("text", "shown"), [("", ""), ("abcd", "abcd"), ("abcde", "abc…"), ("a\ud800b", "a?b"), ("ä€😀x", "ä€😀x")]
)  # fmt: skip
def test_an_excerpt_has_room_for_an_ellipsis_and_no_half_characters(text: str, shown: str) -> None:
    assert excerpt(text, 4) == shown
