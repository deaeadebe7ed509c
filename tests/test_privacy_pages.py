"""What the pages about privacy promise is what is computed: thresholds, noise, which fields there are, and why a cluster declines."""

import math
import re
from collections.abc import Sequence

import pytest
from page_story import text
from pydantic.alias_generators import to_camel
from sources import tree

from fedplane.aggregator.strategies import STRATEGIES
from fedplane.collaborator.training import NOT_MASKED
from fedplane.collaborator.work import SECRETS_LOST
from fedplane.privacy import accounting, graph
from fedplane.privacy.participant import colluding_max
from fedplane.schemas.privacy import CentralPrivacy, DistributedPrivacy, LocalPrivacy, SecureAggregation

PROTECT, EXPLAINED, CHOOSE = "docs/how-to/protect-updates.md", "docs/explanation/privacy.md", "docs/how-to/choose-a-strategy.md"
TOLD = {
    "secureAggregation": SecureAggregation,
    "central": CentralPrivacy,
    "distributed": DistributedPrivacy,
    "local": LocalPrivacy,
}

CLUSTERS_DIGITS = 2
"""How exactly the page says how many clusters it takes: so many are needed, rounded up."""


def rows(page: str, columns: int) -> list[list[str]]:
    """The lines of numbers of the page's tables with so many columns; an empty cell is a dash."""
    cells = [
        [cell.strip().replace(",", "") or "-" for cell in line.strip("|").split("|")] for line in text(page).splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if len(row) == columns and row[0].isdigit()]


def test_every_field_of_the_resource_has_a_line() -> None:
    named = [
        name
        for cell in re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", text(PROTECT), re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", cell)
    ]
    fields = [f"{of}.{to_camel(name)}" for of, part in TOLD.items() for name in part.model_fields]

    assert sorted(name for name in named if name.partition(".")[0] in TOLD) == sorted(fields)


@pytest.mark.parametrize("row", rows(EXPLAINED, 6), ids=lambda row: f"{row[0]} clusters")
def test_so_many_clusters_may_drop_out_or_work_with_the_hub(row: Sequence[str]) -> None:
    clusters = int(row[0])
    degree, threshold = graph.chosen(clusters, None, None)
    lying = colluding_max(degree + 1, threshold) if degree == clusters - 1 else -1

    dropouts = graph.dropouts_recovered(clusters, degree, threshold)

    found = (degree, threshold, dropouts, graph.colluders_withstood(clusters, degree, threshold), lying)

    assert [str(number) if number >= 0 else "-" for number in found] == list(row[1:])


def test_so_much_noise_and_so_many_clusters_does_a_budget_take() -> None:
    table = rows(EXPLAINED, 5)

    computed = [(accounting.multiplier(float(epsilon), 1e-5, int(rounds), "pld"), float(said)) for rounds, epsilon, said, *_ in table]

    assert [said for _, said in computed] == [float(f"{multiplier:.3g}") for multiplier, _ in computed]
    for (multiplier, _), (*_, small, large) in zip(computed, table, strict=True):
        assert [int(small), int(large)] == [rounded_up(multiplier * math.sqrt(numbers)) for numbers in (1_000, 100_000)]
    assert len(table) == 6


def rounded_up(number: float) -> int:
    step = 10 ** (len(str(int(number))) - CLUSTERS_DIGITS)
    return math.ceil(number / step) * step


def test_every_reason_with_which_a_cluster_withdraws_has_a_line_and_no_other() -> None:
    raised = {SECRETS_LOST.reason, NOT_MASKED.reason} | {
        reason
        for source in tree()
        if source.path.startswith(("privacy/", "collaborator/"))
        for reason in re.findall(r'Withdrawn\(\s*"([a-z-]+)"', source.text)
    }
    told = {
        reason
        for cell in re.findall(r"^\| ([^|]+) \| a cluster declined \|", text(PROTECT), re.MULTILINE)
        for reason in re.findall(r"`([a-z-]+)`", cell)
    }

    assert told == raised


def test_the_strategies_that_go_with_masks_are_those_that_are_sums() -> None:
    (sentence,) = re.findall(r"^.* need no more\.", text(CHOOSE), re.MULTILINE)

    assert sorted(re.findall(r"`(\w+)`", sentence)) == sorted(name for name, make in STRATEGIES.items() if make({}).sums)
