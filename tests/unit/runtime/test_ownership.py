"""Server-side apply and merge patch as functions of objects and owners."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fedplane.runtime.ownership import applied, conflicts, fields, merged, taken

names = st.sampled_from(["a", "b", "c"])
values: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 1), max_size=2), lambda below: st.dictionaries(names, below, max_size=3), max_leaves=6
)
bodies = st.dictionaries(names, values, max_size=3)


def test_a_field_is_a_path_to_what_is_no_object() -> None:
    assert dict(fields({"a": {"b": 1, "c": {}}, "d": [{"e": 2}]})) == {("a", "b"): 1, ("a", "c"): {}, ("d",): [{"e": 2}]}


def test_a_merge_patch_is_as_its_rfc_says() -> None:
    patch = {"title": "Hello!", "author": {"familyName": None}, "phoneNumber": "+01", "tags": ["example"], "nothing": {"at": None}}
    target = {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["example", "sample"], "content": "x"}

    assert merged(target, patch) == {
        "title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"], "content": "x", "phoneNumber": "+01", "nothing": {},
    }  # fmt: skip


def test_a_conflict_names_the_holder_and_the_field() -> None:
    owners = {"first": frozenset({("a", "b"), ("c",)}), "second": frozenset({("c",)})}

    assert conflicts({"a": {"b": 1}, "c": 2}, owners, "third", {"a": {"b": 9}, "c": 2}) == [("first", ("a", "b"))]
    assert conflicts({"a": {"b": 1}, "c": 2}, owners, "first", {"a": {"b": 9}, "c": 3}) == [("second", ("c",))]


def test_what_is_left_out_goes_with_the_objects_that_only_held_it() -> None:
    owners = {"me": frozenset({("a", "b", "c"), ("d",)})}

    assert applied({"a": {"b": {"c": 1}}, "d": 2, "e": 3}, owners, "me", {"d": 2}) == ({"d": 2, "e": 3}, {"me": frozenset({("d",)})})


def test_whoever_applies_a_different_value_takes_the_field_from_its_holder() -> None:
    owners = {"me": frozenset({("a",), ("b",)})}

    after = applied({"a": 1, "b": 2}, owners, "you", {"a": 9, "b": 2})

    assert after == ({"a": 9, "b": 2}, {"me": frozenset({("b",)}), "you": frozenset({("a",), ("b",)})})


def test_whoever_changes_a_field_holds_it_alone() -> None:
    owners = {"me": frozenset({("a",), ("b",), ("c",)})}

    after = taken({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "d": 4}, owners, "you")

    assert after == {"me": frozenset({("a",)}), "you": frozenset({("b",), ("d",)})}


@given(bodies, bodies)
def test_a_lone_manager_has_what_it_last_applied_and_nothing_else(first: dict[str, Any], second: dict[str, Any]) -> None:
    body, owners = applied({}, {}, "me", first)
    body, owners = applied(body, owners, "me", second)

    assert dict(fields(body)) == dict(fields(second))
    assert owners == {"me": frozenset(dict(fields(second)))}


@given(bodies, bodies)
def test_applying_again_changes_nothing(before: dict[str, Any], wanted: dict[str, Any]) -> None:
    once = applied(before, {}, "me", wanted)

    assert applied(*once, "me", wanted) == once
    assert conflicts(once[0], once[1], "me", wanted) == []
