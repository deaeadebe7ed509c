"""Why clusters take part or not: line by line for few, summed up for many, and whole for programs."""

from view_story import crowd, shown

from fedplane.cli.explanation import document, explanation
from fedplane.cli.runs import Judged
from fedplane.scheduler import filters
from fedplane.schemas.models import FILTERS, Chosen, Refused, Term

TERMS = (Term(criterion="data", score=0.5, weight=2), Term(criterion="cpu", score=1, weight=-1))
ORDER = f"filters, in the order in which they are asked: {', '.join(FILTERS)}"


JUDGED: tuple[Judged, ...] = (
    Chosen(cluster="a", score=0, terms=TERMS),
    Refused(cluster="b", reason="outscored", message="is number 2 by score", score=-1, terms=TERMS[1:]),
    Refused(cluster="c", reason="data", message="does not advertise the claim x"),
)


def test_an_explanation_has_every_filter_every_term_and_every_refusal() -> None:
    assert shown(explanation(JUDGED), width=200) == (
        "CLUSTER  VERDICT             FILTERS          CRITERION  SCORE  WEIGHT  POINTS\n"
        "a        chosen              passed 11 of 11  data       0.500  2       1.000\n"
        "                                              cpu        1.000  -1      -1.000\n"
        "                                              total                     0.000\n"
        "b        refused: outscored  passed 11 of 11  cpu        1.000  -1      -1.000\n"
        "                                              total                     -1.000\n"
        "c        refused: data       passed 2 of 11\n"
        "b is number 2 by score\n"
        "c does not advertise the claim x\n"
        f"{ORDER}"
    )
    assert shown(explanation(())) == "The scheduler has not looked at any cluster for this run yet."


def test_a_wide_explanation_has_a_line_for_each_cluster_and_a_column_for_each_filter_and_criterion() -> None:
    head, *lines = shown(explanation(JUDGED, wide=True), width=400).splitlines()

    assert head.split() == ["CLUSTER", "VERDICT", *(f"{name.upper()}?" for name in FILTERS), "DATA", "CPU", "TOTAL", "WHY"]
    assert [" ".join(line.split()) for line in lines] == [
        f"a chosen {' '.join(['yes'] * 11)} 0.500 x 2 1.000 x -1 0.000",
        f"b refused: outscored {' '.join(['yes'] * 11)} 1.000 x -1 -1.000 is number 2 by score",
        f"c refused: data yes yes no {' '.join(['-'] * 8)} does not advertise the claim x",
    ]


def test_a_thousand_clusters_are_summed_up_unless_all_are_wanted() -> None:
    view = crowd(1000, rounds=1)
    everyone = (*view.participants, *view.refused)

    assert shown(explanation(everyone), width=200).splitlines() == [
        "VERDICT        CLUSTERS  SCORES          FOR EXAMPLE",
        "chosen         1,000     2.000 to 2.000  c0000, c0001, c0002",
        "refused: data  1,000                     dc0000 has none",
        "2,000 clusters, summed up by what became of them; --all shows each, -o wide in a line, -o json for programs",
    ]
    assert len(shown(explanation(everyone, wide=True, every=True), width=400).splitlines()) == 2001


def test_a_program_reads_what_each_filter_said_and_what_each_term_gave() -> None:
    of_a, of_b, of_c = document("r", JUDGED)["clusters"]

    assert of_a["terms"] == [
        {"criterion": "data", "score": 0.5, "weight": 2.0, "points": 1.0},
        {"criterion": "cpu", "score": 1.0, "weight": -1.0, "points": -1.0},
    ]
    assert (of_a["chosen"], set(of_a["filters"].values()), of_b["chosen"], set(of_b["filters"].values())) == (
        True, {"passed"}, False, {"passed"},
    )  # fmt: skip
    assert {said: [name for name, word in of_c["filters"].items() if word == said] for said in ("passed", "refused")} == {
        "passed": ["availability", "framework"], "refused": ["data"],
    }  # fmt: skip


def test_of_a_filter_that_only_another_version_has_it_is_known_that_it_refused() -> None:
    strange = (Refused(cluster="z", reason="mood", message="has none"),)

    assert document("r", strange)["clusters"][0]["filters"] == {"mood": "refused"}
    assert "refused: mood" in shown(explanation(strange))


def test_the_filters_are_named_in_the_order_in_which_the_scheduler_asks_them() -> None:
    assert tuple(name for name, _ in filters.FILTERS) == FILTERS
