"""Who masks with whom: a graph that nobody chose, that cannot be cut, and whose numbers keep what they promise."""

from collections.abc import Iterator
from itertools import combinations, product
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.privacy.graph import COMPLETE_MEMBERS_MAX, MEMBERS_MIN, check, chosen, colluders_withstood, dropouts_recovered, neighbourhoods
from fedplane.runtime.errors import BadInput

Graph = dict[str, tuple[str, ...]]


def names(members: int) -> list[str]:
    return [f"m{member}" for member in range(members)]


def is_connected(graph: Graph, among: set[str]) -> bool:
    reached, todo = set[str](), sorted(among)[:1]
    while todo:
        member = todo.pop()
        reached.add(member)
        todo += among.intersection(graph[member]) - reached
    return reached == among


@settings(max_examples=100)
@given(st.integers(3, 40), st.integers(2, 45), st.binary(max_size=8))
def test_the_graph_is_symmetric_regular_and_connected(members: int, degree: int, seed: bytes) -> None:
    graph = neighbourhoods(names(members), degree, seed)

    assert list(graph) == sorted(names(members))
    assert {len(set(around)) for around in graph.values()} == {min(degree + degree % 2, members - 1)}
    assert all(member in graph[other] and other != member for member, around in graph.items() for other in around)
    assert all(list(around) == sorted(around) for around in graph.values())
    assert is_connected(graph, set(graph))


def test_the_graph_depends_on_the_seed_and_on_nothing_else() -> None:
    graph = neighbourhoods(names(20), 4, b"one")

    assert neighbourhoods(names(20)[::-1], 4, b"one") == graph
    assert neighbourhoods(names(20), 4, b"two") != graph


def test_only_removing_as_many_members_as_each_has_neighbours_cuts_the_graph() -> None:
    graph = neighbourhoods(names(9), 4, b"")

    def cuts(size: int) -> bool:
        return not all(is_connected(graph, set(graph).difference(gone)) for gone in combinations(graph, size))

    assert [cuts(size) for size in (1, 2, 3, 4)] == [False, False, False, True]


def test_with_as_many_colluding_neighbours_as_are_withstood_nobody_who_is_left_can_be_cut_off() -> None:
    members, degree, threshold = 10, 4, 4

    assert colluders_withstood(members, degree, threshold) == 0
    assert next(cut_apart(members, degree, threshold, colluding=0), None) is None
    assert next(cut_apart(members, degree, threshold, colluding=1), None) is not None


def test_with_a_lower_threshold_a_hub_that_lies_about_who_is_gone_needs_nobody_to_cut_some_off() -> None:
    assert colluders_withstood(10, 4, 3) == -1
    assert next(cut_apart(10, 4, 3, colluding=0), None) is not None


def cut_apart(members: int, degree: int, threshold: int, colluding: int) -> Iterator[tuple[str, ...]]:
    """The ways to be honest, gone or colluding (at most so many around anybody) in which a part of the honest is unmasked by itself."""
    graph = neighbourhoods(names(members), degree, b"")
    for ways in product("hgc", repeat=members):
        by_way = {way: {member for member, its in zip(graph, ways, strict=True) if its == way} for way in "hgc"}
        honest = by_way["h"]
        answering = honest | by_way["c"]
        if (
            all(len(by_way["c"].intersection(graph[member])) <= colluding for member in honest | by_way["g"])
            and all(len(answering.intersection((member, *graph[member]))) >= threshold for member in honest)
            and not is_connected(graph, honest)
        ):
            yield ways


@pytest.mark.parametrize(
    ("members", "asked", "numbers"),
    [
        (3, (None, None), (2, 2)),
        (4, (None, None), (3, 3)),
        (10, (None, None), (9, 7)),
        (COMPLETE_MEMBERS_MAX, (None, None), (63, 43)),
        (100, (None, None), (34, 24)),
        (1000, (None, None), (226, 152)),
        (10, (1, None), (2, 2)),
        (10, (5, None), (6, 5)),
        (10, (50, None), (9, 7)),
        (10, (4, 3), (4, 3)),
    ],
)
def test_what_is_not_asked_for_is_chosen(members: int, asked: tuple[int | None, int | None], numbers: tuple[int, int]) -> None:
    assert chosen(members, *asked) == numbers


@pytest.mark.parametrize("members", [70, 200, 1000])
def test_the_default_degree_is_the_smallest_that_keeps_its_promises_by_exact_arithmetic(members: int) -> None:
    """As integers: the floats of the module are neither trusted nor repeated."""

    def holds(degree: int) -> bool:
        _, threshold = chosen(members, degree, None)
        return members * tail(members // 20, degree, colluders_withstood(members, degree, threshold)) * 2**40 <= comb(
            members - 1, degree
        ) and members * tail(members // 10, degree, dropouts_recovered(members, degree, threshold)) * 2**30 <= comb(members - 1, degree)

    def tail(marked: int, degree: int, at_most: int) -> int:
        """How many neighbourhoods have more marked members than that."""
        return sum(comb(marked, some) * comb(members - 1 - marked, degree - some) for some in range(at_most + 1, min(marked, degree) + 1))

    degree, _ = chosen(members, None, None)

    assert [some for some in range(2, degree + 1, 2) if holds(some)] == [degree]


@given(st.integers(3, 300), st.none() | st.integers(2, 300))
def test_what_is_chosen_holds(members: int, degree: int | None) -> None:
    degree, threshold = chosen(members, degree, None)

    check(members, degree, threshold)
    assert dropouts_recovered(members, degree, threshold) >= min(1, members - MEMBERS_MIN)
    assert all(len(around) == degree for around in neighbourhoods(names(members), degree, b"").values())


@pytest.mark.parametrize(
    ("members", "asked", "said"),
    [
        (2, (None, None), "2 members cannot hide their contributions from one another; let at least 3 take part"),
        (10, (0, None), "0 neighbours cannot be had among 10 members; ask for 2 to 9"),
        (10, (None, 5), "could join both secrets of a cluster; the threshold must be at least 6"),
        (10, (4, 2), "could join both secrets of a cluster; the threshold must be at least 3"),
        (10, (4, 5), "a threshold of 5 cannot be met by 4 neighbours, .* at most 4"),
    ],
)
def test_numbers_that_protect_nobody_or_recover_nobody_are_refused(members: int, asked: tuple[int | None, int | None], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        chosen(members, *asked)


def test_a_member_cannot_be_named_twice() -> None:
    with pytest.raises(BadInput, match="named twice"):
        neighbourhoods(["a", "b", "a"], 2, b"")
