"""What a cluster may store in a run, and from when on it is too much."""

from datetime import UTC, datetime

import pytest

from fedplane.authorizer.quotas import (
    FACT_BYTES,
    FACT_BYTES_EACH,
    MASKED_FACT_BYTES_EACH,
    ROUNDS_KEPT,
    SLACK_BYTES,
    UPDATES_MAX,
    Quotas,
    Stored,
    excess,
)
from fedplane.schemas import envelope
from fedplane.schemas.facts import Keyed, Opened, Revealed, Shared
from fedplane.schemas.models import Contents, Model, Task
from fedplane.schemas.privacy import MASKED_MAX
from fedplane.schemas.privacy_terms import CERTIFICATE_CHARACTERS_MAX, MaskingTerms

RUN, CLUSTER = "cats-01234567", "amsterdam"
FIRST = 1_000_000_000
MODEL = 100_000_000


def opened(round_: int, model_bytes: int | None = MODEL) -> Opened:
    model = None if model_bytes is None else Model.model_construct(run=RUN, round=round_, bytes=model_bytes)
    return Opened.model_construct(
        run=RUN, round=round_, at=datetime(2026, 1, 2, tzinfo=UTC), task=Task.TRAIN, training_round=round_, clusters=(CLUSTER,), minimum=1,
        model=model,
    )  # fmt: skip


def masked(round_: int, bits: int, contents: tuple[Contents, ...] = ()) -> Opened:
    plain = opened(round_)
    terms = MaskingTerms.model_construct(clip=8.0, bits=bits, weights="public", step_seconds=60.0)
    return plain.model_copy(update={"masking": terms, "model": Model.model_construct(bytes=MODEL, contents=contents)})


def chunk(round_: int, size: int, cluster: str = CLUSTER) -> Stored:
    return Stored(RUN, cluster, round_, size)


def test_an_update_that_is_sent_twice_is_none_too_many_and_a_fifth_one_is():
    quotas = Quotas(FIRST).opens(opened(3))
    twice = quotas.stores(chunk(3, 2 * MODEL))
    too_often = twice.stores(chunk(3, (UPDATES_MAX - 2) * MODEL)).stores(chunk(3, SLACK_BYTES + 1))

    assert excess(quotas, CLUSTER) == ""
    assert excess(twice, CLUSTER) == ""
    assert excess(too_often, CLUSTER) == "it stored 464,000,001 bytes of updates for round 3, where 464,000,000 are many"


def test_each_round_has_room_of_its_own():
    quotas = Quotas(FIRST)
    for number in range(100):
        quotas = quotas.opens(opened(number)).stores(chunk(number, MODEL))

    assert excess(quotas, CLUSTER) == ""
    assert len(quotas.answers[CLUSTER].by_round) == ROUNDS_KEPT


def test_what_comes_for_rounds_long_past_is_counted_together():
    quotas = Quotas(FIRST)
    for number in range(ROUNDS_KEPT + 5):
        quotas = quotas.opens(opened(number)).stores(chunk(number, 1))
    late = quotas
    for number in range(4):
        late = late.stores(chunk(number, MODEL))
    too_late = late.stores(chunk(0, SLACK_BYTES + 1))

    assert [excess(quotas, CLUSTER), excess(late, CLUSTER)] == ["", ""]
    assert excess(too_late, CLUSTER) == "it stored 464,000,001 bytes of updates for rounds long past, where 464,000,000 are many"


def test_a_first_model_may_have_what_the_store_has_room_for():
    quotas = Quotas(FIRST).opens(opened(0, None)).stores(chunk(0, FIRST))

    assert excess(quotas, CLUSTER) == ""
    assert excess(quotas.stores(chunk(0, 1)), CLUSTER).startswith("it stored 1,000,000,001 bytes of updates for round 0")


def test_what_is_for_rounds_that_nobody_opened_is_counted_together():
    quotas = Quotas(FIRST).opens(opened(1))
    for number in range(1_000, 1_064):
        quotas = quotas.stores(chunk(number, 1_000_000))
    too_much = quotas.stores(chunk(5_000, 1))

    assert excess(quotas, CLUSTER) == ""
    assert "64,000,001 bytes of updates for rounds that nobody asked it about" in excess(too_much, CLUSTER)


def test_what_another_cluster_stores_is_not_its_own():
    quotas = Quotas(FIRST).opens(opened(1)).stores(chunk(7, 2 * SLACK_BYTES, "berlin"))

    assert excess(quotas, CLUSTER) == ""
    assert excess(quotas, "berlin") != ""


def test_facts_may_have_what_a_large_update_needs_and_more_with_each_round():
    filled = Stored(RUN, CLUSTER, 1, FACT_BYTES + 2 * FACT_BYTES_EACH, is_fact=True)
    quotas = Quotas(FIRST).opens(opened(0)).opens(opened(1)).stores(filled)
    over = quotas.stores(Stored(RUN, CLUSTER, 1, 1, is_fact=True))

    assert excess(quotas, CLUSTER) == ""
    assert excess(over, CLUSTER) == "its facts have 1,128,001 bytes, and in 2 rounds 1,128,000 are many"
    assert excess(over.opens(opened(2)), CLUSTER) == ""


def test_what_came_before_its_round_was_heard_of_is_counted_for_that_round():
    early = Quotas(FIRST).stores(chunk(1, MODEL)).stores(chunk(2, MODEL))
    heard = early.opens(opened(1)).opens(opened(2))

    assert excess(early, CLUSTER) != ""
    assert [early.unheard_of(CLUSTER), heard.unheard_of(CLUSTER)] == [(1, 2), ()]
    assert excess(heard, CLUSTER) == ""
    assert excess(heard.stores(chunk(1, UPDATES_MAX * MODEL)), CLUSTER).startswith("it stored 500,000,000 bytes of updates for round 1")


def test_of_many_rounds_that_are_not_known_a_few_are_remembered():
    quotas = Quotas(FIRST)
    for number in range(10_000):
        quotas = quotas.stores(chunk(number, 1))

    assert quotas.unheard_of(CLUSTER) == tuple(range(ROUNDS_KEPT))
    assert sum(quotas.answers[CLUSTER].elsewhere.values()) == 10_000


def test_a_subject_that_no_pattern_finds_is_too_much_whatever_it_holds():
    quotas = Quotas(FIRST).opens(opened(1)).stores(Stored(RUN, CLUSTER, -1, 1, is_hidden=True))

    assert excess(quotas, CLUSTER) == "it stored 1 bytes under subjects with a wildcard for a word, which nobody does but to hide something"


@pytest.mark.parametrize(("bits", "contents", "update"), [
    (32, (Contents(elements=MODEL // 2, largest=1),), 2 * MODEL),  # of floats that have two bytes
    (64, (Contents(elements=MODEL // 8, largest=1), Contents(elements=0, largest=0)), MODEL),  # and eight
    (64, (), 8 * MODEL),
])  # fmt: skip
def test_a_masked_update_may_have_an_integer_for_each_number_of_the_model(bits: int, contents: tuple[Contents, ...], update: int):
    quotas = Quotas(FIRST).opens(masked(1, bits, contents)).stores(chunk(1, UPDATES_MAX * update + SLACK_BYTES))

    assert excess(quotas, CLUSTER) == ""
    assert excess(quotas.stores(chunk(1, 1)), CLUSTER) != ""


def test_a_cluster_that_masks_with_119_others_round_after_round_says_no_more_than_it_may():
    """The facts are as large as their schemas let them be, every name included; beside them it contributes to each round."""
    key, sealed, at, rounds = "k" * 43 + "=", "s" * 400, datetime(2026, 1, 2, tzinfo=UTC), 200
    names = [f"{'c' * 60}{number:03}" for number in range(MASKED_MAX)]
    known = {"at": at, "run": RUN, "round": 1, "cluster": names[0]}
    stated = (
        Keyed(**known, weight=1, metrics={}, mask_key=key, seal_key=key, certificate="p" * CERTIFICATE_CHARACTERS_MAX, signature="s" * 800),
        Shared(**known, sealed=dict.fromkeys(names, sealed), commitments=dict.fromkeys(names, (key, key))),
        Revealed(**known, seeds=dict.fromkeys(names, sealed), keys={}),
    )  # fmt: skip
    written = [envelope.write(fact, "/collaborator") for fact in stated]
    size = sum(len(wire.body) + sum(map(len, (*wire.headers, *wire.headers.values()))) for wire in written)
    quotas = Quotas(FIRST)
    for number in range(rounds):
        quotas = quotas.opens(masked(number, 32)).stores(Stored(RUN, CLUSTER, number, size + FACT_BYTES_EACH, is_fact=True))

    assert excess(quotas, CLUSTER) == ""
    assert MASKED_FACT_BYTES_EACH - 20_000 < size < MASKED_FACT_BYTES_EACH
    assert excess(quotas.stores(Stored(RUN, CLUSTER, 1, rounds * 20_000 + FACT_BYTES, is_fact=True)), CLUSTER) != ""
