"""Reading what a model to which updates are appended is made of: the model, and after it the members' updates.

A part of the result is parts of theirs, which may be cut as it is not. They are read one piece at a time,
so memory is the result's shard and one piece, however many members there are. What is joined, and how it is called, is said in `appending`.
"""

from collections.abc import Sequence

from fedplane.aggregator.appending import CannotAppend, joined
from fedplane.aggregator.reading import whole
from fedplane.aggregator.starting import parts
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.facts import Contributed
from fedplane.schemas.layout import BadLayout, Layout, cut, parse_header
from fedplane.schemas.models import Model, Piece

__all__ = ["joined_header", "joined_part"]


async def joined_header(bulk: Bulk, model: Model, members: Sequence[Contributed], training_round: int) -> bytes:
    """The header of the model with the members' updates appended.

    Raises CannotAppend, and Corrupt if it is the model's own that cannot be read.
    """
    begun = await _layout(bulk, None, model.layout, model.shards)
    updates = [(member.cluster, await _layout(bulk, member.cluster, member.layout, member.shards)) for member in members]
    return joined(begun, updates, training_round)


async def joined_part(bulk: Bulk, model: Model, members: Sequence[Contributed], shard_bytes: int, shard: int) -> bytearray:
    """One shard of the model with the members' updates appended. Raises as `joined_header` does."""
    whose = {piece.subject: member.cluster for member in members for piece in member.shards}
    pieces = (*model.shards, *(piece for member in members for piece in member.shards))
    begin, end = cut(sum(piece.bytes for piece in pieces), shard_bytes)[shard]
    out = bytearray()
    for piece, low, high in parts(pieces, begin, end):
        out += memoryview(await _whole(bulk, whose.get(piece.subject), piece))[low:high]
    return out


async def _layout(bulk: Bulk, cluster: str | None, layout: Piece, shards: Sequence[Piece]) -> Layout:
    try:
        found = parse_header(bytes(await _whole(bulk, cluster, layout)))
    except BadLayout as error:
        raise CannotAppend(cluster, str(error)) from error
    size = sum(piece.bytes for piece in shards)
    if found.bytes != size:
        raise CannotAppend(cluster, f"its layout describes {found.bytes} bytes and it has {size}")
    return found


async def _whole(bulk: Bulk, cluster: str | None, piece: Piece) -> bytearray:
    """All bytes of a piece. That a member's cannot be read is the member's fault, and will not change; of the model's it may."""
    try:
        return await whole(bulk, piece)
    except Corrupt as error:
        if cluster is None:
            raise
        raise CannotAppend(cluster, str(error)) from error
