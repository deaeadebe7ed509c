"""One small run, told in facts: what documentation shows and what a subscriber can test against.

Three hospitals advertise, two are chosen, one of them drops out of the first training round.
The facts are in the order of the vocabulary, one of each; a log would not hold all of them, since a run does not both complete and fail.
"""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from fedplane.schemas import facts, subjects
from fedplane.schemas.digests import digest
from fedplane.schemas.facts import Fact
from fedplane.schemas.models import Chosen, Exposure, Instruction, Model, Piece, Refused, Task, Term, model_digest
from fedplane.schemas.privacy_terms import Keyholder
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

__all__ = ["EXAMPLES"]

_RUN = "mnist-5f3a9c1e"
_NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_DEADLINE = _NOON + timedelta(minutes=10)
_SHARD_BYTES = 32_000_000
_CHUNK_BYTES = 1_000_000


def _at(seconds: float) -> datetime:
    return _NOON + timedelta(seconds=seconds)


def _piece(subject: str, size: int) -> Piece:
    return Piece(subject=subject, bytes=size, chunk_bytes=_CHUNK_BYTES, digest=digest(subject.encode()))


def _model(round_: int, attempt: str) -> Model:
    layout = _piece(subjects.model_piece(_RUN, round_, attempt, "layout"), 392)
    shards = (_piece(subjects.model_piece(_RUN, round_, attempt, 0), 814_120),)
    return Model(run=_RUN, round=round_, bytes=814_120, layout=layout, shards=shards, digest=model_digest(layout, shards))


_TERMS_A = (Term(criterion="data_locality", score=1.0, weight=1.0), Term(criterion="cpu", score=0.5, weight=0.5))
_TERMS_B = (Term(criterion="data_locality", score=0.75, weight=1.0), Term(criterion="cpu", score=0.5, weight=0.5))
_NO_DATA = Refused(
    cluster="hospital-c",
    reason="data",
    message="does not advertise the claim mnist.client-data; its value says where data is; spec.data.claim may name another",
)


def _key(of: str) -> str:
    """32 bytes that stand for a key or a digest."""
    return urlsafe_b64encode(sha256(of.encode()).digest()).decode()


_SHARE = urlsafe_b64encode(bytes(33)).decode()
_SEALED = urlsafe_b64encode(bytes(82)).decode()
_SIGNATURE = urlsafe_b64encode(bytes(71)).decode()
_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ==\n-----END CERTIFICATE-----\n"

_RESOURCE = FederatedLearning.model_validate(
    {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "mnist", "uid": "5f3a9c1e-20d4-4c3e-9d35-0c5d7c1b7a11", "annotations": {"fedplane.io/app": "."}},
        "spec": {"framework": "flower", "server": {"rounds": 3, "minAvailableClients": 2}, "config": {"learning-rate": 0.05}},
    }
)

EXAMPLES: tuple[Fact, ...] = (
    facts.Submitted(at=_at(0), run=_RUN, resource=_RESOURCE),
    facts.Waiting(at=_at(1), run=_RUN, number=1, wanted=2, eligible=1, message="1 of 2 clusters is eligible", refused=(_NO_DATA,)),
    facts.Scheduled(
        at=_at(20), run=_RUN, refused=(_NO_DATA,),
        participants=(
            Chosen(cluster="hospital-a", score=1.25, terms=_TERMS_A, data="/data/mnist/0"),
            Chosen(cluster="hospital-b", score=1.0, terms=_TERMS_B, data="/data/mnist/1"),
        ),
    ),
    facts.Started(at=_at(21), run=_RUN, strategy="fedavg", training_rounds=3),
    facts.EditRefused(at=_at(22), run=_RUN, generation=2, message="the run goes on with what was asked for first: spec.server.rounds is 3"),
    facts.Exposed(
        at=_at(22), run=_RUN, number=1, pending={"listener-loadbalancer-4222": "the load balancer has no address yet"},
        listeners=(Exposure(name="listener-nodeport-31531", type="NodePort", address="172.18.0.2:31531", port=31531),),
    ),
    facts.Asked(
        at=_at(23), run=_RUN, round=1, training_round=1, timeout_seconds=3600, contents=(_model(0, "f1"),),
        instructions=(
            Instruction(cluster="hospital-a", kind="train", content=0), Instruction(cluster="hospital-b", kind="train", content=0),
        ),
    ),
    facts.Opened(
        at=_at(24), run=_RUN, round=1, task=Task.TRAIN, training_round=1, clusters=("hospital-a", "hospital-b"), minimum=1,
        deadline=_DEADLINE, shard_bytes=_SHARD_BYTES, chunk_bytes=_CHUNK_BYTES, model=_model(0, "f1"),
    ),
    facts.Invited(
        at=_at(24), run=_RUN, round=1, cluster="hospital-a", task=Task.TRAIN, training_round=1, framework="flower", app=".",
        data="/data/mnist/0", configuration={"lr": 0.05}, run_configuration={"learning-rate": 0.05}, deadline=_DEADLINE,
        shard_bytes=_SHARD_BYTES, chunk_bytes=_CHUNK_BYTES, position=0, clusters=2, model=_model(0, "f1"),
    ),
    facts.Contributed(
        at=_at(31), run=_RUN, round=1, cluster="hospital-a", attempt="a7", weight=1250, metrics={"train_loss": 0.41},
        layout=_piece(subjects.update_piece(_RUN, 1, "hospital-a", "a7", "layout"), 392),
        shards=(_piece(subjects.update_piece(_RUN, 1, "hospital-a", "a7", 0), 814_120),),
    ),
    facts.Evaluated(at=_at(40), run=_RUN, round=2, cluster="hospital-a", weight=250, metrics={"accuracy": 0.93, "loss": 0.22}),
    facts.Declined(
        at=_at(33), run=_RUN, round=1, cluster="hospital-b", reason="app-failed", message="the app raised ValueError",
        detail="ValueError: no images in /data/mnist/1",
    ),
    facts.Rejected(
        at=_at(34), run=_RUN, round=1, cluster="hospital-b", reason="unacceptable", message="it has 8 bytes, and the model has 814120",
    ),
    facts.Expired(at=_DEADLINE, run=_RUN, round=1),
    facts.Closed(at=_at(33), run=_RUN, round=1, reason="everyone answered"),
    facts.Measured(
        at=_at(33), run=_RUN, round=1, shard=0, members=("hospital-a", "hospital-b"), products=(2.25, 0.5, 1.75),
    ),
    facts.Folded(
        at=_at(34), run=_RUN, round=1, shard=0, piece=_piece(subjects.model_piece(_RUN, 1, "f2", 0), 814_120), members=("hospital-a",),
        layout=_piece(subjects.model_piece(_RUN, 1, "f2", "layout"), 392),
    ),
    facts.Aggregated(
        at=_at(35), run=_RUN, round=1, task=Task.TRAIN, training_round=1, members=("hospital-a",), weight=1250,
        metrics={"train_loss": 0.41}, model=_model(1, "f2"),
    ),
    facts.RoundFailed(at=_at(610), run=_RUN, round=3, reason="too-few", message="1 of 2 clusters answered, 2 are needed"),
    facts.Keyed(
        at=_at(31), run=_RUN, round=1, cluster="hospital-a", weight=1250, metrics={"train_loss": 0.41}, mask_key=_key("a's mask key"),
        seal_key=_key("a's seal key"), certificate=_CERTIFICATE, signature=_SIGNATURE,
    ),
    facts.Paired(
        at=_at(32), run=_RUN, round=1, degree=2, threshold=2, weight_scale=2000, deadline=_at(92), reason="everyone answered",
        question=digest(b"train"), members=tuple(
            Keyholder(
                cluster=f"hospital-{one}", mask_key=_key(f"{one}'s mask key"), seal_key=_key(f"{one}'s seal key"), certificate=_CERTIFICATE,
                signature=_SIGNATURE, weight=weight,
            )
            for one, weight in (("a", 1250), ("b", 2000), ("d", 800))
        ),
    ),
    facts.Shared(
        at=_at(32.1), run=_RUN, round=1, cluster="hospital-a", sealed={"hospital-b": _SEALED, "hospital-d": _SEALED},
        commitments={"hospital-b": (_key("1"), _key("2")), "hospital-d": (_key("3"), _key("4"))},
    ),
    facts.Bound(at=_at(32.2), run=_RUN, round=1, members=("hospital-a", "hospital-b", "hospital-d"), deadline=_at(92.2)),
    facts.Entrusted(
        at=_at(32.2), run=_RUN, round=1, cluster="hospital-a", members=("hospital-a", "hospital-b", "hospital-d"),
        sealed={"hospital-b": _SEALED, "hospital-d": _SEALED},
        commitments={"hospital-b": (_key("5"), _key("6")), "hospital-d": (_key("7"), _key("8"))}, deadline=_at(92.2),
    ),
    facts.Revealed(
        at=_at(34), run=_RUN, round=1, cluster="hospital-a", seeds={"hospital-a": _SHARE, "hospital-b": _SHARE},
        keys={"hospital-d": _SHARE},
    ),
    facts.Lapsed(at=_at(92.2), run=_RUN, round=1, step="masking"),
    facts.Completed(at=_at(70), run=_RUN, model=_model(5, "f6"), metrics={"accuracy": 0.97}, reason="all rounds done"),
    facts.Failed(
        at=_at(1900), run=_RUN, reason="RoundFailed",
        message="training round 2 failed 3 times; the last time: 1 of 2 clusters answered, 2 are needed",
    ),
    facts.Cancelled(at=_at(50), run=_RUN, message="cancelled at the command line"),
    facts.Kept(at=_at(74), run=_RUN, round=5, location="pvc://models/mnist.safetensors"),
    facts.Archived(at=_at(7 * 24 * 3600 + 70), run=_RUN, facts=61, piece=_piece(subjects.archive_piece(_RUN, "b3"), 18_204)),
    facts.Advertised(
        at=_at(-5), cluster="hospital-a", lease_seconds=15, claims={"mnist.client-data": "/data/mnist/0"},
        allocatable={"cpu": "8", "memory": "32Gi"}, labels={"region": "north"}, frameworks=("flower",),
    ),
    facts.Granted(
        at=_at(-60), role="subscriber", name="dashboard", expires_at=_at(30 * 24 * 3600), fingerprint="5e" * 32, namespace="team-a",
        patterns=(facts.Completed.pattern(), facts.Failed.pattern()),
    ),
    facts.Revoked(at=_at(90), role="collaborator", name="hospital-b", message="its machine was stolen"),
)  # fmt: skip
"""One fact of each kind, in the order of `FACTS`."""
