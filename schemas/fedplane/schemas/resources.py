"""The `FederatedLearning` resource: what a user asks for.

Group, version, kind and every field of Open Cluster Management's federated-learning controller are accepted with their defaults.
What fedplane adds is optional. The same YAML goes to `fedplane submit` and to `kubectl apply`.
A field that neither we nor upstream know is refused by name, except inside `placement`, whose schema is not ours and grows on its own.
Source of the upstream part: federation-ai.open-cluster-management.io/v1alpha1 (addon-contrib/federated-learning-controller).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fedplane.schemas.models import METRIC_CHARACTERS_MAX, Configuration
from fedplane.schemas.names import NAME_CHARACTERS_MAX, NAME_PATTERN
from fedplane.schemas.parts import IGNORE_UNKNOWN, Part
from fedplane.schemas.placements import Placement
from fedplane.schemas.privacy import Privacy
from fedplane.schemas.templates import Resources, Template

__all__ = [
    "API_VERSION", "APP_ANNOTATION", "APP_STRATEGY", "FRAMEWORKS", "IGNORE_UNKNOWN", "KIND", "TREES_FRAMEWORK",
    "FederatedLearning", "RoundPolicy", "Spec", "Stop", "explain_invalid",
]  # fmt: skip

API_VERSION = "federation-ai.open-cluster-management.io/v1alpha1"
KIND = "FederatedLearning"
APP_ANNOTATION = "fedplane.io/app"
"""Where the app's directory is when clusters are processes of one machine; relative to the YAML file. Elsewhere the image holds the app."""

APP_STRATEGY = "app"
"""The strategy's name when the app's own server decides what is asked and what comes of it."""

FRAMEWORKS = ("flower", "openfl", "other", "torch", "sklearn", "xgboost")
"""Upstream's three, and ours; which of them a cluster can run is the cluster's to say when it advertises."""

TREES_FRAMEWORK = "xgboost"
"""The framework whose models are trees. They cannot be averaged, only appended."""

ROUNDS_MAX = 100_000
"""A bound on the rounds one resource may ask for: a year of five-minute rounds."""

CHECKPOINTS_MAX = 100
"""A bound on the models of a run that stay stored: of a model of 300 MB, a hundred are 30 GB."""

CARRY_MAX = 100
"""More rounds than after which an update is any good; for each of them a model may have to stay stored."""

PROBLEMS_EXPLAINED_MAX = 1_000
"""More problems than a person would read; a hostile message of a megabyte can have 300,000, which would take seconds to write down."""


class S3(Part):
    """A bucket for models."""

    bucket_name: str
    """The bucket's name."""
    region: str = ""
    """The region it is in."""
    prefix: str = ""
    """The folder within the bucket."""


class Storage(Part):
    """Where the model is kept on the hub."""

    name: str = ""
    """The PersistentVolumeClaim's name, or that of the Secret with the bucket's credentials."""
    type: str = ""
    """PersistentVolumeClaim, HostPath or S3Bucket."""
    size: str = ""
    """How much room there is, as a quantity."""
    path: str = ""
    """Where the model is, a directory or a file."""
    s3: S3 | None = None
    """The bucket, if it is one."""


class Listener(Part):
    """A way to the bus from outside the hub."""

    name: str = ""
    """A name for people; for an Ingress, the host name under which clusters reach it."""
    port: int = 8080
    """The port that is open to the outside; for a Route or an Ingress it is 443, whatever is said here."""
    type: str = ""
    """NodePort, LoadBalancer, Route or Ingress."""
    ip: str = ""
    """The node's address, for a NodePort; none: that of the hub's first ready node, by name."""


class Server(Part):
    """The hub's side of a run."""

    image: str = ""
    """The image that has the app's own server, for the strategy app; none: that of the clients. Else it is upstream's, and not used."""
    rounds: int = Field(default=3, ge=1, le=ROUNDS_MAX)
    """How many training rounds the run has; 3 if nothing is said."""
    min_available_clients: int = Field(default=1, ge=1)
    """How many clusters must be there to start; 1 if nothing is said."""
    listeners: tuple[Listener, ...] = ()
    """How clusters reach the bus; they are told the last one's address. None: the one that the scheduler was told."""
    storage: Storage | None = None
    """Where the model is kept on the hub."""
    initial_model: str = Field(default="", max_length=NAME_CHARACTERS_MAX, pattern=f"^({NAME_PATTERN[1:-1]})?$")
    """Ours: the id of the ended run from whose model this one starts; none: one of the clusters makes a new one."""
    superlink: str = "superlink.flower-system:9091"
    """Upstream's SuperLink: service.namespace:port."""


class Client(Part):
    """The clusters' side of a run."""

    image: str = ""
    """The image that has the user's app."""
    placement: Placement = Placement()
    """Which clusters may take part: Open Cluster Management's PlacementSpec."""
    placement_ref: str = Field(default="", max_length=253)
    """Ours: the name of a Placement in the object's namespace; its decisions are the clusters to choose from."""
    supernode: str = "flower-supernode.flower-addon:9094"
    """Upstream's SuperNode: service.namespace:port."""
    template: Template = Template()
    """The collaborator's pod beyond its image."""


class StrategySpec(Part):
    """Ours: how contributions become the next model. The aggregator's table has the names."""

    name: str = "fedavg"
    """The strategy's name."""
    parameters: dict[str, float] = {}
    """Its parameters by name; each has a default."""


class Stop(Part):
    """Ours: the metric that judges models, and when it ends a run before its last round."""

    metric: str = Field(min_length=1, max_length=METRIC_CHARACTERS_MAX)
    """The metric's name, as the app reports it."""
    mode: Literal["max", "min"]
    """Whether more of it is better, or less."""
    target: float | None = None
    """The run ends when the metric is that good."""
    patience: int | None = Field(default=None, ge=1, le=ROUNDS_MAX)
    """The run ends after so many training rounds in which the metric did not improve."""


class RoundPolicy(Part):
    """Ours: what a round may take, whom it asks, and when the run has had enough of them.

    What does not go together is refused by the aggregator, which knows what the fields mean.
    """

    deadline_seconds: float = Field(default=600, ge=1, le=7 * 24 * 3600)
    """A round closes then with whoever answered."""
    attempts: int = Field(default=3, ge=1, le=100)
    """How often one training round is tried before the run fails."""
    evaluate: bool = True
    """Whether every new model is evaluated on the clusters' own data."""
    evaluate_on: int | None = Field(default=None, ge=1)
    """On how many clusters a model is evaluated; none: on all."""
    invite: int | None = Field(default=None, ge=1)
    """How many clusters a training round asks, drawn anew for each; none: all."""
    seed: int = 0
    """Another one draws other clusters."""
    close_at: int | None = Field(default=None, ge=1)
    """A training round closes as soon as so many contributions are in."""
    quorum: int | None = Field(default=None, ge=1)
    """How many contributions a training round needs, at its deadline as at any time; none: server.minAvailableClients."""
    carry: int = Field(default=0, ge=0, le=CARRY_MAX)
    """For how many further training rounds an update may still count that was not ready when its round closed."""
    stop: Stop | None = None
    """Which metric judges the models, and when it ends the run early."""
    keep: Literal["last", "best"] = "last"
    """Whether the run's model is the last or the best one."""
    checkpoints: int = Field(default=1, ge=1, le=CHECKPOINTS_MAX)
    """How many of the last models stay stored, besides the best one by the stop's metric."""
    weight_max: float | None = Field(default=None, gt=0)
    """An answer that claims to count for more is refused."""


class Data(Part):
    """Ours: the claims a cluster must advertise to take part."""

    claim: str = ""
    """The claim that says where the data is; none: the last one that the placement selects by Exists, else <resource name>.client-data."""
    required_claims: tuple[str, ...] = ()
    """Other claims that a cluster must advertise."""


class Spec(Part):
    """What a run is to do."""

    framework: str = "other"
    """The framework the app is written for."""
    server: Server = Server()
    """The hub's side of the run."""
    client: Client = Client()
    """The clusters' side of the run."""
    strategy: StrategySpec = StrategySpec()
    """How contributions become the next model."""
    fold: bool = False
    """Ours: with the strategy app, whether training replies reach the app's server as their mean only. Its strategy has to be linear."""
    rounds: RoundPolicy = RoundPolicy()
    """What a round may take, whom it asks, and when the run has had enough of them."""
    data: Data = Data()
    """What a cluster must have to take part."""
    privacy: Privacy = Privacy()
    """What nobody is to learn of a cluster's data."""
    resources: Resources = Resources()
    """What a collaborator needs of its cluster."""
    weights: dict[str, float] = {}
    """The weights of scoring criteria, by name, in place of their defaults."""
    config: Configuration = {}
    """What the app is told besides the model: its run configuration."""


def _named(text: str) -> str:
    if not text or len(text) > 253:
        raise ValueError("a resource's name has 1 to 253 characters")
    return text


class Metadata(BaseModel):
    """The Kubernetes metadata that a run needs; the rest is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"), AfterValidator(_named)]
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    annotations: dict[str, str] = {}


class FederatedLearning(Part):
    """One `FederatedLearning` object, without its status."""

    api_version: Literal["federation-ai.open-cluster-management.io/v1alpha1"]
    kind: Literal["FederatedLearning"]
    metadata: Metadata
    spec: Spec = Spec()
    status: dict[str, Any] | None = Field(default=None, exclude=True)

    @property
    def data_claim(self) -> str:
        """The claim whose value says where a cluster's data is.

        Named by `spec.data.claim`; else, as upstream infers it, the key of the last `Exists` expression of the placement's claim selectors;
        else `<name>.client-data`, upstream's convention.
        """
        exists = [
            line.key
            for predicate in self.spec.client.placement.predicates
            for line in predicate.required_cluster_selector.claim_selector.match_expressions
            if line.operator == "Exists"
        ]
        return self.spec.data.claim or (exists[-1] if exists else f"{self.metadata.name}.client-data")


def explain_invalid(error: ValidationError) -> str:
    """A validation error as lines a person can act on: the field's path in the YAML, and what is wrong with it."""
    if error.error_count() > PROBLEMS_EXPLAINED_MAX:
        return f"the document is wrong in {error.error_count()} places"
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"]) or "the document"
        said = "is not a field of this resource" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
        given = "" if isinstance(problem["input"], dict | list) or problem["type"] == "extra_forbidden" else f" (got {problem['input']!r})"
        lines.append(f"{path}: {said}{given}")
    return "\n".join(lines)
