"""Folding masked updates: what comes out is what a plain fold gives, and what is said when it is not."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aggregator_story import NOW, RUN
from fold_story import Tensors, fold_models
from hypothesis import given
from hypothesis import strategies as st
from masked_bytes_story import CHUNK_BYTES, masked_round, unmasked
from masked_story import MaskedStory, participant
from masking_story import chance

from fedplane.aggregator.folding import Unusable
from fedplane.aggregator.shards import contents, ranges
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.team import Team
from fedplane.aggregator.unmasking import Unmasking
from fedplane.privacy.elements import DTYPES
from fedplane.privacy.masking import fixed_of
from fedplane.privacy.pairing import Pairing
from fedplane.privacy.participant import Member, Participant, Secrets, randomness_bytes
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.facts import Contributed, Opened, Shared
from fedplane.schemas.layout import Layout, Tensor
from fedplane.schemas.models import Contents
from fedplane.schemas.subjects import update_piece

CLUSTERS = "abcdef"


def trained(seed: int, size: float = 1.0) -> Tensors:
    """Tensors of several kinds, in more than one shard."""
    random = np.random.default_rng(seed)
    return {
        "weight": (random.standard_normal((5, 7)) * size).astype(np.float32),
        "half": (random.standard_normal(9) * size).astype(np.float16),
        "count": np.array([4, 4 * seed], np.int64),
        "flag": np.array([seed % 2 == 0, True]),
    }


MODEL = trained(0)
UPDATES = {cluster: (trained(number), float(number)) for number, cluster in enumerate(CLUSTERS, 1)}


def mean_of(clusters: str) -> dict[str, np.ndarray]:
    weights = [UPDATES[cluster][1] for cluster in clusters]
    return fold_models(STRATEGIES["fedavg"]({}), [UPDATES[cluster][0] for cluster in clusters], MODEL, weights=weights)


def bound(story: MaskedStory, counting: str, *, hidden: bool) -> float:
    paired, terms = story.current.exchange.paired, story.current.opened.masking
    assert paired is not None and terms is not None
    return fixed_of(terms, paired).error(sum(UPDATES[each][1] for each in counting) / paired.weight_scale, hidden=hidden)


@pytest.mark.parametrize(
    ("gone", "secure"), [("", {}), ("be", {}), ("a", {"weights": "hidden"}), ("f", {"bits": 64, "neighbours": 4}), ("", {"clip": 24.5})]
)
async def test_the_fold_of_masked_updates_is_the_plain_fold_within_the_bound_that_is_stated(gone, secure) -> None:
    bulk, counting = MemoryBulk(), "".join(cluster for cluster in CLUSTERS if cluster not in gone)
    story = await masked_round(bulk, MODEL, UPDATES, gone=gone, secure=secure, spec={"rounds": {"weightMax": 7, "evaluate": False}})
    tensors, facts = await unmasked(bulk, story)
    again, _ = await unmasked(bulk, story)

    for name, wanted in mean_of(counting).items():
        rounding = {"weight": 2.0**-22, "half": 2.0**-9}.get(name, 0.0)  # of values up to 4, in their own dtypes
        difference = np.abs(tensors[name].astype(float) - wanted.astype(float)).max()
        assert difference <= bound(story, counting, hidden=secure.get("weights") == "hidden") + rounding, name
        assert tensors[name].tobytes() == again[name].tobytes()
    assert [fact.members for fact in facts] == [tuple(counting)] * len(facts)
    assert [fact.contents.elements for fact in facts if fact.contents] == [contents.elements for contents in stated(story)]


def stated(story: MaskedStory) -> tuple[Contents, ...]:
    assert story.current.opened.model is not None
    return story.current.opened.model.contents


async def test_a_server_s_optimizer_takes_the_sum_for_what_it_takes_every_other_mean() -> None:
    bulk = MemoryBulk()
    story = await masked_round(bulk, MODEL, UPDATES, spec={"strategy": {"name": "fedadam"}})
    tensors, facts = await unmasked(bulk, story)
    weights = [weight for _, weight in UPDATES.values()]
    wanted = fold_models(STRATEGIES["fedadam"]({}), [update for update, _ in UPDATES.values()], MODEL, weights=weights)

    assert np.abs(tensors["weight"] - wanted["weight"]).max() < 1e-6
    assert np.array_equal(tensors["count"], wanted["count"])
    assert all(fact.memory is not None and fact.contents is not None for fact in facts)
    floats = sum(tensors[name].size for name in ("weight", "half"))
    assert sum(fact.memory.bytes for fact in facts if fact.memory) == 2 * 8 * floats


async def test_a_change_larger_than_the_clip_counts_as_much_as_the_clip() -> None:
    far = {"w": np.array([0.0, 100.0, -0.25], np.float32)}
    still = {"w": np.zeros(3, np.float32)}
    bulk = MemoryBulk()
    story = await masked_round(bulk, still, {"a": (far, 1), "b": (still, 1), "c": (still, 1)}, secure={"clip": 1.5})
    tensors, _ = await unmasked(bulk, story)

    assert tensors["w"] == pytest.approx([0, 0.5, -0.25 / 3], abs=1e-7)


async def test_with_noise_each_cluster_counts_the_same_and_the_mean_has_the_noise_of_all_in_its_floats() -> None:
    noise = {"distributed": {"noiseMultiplier": 0.01, "clip": 20}}  # longer than any of these changes
    bulk, updates = MemoryBulk(), {cluster: UPDATES[cluster] for cluster in "abcd"}
    story = await masked_round(bulk, MODEL, updates, noise=noise)
    tensors, _ = await unmasked(bulk, story)
    masking = story.current.opened.masking
    assert masking is not None and masking.deviation is not None
    mean = np.mean([update["weight"].astype(float) for update, _ in updates.values()], axis=0)
    deviation = masking.deviation / 2  # of a mean of four

    assert 0.5 * deviation < np.std(tensors["weight"] - mean) < 1.5 * deviation < 0.1
    assert np.array_equal(tensors["count"], MODEL["count"]) and np.array_equal(tensors["flag"], MODEL["flag"])


async def rewritten(bulk: MemoryBulk, story: MaskedStory, cluster: str, data: bytes, **changed: Any) -> None:
    """That cluster's first shard holds other bytes, and the log says so unless the digest is to stay."""
    member = story.current.contributed[cluster]
    piece = await bulk.write(update_piece(RUN, 0, cluster, "y", 0), memoryview(data), CHUNK_BYTES)
    lied = member.model_copy(update={"shards": (piece.model_copy(update=changed), *member.shards[1:])})
    story.current.contributed[cluster] = lied


async def test_masked_garbage_is_found_out_and_that_nobody_can_say_whose_it_is() -> None:
    bulk = MemoryBulk()
    story = await masked_round(bulk, MODEL, UPDATES)
    size = story.current.contributed["b"].shards[0].bytes
    await rewritten(bulk, story, "b", chance("garbage", size))

    with pytest.raises(Unusable, match=r"some member sent garbage.*nobody can say which.*run again without those") as raised:
        await unmasked(bulk, story)
    assert raised.value.cluster is None


async def test_a_run_that_is_submitted_again_under_its_old_name_has_masks_of_its_own() -> None:
    bulk = MemoryBulk()
    before = await masked_round(bulk, MODEL, UPDATES)
    replica = Unmasking(bulk, Team(1))
    await replica.fold(before.run, before.current, 0, NOW)
    await bulk.purge(">")
    after = await masked_round(bulk, MODEL, {cluster: UPDATES[cluster] for cluster in CLUSTERS[1:]})
    folded = await replica.fold(after.run, after.current, 0, NOW)

    assert folded.piece.digest == (await Unmasking(bulk, Team(1)).fold(after.run, after.current, 0, NOW)).piece.digest


async def test_members_that_count_for_next_to_nothing_have_no_mean_and_are_told_what_to_set() -> None:
    spec = {"rounds": {"weightMax": 1e13, "evaluate": False}}
    story = await masked_round(MemoryBulk(), MODEL, UPDATES, secure={"weights": "hidden"}, spec=spec)

    with pytest.raises(Unusable, match=r"less than 32 bits can tell from nothing; set spec\.rounds\.weightMax"):
        await unmasked(MemoryBulk(), story)


async def test_bytes_that_are_not_those_that_were_announced_are_laid_to_their_sender() -> None:
    bulk = MemoryBulk()
    story = await masked_round(bulk, MODEL, UPDATES)
    shard = story.current.contributed["b"].shards[0]
    await rewritten(bulk, story, "b", chance("garbage", shard.bytes), digest=shard.digest)

    with pytest.raises(Unusable, match="not those that were stored") as raised:
        await unmasked(bulk, story)
    assert raised.value.cluster == "b"


async def test_a_cluster_that_shared_another_key_than_its_own_is_named_when_it_drops_out() -> None:
    class Lying(MaskedStory):
        def shared(self, cluster: str) -> Shared:
            honest = super().shared(cluster)
            paired, own = self.current.exchange.paired, participant(self.number, cluster)
            if cluster != "b" or paired is None:
                return honest
            secrets = Secrets(b"another private key of 32 bytes.", own.secrets.seal, own.secrets.seed)
            keys = {member.cluster: member for member in paired.members}
            member = Member(Participant(own.about, cluster, secrets), Pairing.of(paired), keys)
            sharing = member.share(chance("lies", randomness_bytes(paired.threshold)))
            return honest.model_copy(update={"sealed": sharing.sealed, "commitments": sharing.commitments})

    bulk = MemoryBulk()
    story = await masked_round(bulk, MODEL, UPDATES, gone="b", kind=Lying)

    with pytest.raises(Unusable, match="what b shared with its neighbours is not the key that it announced") as raised:
        await unmasked(bulk, story)
    assert raised.value.cluster == "b"


async def test_who_believed_a_false_word_of_what_the_model_has_finds_out() -> None:
    bulk = MemoryBulk()
    story = await masked_round(bulk, MODEL, UPDATES)
    member = story.current.contributed["a"]
    short = member.shards[0].model_copy(update={"bytes": 4})
    assert isinstance(member, Contributed) and isinstance(story.current.opened, Opened)
    story.current.contributed["a"] = member.model_copy(update={"shards": (short, *member.shards[1:])})

    with pytest.raises(Unusable, match="by its own word 4"):
        await unmasked(bulk, story)


KINDS = st.lists(st.tuples(st.sampled_from(["F64", "F32", "BF16", "I64", "U8", "BOOL"]), st.integers(0, 9)), max_size=6)


@given(KINDS, st.integers(1, 12))
def test_a_shard_is_cut_where_so_many_numbers_end_whatever_their_dtypes(kinds, elements) -> None:
    tensors, at = [], 0
    for number, (dtype, count) in enumerate(sorted(kinds, key=lambda kind: -DTYPES[kind[0]].itemsize)):
        end = at + count * DTYPES[dtype].itemsize
        tensors.append(Tensor(f"t{number}", dtype, (count,), at, end))
        at = end
    layout = Layout(tuple(tensors), ())
    found = ranges(layout, (0, at), elements)
    counts = [contents(layout, (low, high), memoryview(bytes(high - low))).elements for low, high in found]

    assert (found[0][0], found[-1][1]) == (0, at)
    assert all(end == begin for (_, end), (begin, _) in pairwise(found))
    assert counts[:-1] == [elements] * (len(found) - 1) and counts[-1] <= elements
    assert sum(counts) == sum(count for _, count in kinds)


def test_what_is_not_finite_is_nobody_s_largest_number() -> None:
    layout = Layout((Tensor("a", "F64", (3,), 0, 24), Tensor("b", "I64", (1,), 24, 32)), ())
    values = np.array([np.nan, -2.5, np.inf]).tobytes() + np.array([9]).tobytes()

    assert contents(layout, (0, 32), memoryview(values)) == Contents(elements=4, largest=2.5, doubles=True)
