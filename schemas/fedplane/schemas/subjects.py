"""Subjects that carry no facts: bytes, tasks, dead letters and a question.
They are beside `facts` since permissions are written against them, too.

A cluster may write only under its own name, and read only the models of the runs that it takes part in; both follow from the subject.
Nothing else in the project puts such a subject together or takes one apart.
"""

from fedplane.schemas.names import round_number
from fedplane.schemas.roles import Role

__all__ = [
    "WORK_TEMPLATE", "archive_piece", "asked_piece", "bulk_of_round", "bulk_of_run", "chunks_of", "dead_letter", "dead_letters",
    "given_models", "given_piece", "layouts_of_models", "listen", "model_piece", "parse_listen", "parse_update", "parse_work_on",
    "reader_of", "reply_piece", "update_piece", "updates_of", "work_on",
]  # fmt: skip


def update_piece(run: str, round_: int | str, cluster: str, attempt: str, shard: int | str) -> str:
    """Where a cluster stores one shard of its update; `shard` may be "layout"."""
    return f"bulk.fed.v1.{run}.{round_}.update.{cluster}.{attempt}.{shard}"


def updates_of(run: str, cluster: str) -> str:
    """All chunks that a cluster stores in a run, or in any ("*")."""
    return f"bulk.fed.v1.{run}.*.update.{cluster}.>"


def parse_update(subject: str) -> tuple[str, int, str]:
    """The run, the round and the cluster of a chunk of an update. A cluster may write any word for the round; -1 is for what is none."""
    _, _, _, run, round_, _, cluster, *_ = subject.split(".")
    return run, round_number(round_), cluster


def model_piece(run: str, round_: int, attempt: str, shard: int | str) -> str:
    """Where a replica stores one shard of a model; `shard` may be "layout", or ">" for all."""
    return f"bulk.fed.v1.{run}.{round_}.model.{attempt}.{shard}"


def asked_piece(run: str, round_: int, attempt: str, shard: int | str) -> str:
    """Where a driver stores one shard of what its app's server sends; `shard` may be "layout"."""
    return f"bulk.fed.v1.{run}.{round_}.asked.{attempt}.{shard}"


def reply_piece(run: str, round_: int, attempt: str, shard: int | str) -> str:
    """Where a replica stores one shard of the mean of what clusters replied; `shard` may be "layout"."""
    return f"bulk.fed.v1.{run}.{round_}.reply.{attempt}.{shard}"


def given_piece(run: str, attempt: str, shard: int | str) -> str:
    """Where whoever submits a run stores one shard of the model that it starts from; `shard` may be "layout", or ">" for all."""
    return f"bulk.fed.v1.{run}.given.{attempt}.{shard}"


def given_models(run: str) -> str:
    """The models that a run was given to start from: what to purge when it has one of its own."""
    return f"bulk.fed.v1.{run}.given.>"


def archive_piece(run: str, attempt: str) -> str:
    """Where a replica stores the facts of a run that leave the log."""
    return f"bulk.fed.v1.{run}.archive.{attempt}"


def layouts_of_models(run: str) -> str:
    """The first chunk of each of a run's models: what is there tells which models are stored."""
    return f"bulk.fed.v1.{run}.*.model.*.layout.0"


WORK_TEMPLATE = "work.fed.v1.{run}.{round}.{what}.{shard}"
"""What tasks' subjects look like."""


def work_on(what: str, run: str, round_: int, shard: int) -> str:
    """The task to do something with one shard of a round: "measure" or "fold" it."""
    return WORK_TEMPLATE.format(run=run, round=round_, what=what, shard=shard)


def parse_work_on(subject: str) -> tuple[str, str, int, int]:
    """What is to be done, and the run, round and shard."""
    *_, run, round_, what, shard = subject.split(".")
    return what, run, int(round_), int(shard)


def dead_letter(reader: str, sequence: int) -> str:
    """A fact with which the reader of that name could do nothing, by its place on the log."""
    return f"dead.fed.v1.{reader}.{sequence}"


def dead_letters(reader: str = "*") -> str:
    """All dead letters of a reader."""
    return f"dead.fed.v1.{reader}.*"


def reader_of(name: str) -> str:
    """Where the one process answers that reads the durable subscription of that name. Nothing is stored under it."""
    return f"reading.fed.v1.{name}"


def listen(role: Role, name: str, run: str = "") -> str:
    """Where a client asks for a reader of what it may hear, of all runs or of one, since it may make none itself.

    "*" instead of a name or a run stands for any. Nothing is stored under it.
    """
    whole = f"listen.fed.v1.{role}.{name}"
    return f"{whole}.{run}" if run else whole


def parse_listen(subject: str) -> tuple[Role, str, str]:
    """Who asks, and of which run; "" if of all. Raises ValueError for a role that there is none of."""
    _, _, _, role, name, *run = subject.split(".")
    return Role(role), name, "".join(run)


def bulk_of_round(run: str, round_: int | str, kind: str = "*") -> str:
    """All bulk data of a round ("*": of any), or only its updates ("update"), its model ("model") or what was "asked": what to purge."""
    return f"bulk.fed.v1.{run}.{round_}.{kind}.>"


def bulk_of_run(run: str) -> str:
    """All bulk data of a run."""
    return f"bulk.fed.v1.{run}.>"


def chunks_of(piece: str) -> str:
    """All chunks of what is stored under this subject."""
    return f"{piece}.>"
