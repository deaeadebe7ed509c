"""Folding updates that were trained from an earlier model: what counts of them, and what is said when that model is not there any more."""

from typing import Any

import numpy as np
import pytest
from carried_story import folded, late_round, measured

from fedplane.aggregator.folding import Unusable
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Member
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.subjects import bulk_of_round


def tensors(*values: float, kind: Any = np.float32) -> dict[str, np.ndarray]:
    return {"w": np.array(values, kind)}


BASE, MODEL = tensors(1, 1, 1), tensors(5, 6, 7)


async def one_late(bulk: MemoryBulk, update: dict[str, np.ndarray], strategy: str = "fedavg", **parameters: float):
    """Member a answers the present question and does not move the model; b was late by three training rounds."""
    spec = {"name": strategy, "parameters": parameters}
    return await late_round(bulk, spec, BASE, MODEL, [("a", MODEL, 1.0, False), ("b", update, 2.0, True)], behind=3)


async def test_of_a_late_update_the_change_counts_and_its_weight_is_discounted() -> None:
    bulk = MemoryBulk()
    result = await folded(bulk, await one_late(bulk, tensors(3, 1, -1)))  # which changed it by 2, 0 and -2, and weighs 2 / sqrt(4)

    assert result["w"].tolist() == [6, 6, 6]


async def test_fedbuff_divides_by_the_number_of_updates_and_not_by_what_they_count() -> None:
    bulk = MemoryBulk()
    result = await folded(bulk, await one_late(bulk, tensors(3, 1, -1), "fedbuff", serverLearningRate=2))

    assert result["w"].tolist() == [5 + 2 * 0.5 * 2 / 2, 6, 7 - 2 * 0.5 * 2 / 2]


@pytest.mark.parametrize(("exponent", "counts"), [(0.5, 0.5), (0.0, 1.0), (1.0, 0.25)])
def test_fedbuff_counts_a_change_less_the_staler_it_is_and_not_by_examples(exponent, counts) -> None:
    members = (Member("a", 10, {}), Member("b", 1, {}, staleness=3))
    weighed = STRATEGIES["fedbuff"]({"stalenessExponent": exponent}).weigh(Cohort(members, 4))

    assert weighed == Coefficients((1.0, counts), 2.0, 1 - (1.0 + counts) / 2)


def test_fedbuff_of_fresh_updates_is_their_plain_mean_and_needs_no_model() -> None:
    members = tuple(Member(cluster, weight, {}) for cluster, weight in (("a", 10.0), ("b", 1.0), ("c", 5.0)))

    assert STRATEGIES["fedbuff"]({}).weigh(Cohort(members, 3)) == Coefficients((1.0, 1.0, 1.0), 3.0)


@pytest.mark.parametrize(
    ("kind", "base", "model", "update", "expected"),
    [
        (np.uint8, [100, 100, 100], [250, 2, 7], [110, 90, 101], [255, 0, 8]),
        (np.int8, [0, 0, 0], [120, -120, 7], [20, -20, 1], [127, -128, 8]),
        (np.int64, [0, 0, 0], [2**63 - 1024, -(2**63), 7], [2**62, -(2**62), 1], [2**63 - 1024, -(2**63), 8]),
        (np.bool_, [True, True, False], [True, False, False], [True, False, True], [True, False, True]),
    ],
)
async def test_counters_and_flags_stay_within_what_they_can_be(kind, base, model, update, expected) -> None:
    bulk = MemoryBulk()
    run = await late_round(
        bulk, {}, *(tensors(*values, kind=kind) for values in (base, model)), [("a", tensors(*update, kind=kind), 1.0, True)]
    )

    assert (await folded(bulk, run))["w"].tolist() == expected


async def test_measures_are_of_what_training_changed() -> None:
    bulk = MemoryBulk()

    assert (await measured(bulk, await one_late(bulk, tensors(3, 1, -1)))).tolist() == [0, 0, 8]


async def test_a_late_update_that_is_not_finite_is_its_clusters_fault() -> None:
    bulk = MemoryBulk()
    run = await one_late(bulk, tensors(3, np.nan, 1))

    with pytest.raises(Unusable) as refused:
        await folded(bulk, run)
    assert refused.value.cluster == "b"


async def test_a_late_update_cannot_be_used_without_the_model_it_was_trained_from_and_others_can() -> None:
    bulk = MemoryBulk()
    run = await one_late(bulk, tensors(3, 1, -1))
    await bulk.purge(bulk_of_round(run.submitted.run, 9, "model"))

    for reading in (folded, measured):
        with pytest.raises(Unusable, match="the model from which it was trained cannot be read any more") as refused:
            await reading(bulk, run)
        assert refused.value.cluster == "b"


async def test_a_model_whose_bytes_were_changed_is_found() -> None:
    bulk = MemoryBulk()
    run = await one_late(bulk, tensors(3, 1, -1))
    begun = run.outstanding["b"].model.shards[0]
    bulk.chunks[f"{begun.subject}.0"] = bytes(12)

    with pytest.raises(Unusable, match=r"the model from which it was trained, .*, are not those stored") as refused:
        await folded(bulk, run)
    assert refused.value.cluster == "b"


async def test_a_model_that_is_cut_otherwise_says_what_was_changed() -> None:
    bulk = MemoryBulk()
    run = await one_late(bulk, tensors(3, 1, -1))
    begun = run.outstanding["b"]
    recut = begun.model.model_copy(update={"shards": tuple(piece.model_copy(update={"chunk_bytes": 8}) for piece in begun.model.shards)})
    run.outstanding["b"] = type(begun)(begun.round, begun.training_round, recut)

    with pytest.raises(Unusable, match="from which it was trained, is cut otherwise; was FEDPLANE_SHARD_BYTES") as refused:
        await folded(bulk, run)
    assert refused.value.cluster == "b"
