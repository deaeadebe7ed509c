"""A run that an object on a hub asks for, told in facts: what the status service shows of it is what the tests compare."""

from datetime import UTC, datetime, timedelta

from log_story import knows, recorded

from fedplane.schemas import facts
from fedplane.schemas.models import Chosen, Exposure, Model, Piece, Refused, Task, Term
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.views import RunView
from fedplane.status.phases import Phases

RUN = "mnist-0a1b2c3d"
UID = "0a1b2c3d-20d4-4c3e-9d35-0c5d7c1b7a11"
PIECE = Piece(subject="bulk.layout", bytes=8, chunk_bytes=8, digest="blake3:" + "0" * 64)
CLUSTERS = ("hospital-a", "hospital-b")
NO_DATA = Refused(cluster="hospital-c", reason="data", message="does not advertise the claim mnist.client-data")


class Story:
    """The facts of one run; `at` counts seconds from its beginning."""

    def __init__(
        self, run: str = RUN, uid: str = UID, begin: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC), **metadata: str | int
    ) -> None:
        self.run, self.begin = run, begin
        self.metadata = {"name": "mnist", "namespace": "research", "uid": uid, "generation": 3, **metadata}

    def at(self, second: float) -> datetime:
        return self.begin + timedelta(seconds=second)

    def model(self, round_: int) -> Model:
        return Model(run=self.run, round=round_, bytes=8, layout=PIECE, shards=(PIECE,), digest="blake3:" + "1" * 64)

    def submitted(self, second: float = 0, rounds: int = 2) -> facts.Submitted:
        head = {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning"}
        resource = FederatedLearning.model_validate({**head, "metadata": self.metadata, "spec": {"server": {"rounds": rounds}}})
        return facts.Submitted(at=self.at(second), run=self.run, resource=resource)

    def waiting(self, second: float = 1) -> facts.Waiting:
        return facts.Waiting(
            at=self.at(second), run=self.run, number=1, wanted=2, eligible=1, message="1 of 2 clusters fit", refused=(NO_DATA,)
        )

    def scheduled(self, second: float = 2) -> facts.Scheduled:
        term = Term(criterion="cpu", score=0.5, weight=2)
        chosen = tuple(Chosen(cluster=cluster, score=1, terms=(term,), data="/data") for cluster in CLUSTERS)
        return facts.Scheduled(at=self.at(second), run=self.run, participants=chosen, refused=(NO_DATA,))

    def started(self, second: float = 3, rounds: int = 2) -> facts.Started:
        return facts.Started(at=self.at(second), run=self.run, strategy="fedavg", training_rounds=rounds)

    def exposed(self, second: float, number: int, *addresses: str, **pending: str) -> facts.Exposed:
        """Node ports at these addresses."""
        ports = [int(address.rpartition(":")[2]) for address in addresses]
        listeners = tuple(
            Exposure(name=f"listener-nodeport-{port}", type="NodePort", address=address, port=port)
            for port, address in zip(ports, addresses, strict=True)
        )
        return facts.Exposed(at=self.at(second), run=self.run, number=number, listeners=listeners, pending=pending)

    def opened(self, second: float, round_: int, training_round: int, task: Task = Task.TRAIN) -> facts.Opened:
        return facts.Opened(
            at=self.at(second), run=self.run, round=round_, task=task, training_round=training_round, clusters=CLUSTERS, minimum=1,
            deadline=self.at(second + 60), shard_bytes=8, chunk_bytes=8,
        )  # fmt: skip

    def contributed(self, second: float, round_: int, cluster: str) -> facts.Contributed:
        return facts.Contributed(
            at=self.at(second),
            run=self.run,
            round=round_,
            cluster=cluster,
            attempt="x",
            weight=1,
            metrics={},
            layout=PIECE,
            shards=(PIECE,),
        )

    def declined(self, second: float, round_: int, cluster: str) -> facts.Declined:
        return facts.Declined(at=self.at(second), run=self.run, round=round_, cluster=cluster, reason="app-failed", message="no memory.")

    def rejected(self, second: float, round_: int, cluster: str) -> facts.Rejected:
        return facts.Rejected(at=self.at(second), run=self.run, round=round_, cluster=cluster, reason="unacceptable", message="has 8 bytes")

    def closed(self, second: float, round_: int) -> facts.Closed:
        return facts.Closed(at=self.at(second), run=self.run, round=round_, reason="everyone answered")

    def aggregated(self, second: float, round_: int, training_round: int, task: Task = Task.TRAIN, **metrics: float) -> facts.Aggregated:
        return facts.Aggregated(
            at=self.at(second), run=self.run, round=round_, task=task, training_round=training_round, members=("hospital-a",), weight=1,
            metrics=metrics, model=None if task is Task.EVALUATE else self.model(round_),
        )  # fmt: skip

    def round_failed(self, second: float, round_: int) -> facts.RoundFailed:
        return facts.RoundFailed(at=self.at(second), run=self.run, round=round_, reason="too-few", message="1 of 2 answered")

    def completed(self, second: float = 20) -> facts.Completed:
        return facts.Completed(at=self.at(second), run=self.run, model=self.model(2), metrics={"accuracy": 0.9}, reason="all rounds done")

    def failed(self, second: float = 20) -> facts.Failed:
        return facts.Failed(at=self.at(second), run=self.run, reason="round-failed", message="training round 1 failed 3 times")

    def cancelled(self, second: float = 20) -> facts.Cancelled:
        return facts.Cancelled(at=self.at(second), run=self.run, message="cancelled at the command line")

    def whole(self) -> list[facts.Fact]:
        """Two training rounds; of the first one, a contribution is refused, and in the second one a cluster declines."""
        return [
            self.submitted(), self.waiting(), self.scheduled(), self.started(),
            self.opened(4, 1, 1), self.contributed(5, 1, "hospital-a"), self.contributed(5, 1, "hospital-b"), self.closed(6, 1),
            self.rejected(6, 1, "hospital-b"), self.aggregated(7, 1, 1, loss=0.5),
            self.opened(8, 2, 2), self.contributed(9, 2, "hospital-a"), self.declined(9, 2, "hospital-b"), self.closed(10, 2),
            self.aggregated(11, 2, 2, loss=0.25), self.completed(),
        ]  # fmt: skip


def viewed(*said: facts.Fact) -> RunView:
    """The view of the run that the facts are about, which are at places 1, 2, ... of the log."""
    (view,) = knows(Phases(runs_kept_max=100), recorded(said)).values()
    return view
