"""The `FederatedLearning` resource: what a user asks for.

Group, version, kind and every field of Open Cluster Management's federated-learning controller are accepted with their defaults.
What fedplane adds is optional. The same YAML goes to `fedplane submit` and to `kubectl apply`.
A field that neither we nor upstream know is refused by name, except inside `placement`, whose schema is not ours and grows on its own.
Source of the upstream part: federation-ai.open-cluster-management.io/v1alpha1 (addon-contrib/federated-learning-controller).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel

from fedplane.schemas.models import METRIC_CHARACTERS_MAX, Configuration
from fedplane.schemas.quantities import Quantity

__all__ = [
    "API_VERSION", "APP_ANNOTATION", "FRAMEWORKS", "IGNORE_UNKNOWN", "KIND",
    "FederatedLearning", "Placement", "Requirement", "RoundPolicy", "Spec", "Stop", "explain_invalid",
]  # fmt: skip

API_VERSION = "federation-ai.open-cluster-management.io/v1alpha1"
KIND = "FederatedLearning"
APP_ANNOTATION = "fedplane.io/app"
"""Where the app's directory is when clusters are processes of one machine; relative to the YAML file. Elsewhere the image holds the app."""

FRAMEWORKS = ("flower", "openfl", "other")
"""Upstream's three; which of them a cluster can run is the cluster's to say when it advertises."""

ROUNDS_MAX = 100_000
"""A bound on the rounds one resource may ask for: a year of five-minute rounds."""


IGNORE_UNKNOWN = "ignore unknown fields"
"""Validation context for a resource from the log: whoever put it there had it checked, perhaps by a later version than this one."""

PROBLEMS_EXPLAINED_MAX = 1_000
"""More problems than a person would read; a hostile message of a megabyte can have 300,000, which would take seconds to write down."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _ignore_unknown(cls, given: Any, info: ValidationInfo) -> Any:
        if info.context != IGNORE_UNKNOWN or not isinstance(given, dict):
            return given
        known = {*cls.model_fields, *(to_camel(name) for name in cls.model_fields)}
        return {name: value for name, value in given.items() if name in known}


class Requirement(_Part):
    """One line of a selector: `key operator values`, as Kubernetes writes it."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class _Open(BaseModel):
    """A part whose schema is not ours: fields that we do not read are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)


class LabelSelector(_Open):
    """Labels a cluster must have; both parts must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class ClaimSelector(_Open):
    """Claims a cluster must have."""

    match_expressions: tuple[Requirement, ...] = ()


class ClusterSelector(_Open):
    """Labels and claims; both must hold."""

    label_selector: LabelSelector = LabelSelector()
    claim_selector: ClaimSelector = ClaimSelector()


class Predicate(_Open):
    """One alternative of a placement's predicates."""

    required_cluster_selector: ClusterSelector = ClusterSelector()


class Placement(_Open):
    """Open Cluster Management's PlacementSpec. A cluster must satisfy any one of the predicates, if there are any."""

    cluster_sets: tuple[str, ...] = ()
    number_of_clusters: int | None = Field(default=None, ge=0)
    predicates: tuple[Predicate, ...] = ()


class S3(_Part):
    """A bucket for models."""

    bucket_name: str
    region: str = ""
    prefix: str = ""


class Storage(_Part):
    """Where the model is kept on the hub."""

    name: str = ""
    type: str = ""
    size: str = ""
    path: str = ""
    s3: S3 | None = None


class Listener(_Part):
    """How the server is reached from outside the hub."""

    name: str = ""
    port: int = 8080
    type: str = ""
    ip: str = ""


class Server(_Part):
    """The hub's side of a run."""

    image: str = ""
    rounds: int = Field(default=3, ge=1, le=ROUNDS_MAX)
    min_available_clients: int = Field(default=1, ge=1)
    listeners: tuple[Listener, ...] = ()
    storage: Storage | None = None
    superlink: str = "superlink.flower-system:9091"


class Client(_Part):
    """The clusters' side of a run."""

    image: str = ""
    placement: Placement = Placement()
    supernode: str = "flower-supernode.flower-addon:9094"


class StrategySpec(_Part):
    """Ours: how contributions become the next model. The aggregator's table has the names."""

    name: str = "fedavg"
    parameters: dict[str, float] = {}


class Stop(_Part):
    """Ours: the metric that judges models, and when it ends a run before its last round.

    metric: its name, as the app reports it. mode: whether more of it is better, or less.
    target: the run ends when the metric is that good. patience: it ends after so many training rounds in which the metric did not improve.
    """

    metric: str = Field(min_length=1, max_length=METRIC_CHARACTERS_MAX)
    mode: Literal["max", "min"]
    target: float | None = None
    patience: int | None = Field(default=None, ge=1, le=ROUNDS_MAX)


class RoundPolicy(_Part):
    """Ours: what a round may take, whom it asks, and when the run has had enough of them.

    deadline_seconds: a round closes then with whoever answered. attempts: how often one training round is tried before the run fails.
    evaluate: whether every new model is evaluated on the clusters' own data. evaluate_on: on how many of them; else on all.
    invite: how many clusters a training round asks, drawn anew for each; else all. seed: another one draws other clusters.
    close_at: a training round closes as soon as so many contributions are in.
    quorum: how many it needs, at its deadline as at any time; else server.min_available_clients.
    stop: which metric judges the models, and when it ends the run early. keep: whether the run's model is the last or the best one.
    weight_max: an answer that claims to count for more is refused.
    What does not go together is refused by the aggregator, which knows what the fields mean.
    """

    deadline_seconds: float = Field(default=600, ge=1, le=7 * 24 * 3600)
    attempts: int = Field(default=3, ge=1, le=100)
    evaluate: bool = True
    evaluate_on: int | None = Field(default=None, ge=1)
    invite: int | None = Field(default=None, ge=1)
    seed: int = 0
    close_at: int | None = Field(default=None, ge=1)
    quorum: int | None = Field(default=None, ge=1)
    stop: Stop | None = None
    keep: Literal["last", "best"] = "last"
    weight_max: float | None = Field(default=None, gt=0)


class Data(_Part):
    """Ours: the claims a cluster must advertise to take part.

    `claim` names the one that holds where the data is; the default is `<resource name>.client-data`.
    """

    claim: str = ""
    required_claims: tuple[str, ...] = ()


class Requests(_Part):
    """What a collaborator needs at least; cores and bytes as Kubernetes quantities."""

    cpu: Quantity = "0"
    memory: Quantity = "0"


class Resources(_Part):
    """Ours: resources per collaborator."""

    requests: Requests = Requests()


class Spec(_Part):
    """What a run is to do.

    Ours: `weights` overrides the weight of a scoring criterion by its name; `config` is handed to the app as its run configuration.
    """

    framework: str = "other"
    server: Server = Server()
    client: Client = Client()
    strategy: StrategySpec = StrategySpec()
    rounds: RoundPolicy = RoundPolicy()
    data: Data = Data()
    resources: Resources = Resources()
    weights: dict[str, float] = {}
    config: Configuration = {}


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


class FederatedLearning(_Part):
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
