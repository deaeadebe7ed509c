"""A model to which updates are appended: what its tensors are called, and what its header says.

Some updates are no numbers to be averaged but parts to be added, as the trees are that a cluster has grown.
The next model then has the last one's tensors, and after them each member's, in the order of the members' names.
So it is the bytes of all of them one after the other, and any part of it is parts of theirs: nothing is computed.
Members need not have the same tensors. A member's tensor gets the training round and the cluster before its name,
`000003/berlin/trees`, by which a model says of itself who has added what, and when.

Only tensors of bytes (U8) are appended. Others begin at multiples of their item size, which bytes of any length before them would shift.
Whoever appends them knows what is in them; nobody here looks.
Pure. Where the bytes come from is the business of `joining`.
"""

import json
from collections.abc import Sequence
from typing import Any

from fedplane.schemas.layout import ALIGNMENT_BYTES, HEADER_BYTES_MAX, Layout, Tensor

__all__ = ["CannotAppend", "joined", "unappendable"]

APPENDED = "U8"

LENGTH_BYTES = 8
"""A safetensors header begins with its own length in so many bytes."""

ROUND_DIGITS = 6
"""With zeros before it, so that names sort as rounds do; a resource may ask for 100,000."""


class CannotAppend(ValueError):
    """The updates cannot be appended. `cluster` is the one whose update is why; None if it is nobody's alone."""

    def __init__(self, cluster: str | None, message: str) -> None:
        super().__init__(message)
        self.cluster = cluster


def unappendable(layout: Layout) -> str | None:
    """Why these tensors cannot be appended, nor appended to, in a sentence for a person; None if they can."""
    other = next((tensor for tensor in layout.tensors if tensor.dtype != APPENDED), None)
    return f"its tensor {other.name!r} is {other.dtype}, and only bytes ({APPENDED}) can be appended" if other else None


def joined(model: Layout, updates: Sequence[tuple[str, Layout]], training_round: int) -> bytes:
    """The header of the model with these clusters' updates appended, in this order. Raises CannotAppend."""
    if why := unappendable(model):
        raise CannotAppend(None, f"the model cannot be appended to: {why}")
    tensors, order, taken = list(model.tensors), list(model.order), {tensor.name for tensor in model.tensors}
    for cluster, update in updates:
        if why := unappendable(update):
            raise CannotAppend(cluster, why)
        begin, prefix = tensors[-1].end if tensors else 0, f"{training_round:0{ROUND_DIGITS}}/{cluster}/"
        for tensor in update.tensors:
            name = prefix + tensor.name
            if name in taken:
                raise CannotAppend(cluster, f"its tensor {tensor.name!r} would be {name!r}, which the model has already; rename the latter")
            tensors.append(Tensor(name, tensor.dtype, tensor.shape, begin + tensor.begin, begin + tensor.end))
        order += [prefix + name for name in update.order]
    return _header(tensors, order)


def _header(tensors: Sequence[Tensor], order: Sequence[str]) -> bytes:
    document: dict[str, Any] = {"__metadata__": {"order": json.dumps(order)}}
    for tensor in tensors:
        document[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [tensor.begin, tensor.end]}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    if LENGTH_BYTES + len(text) > HEADER_BYTES_MAX:
        said = f"with the updates appended the model's layout has {LENGTH_BYTES + len(text)} bytes"
        raise CannotAppend(None, f"{said}, and a safetensors header may have {HEADER_BYTES_MAX}; ask for fewer rounds")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
