"""What two patterns have in common is what both match."""

from hypothesis import given
from hypothesis import strategies as st

from fedplane.schemas.patterns import matches, overlap

TOKENS = st.sampled_from(["a", "b", "*"])
PATTERNS = st.tuples(st.lists(TOKENS, min_size=1, max_size=3), st.booleans()).map(lambda it: ".".join([*it[0], ">"] if it[1] else it[0]))
SUBJECTS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5).map(".".join)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_a_subject_matches_the_overlap_of_two_patterns_if_it_matches_both(one: str, other: str, subject: str) -> None:
    both = overlap(one, other)

    assert (both is not None and matches(both, subject)) == (matches(one, subject) and matches(other, subject))


def test_what_a_tenant_may_hear_of_a_run_is_what_its_pattern_says_of_that_run() -> None:
    run = "fed.v1.run.r-1.>"

    patterns = "fed.v1.>", "fed.v1.run.*.completed", "fed.v1.run.r-1.*", "fed.v1.fleet.>", "fed.v1.run.r-2.>"

    assert [overlap(each, run) for each in patterns] == [
        run, "fed.v1.run.r-1.completed", "fed.v1.run.r-1.*", None, None,
    ]  # fmt: skip
