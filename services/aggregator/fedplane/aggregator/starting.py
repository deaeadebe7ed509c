"""The model that a run starts from, if it is not to be a new one.

Round 0 asks a cluster to initialize all the same: only the app knows which tensors it trains and what it tells its clients.
What becomes of the round is then not the cluster's model but a copy of the given one, under the run's own name.
So the bytes outlive the run that they are from, clusters read nothing but their own run, and everything after round 0 is as ever.

The model is named by `submitted`, or by the resource: then it is the one with which that run ended, as the log had it at that moment.
Pure. The copy is made where shards are folded.
"""

from fedplane.aggregator.accepting import SHARDS_MAX
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Submitted
from fedplane.schemas.layout import HEADER_BYTES_MAX, Layout, Tensor
from fedplane.schemas.models import Model, Piece, model_digest

__all__ = ["check", "difference", "parts"]


def check(submitted: Submitted, given: Model | None, *, appends: bool = False) -> None:
    """Raise BadInput if the run cannot start from the model that it was given, or was given none although it asks for one.

    What an app says of a model to which updates were appended is of the run that appended them, so nobody else can go on from it yet.
    """
    named = submitted.resource.spec.server.initial_model
    if appends and (named or given is not None):
        raise BadInput(
            f"spec.strategy.name: with {submitted.resource.spec.strategy.name} a run cannot go on from another model yet; "
            "leave out spec.server.initialModel and --from, and let the app's initial model be the first"
        )
    if given is None:
        if named:
            raise BadInput(
                f"spec.server.initialModel is {named!r}, and the log has no ended run of that id with a model: "
                "it goes on, never had one, or is archived; `fedplane submit --from` finds archived ones, and takes files as well"
            )
        return
    if given.bytes != sum(piece.bytes for piece in given.shards) or given.digest != model_digest(given.layout, given.shards):
        raise BadInput("the model to start from is not what its own digest and size say; was it written by another program?")
    if len(given.shards) > SHARDS_MAX or given.layout.bytes > HEADER_BYTES_MAX:
        raise BadInput(
            f"the model to start from has {len(given.shards)} shards and a layout of {given.layout.bytes} bytes; "
            f"{SHARDS_MAX} and {HEADER_BYTES_MAX} are possible"
        )


def parts(shards: tuple[Piece, ...], begin: int, end: int) -> list[tuple[Piece, int, int]]:
    """Which pieces have the bytes [begin, end) of the flat buffer, and from where to where in each; they may be cut as we do not cut."""
    found, at = [], 0
    for piece in shards:
        low, high = max(begin, at), min(end, at + piece.bytes)
        if low < high:
            found.append((piece, low - at, high - at))
        at += piece.bytes
    return found


def difference(wanted: Layout, given: Layout) -> str | None:
    """How the tensors that clusters train differ from those of the model, in a sentence for a person; None if they do not.

    Names, shapes, dtypes and places have to agree; what else a header says is the app's business.
    """
    of = {tensor.name: tensor for tensor in given.tensors}
    for tensor in wanted.tensors:
        found = of.pop(tensor.name, None)
        if found is None:
            return f"it has no tensor {tensor.name!r}, which the app has"
        if (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            return f"its tensor {tensor.name!r} is {_kind(found)}, and the app's is {_kind(tensor)}"
        if found.begin != tensor.begin:
            places = f"begins at byte {found.begin}, and the app's at {tensor.begin}"
            return f"its tensor {tensor.name!r} {places}; order tensors by item size, then by name"
    return f"it has a tensor {min(of)!r}, which the app has not" if of else None


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {list(tensor.shape)}"
