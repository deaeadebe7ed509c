"""Whether an answer can count, from what it says of itself; what can only be known from its bytes is found when they are folded.

No collaborator of ours sends one that cannot. But another version may, or anybody on an open bus, and what is folded later is
believed to have the sizes, the names and the dtypes that it says.
"""

from fedplane.aggregator.exchange import Exchange, unusable_keys
from fedplane.schemas.facts import Contributed, Evaluated, Keyed, Opened
from fedplane.schemas.layout import HEADER_BYTES_MAX, cut
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import update_piece

__all__ = ["SHARDS_MAX", "appends", "unacceptable"]

SHARDS_MAX = 2_000
"""Each takes about 200 bytes in `contributed`, `aggregated` and every invitation, and a fact has room for 900 kB.
At 16 MB a shard, that is a model of 32 GB.
"""


def unacceptable(question: Opened, masks: Exchange, answer: Contributed | Evaluated | Keyed) -> str | None:
    """Why an answer cannot count, from what it says of itself; None if it can.

    What can only be known from a contribution's bytes is found when they are folded.
    The weight of an initialization means nothing, since it is the only one, and one that is hidden is not said.
    """
    masking = question.masking
    hidden = masking is not None and masking.weights == "hidden"
    told = question.task is not Task.INITIALIZE and not hidden
    if question.weight_max is not None and answer.weight > question.weight_max and told:
        return f"its weight is {answer.weight:g}, and spec.rounds.weightMax is {question.weight_max:g}"
    if isinstance(answer, Keyed):
        return unusable_keys(masks, answer, hidden=hidden) if masking else "it says its keys, and the round's updates are not masked"
    if isinstance(answer, Evaluated):
        return None
    if masking is not None and answer.cluster not in masks.members:
        return "its update is not masked, and the round's updates are; is its collaborator older than the aggregator?"
    return _misplaced(question, answer) or _miscut(question, answer) or _mismasked(question, masks, answer)


def _misplaced(question: Opened, answer: Contributed) -> str | None:
    """Why an update is none that the round asked for."""
    if answer.origin is not None and answer.origin != question.carried.get(answer.cluster):
        return f"it answers the question of round {answer.origin}, which this round does not carry for its cluster"
    if question.task is Task.EVALUATE:
        return "the round asked for an evaluation, not for an update"
    return None


def _miscut(question: Opened, answer: Contributed) -> str | None:
    """Why an update's bytes are not those of an update of the model, or not cut as the round asked. What is appended may be any bytes."""
    if question.model is not None and not appends(question) and answer.layout.digest != question.model.layout.digest:
        return "its layout is not the model's: another set of tensors, names, shapes or dtypes"
    if len(answer.shards) > SHARDS_MAX:
        return f"it has {len(answer.shards)} shards, and a fact has room for {SHARDS_MAX}; larger shards make fewer (FEDPLANE_SHARD_BYTES)"
    if answer.layout.bytes > HEADER_BYTES_MAX:
        return f"its layout has {answer.layout.bytes} bytes, and a safetensors header may have {HEADER_BYTES_MAX}"
    if any(piece.chunk_bytes != question.chunk_bytes for piece in (answer.layout, *answer.shards)):
        return f"it is not cut into chunks of {question.chunk_bytes} bytes"
    if answer.layout.subject != update_piece(answer.run, answer.round, answer.cluster, answer.attempt, "layout"):
        return "its layout is not this cluster's own"
    if wrong := _missized(question, [piece.bytes for piece in answer.shards]):
        return wrong
    for shard, piece in enumerate(answer.shards):
        if piece.subject != update_piece(answer.run, answer.round, answer.cluster, answer.attempt, shard):
            return f"shard {shard} names bytes that are not this cluster's own"
    return None


def _missized(question: Opened, sizes: list[int]) -> str | None:
    """Why an update's shards do not have the bytes that they should."""
    if question.masking is not None and question.model is not None:
        wanted = [contents.elements * question.masking.bits // 8 for contents in question.model.contents]
        return None if sizes == wanted else f"its shards do not have {question.masking.bits} bits for each number of the model's"
    size = sum(sizes)
    if question.model is not None and not appends(question) and size != question.model.bytes:
        return f"it has {size} bytes, and the model has {question.model.bytes}"
    few = size <= len(sizes) * question.shard_bytes  # a size that is made up must not be cut into more pieces than memory has
    if not few or sizes != [end - begin for begin, end in cut(size, question.shard_bytes)]:
        return f"it is not cut into shards of {question.shard_bytes} bytes"
    return None


def _mismasked(question: Opened, masks: Exchange, answer: Contributed) -> str | None:
    """Why a masked update does not go with what was agreed before; what is behind the mask nobody knows."""
    masking = question.masking
    if masking is None:
        return None
    keyed, tallies = masks.keyed[answer.cluster], int(masking.weights == "hidden")
    if answer.weight != keyed.weight:
        return f"its weight is {answer.weight:g}, and with its keys it said {keyed.weight:g}"
    if len(answer.tally) != tallies or any(number >= 2**masking.bits for number in answer.tally):
        return f"its tally is not {tallies} numbers of {masking.bits} bits"
    return None


def appends(question: Opened) -> bool:
    """Whether updates are appended in this round. In such a run's other rounds there is nothing to append to, or nothing to append."""
    return question.appends and question.task is Task.TRAIN and question.model is not None
