"""What a watcher says after a list, given what it has said before."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fedplane.runtime.mirror import Mirror
from fedplane.runtime.objects import Change, ChangeType, key_of


def thing(name: str, uid: int = 1, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": str(uid), "resourceVersion": str(version)}}


things = st.builds(thing, st.sampled_from("abcd"), st.integers(1, 2), st.integers(1, 3))
lists = st.lists(things, max_size=4, unique_by=key_of)
news = st.tuples(st.sampled_from(["listed", "stored", "removed"]), things, lists)


def test_a_second_list_tells_what_differs_deletions_first() -> None:
    mirror = Mirror()
    first = [thing("goes"), thing("stays"), thing("changes"), thing("is-another")]
    assert [change.type.value for change in mirror.listed(first)] == ["ADDED"] * 4

    again = list(mirror.listed([thing("stays"), thing("changes", version=2), thing("comes"), thing("is-another", uid=2)]))

    assert again == [
        Change(ChangeType.DELETED, thing("goes")),
        Change(ChangeType.MODIFIED, thing("changes", version=2)),
        Change(ChangeType.ADDED, thing("comes")),
        Change(ChangeType.DELETED, thing("is-another")),
        Change(ChangeType.ADDED, thing("is-another", uid=2)),
    ]


def test_the_same_news_twice_is_told_once_and_an_unknown_end_not_at_all() -> None:
    mirror = Mirror()

    assert list(mirror.stored(thing("a"))) == [Change(ChangeType.ADDED, thing("a"))]
    assert list(mirror.stored(thing("a"))) == []
    assert list(mirror.removed(thing("b"))) == []


@given(st.lists(news, max_size=12))
def test_whoever_carries_out_the_changes_has_what_the_watcher_has(stream: list[tuple[str, dict[str, Any], list[dict[str, Any]]]]) -> None:
    mirror, copy = Mirror(), {}

    for how, one, all_ in stream:
        for change in getattr(mirror, how)(all_ if how == "listed" else one):
            key = key_of(change.object)
            assert (key in copy) == (change.type is not ChangeType.ADDED), "ADDED is news, everything else is about what is known"
            if change.type is ChangeType.DELETED:
                del copy[key]
            else:
                copy[key] = change.object

    assert copy == mirror.objects
