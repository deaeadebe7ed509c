"""What operators see in Grafana: every panel, with its queries and what to do when it looks bad, as one literal table.

A panel answers one question, and its description says what to do about a bad answer.
`draw` makes Grafana's files of this table. What the metrics and spans mean is said where they are made:
`fedplane.runtime.metrics` and `fedplane.runtime.spans`; a test compares every name that is used here with those.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DASHBOARDS", "Choice", "Dashboard", "Look", "Panel", "Query", "grown"]


class Look(StrEnum):
    """How a panel shows its queries. TRACES is a table of traces by TraceQL; all others show series by PromQL."""

    LINES = "lines"
    BARS = "bars"
    NUMBERS = "numbers"
    HEATMAP = "heatmap"
    TRACES = "traces"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL or TraceQL, and how a series of its answer is called."""

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and its answer. Units are Grafana's: `s`, `bytes`, `Bps`, `short`; `percentunit` is a share of one."""

    title: str
    look: Look
    tells: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person may choose on a dashboard: one of `values`, or of what `query` finds; the first, or everything, if they do not."""

    name: str
    label: str
    values: tuple[str, ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    tells: str
    panels: tuple[Panel, ...]
    choices: tuple[Choice, ...] = ()


STEP = "$__interval"
"""What one bar or point of a graph stands for; Grafana puts in what fits the range that is looked at."""

RATE = "$__rate_interval"
"""The same, and never less than four messages with metrics, as `rate` needs."""


def grown(series: str) -> str:
    """PromQL for how much counters grew in a step, the first count included.

    `increase` begins at a series' first value, and ours begin at the first event: a process says nothing of failures until one happens.
    So a run's only failure would not be seen. What was not there a step ago therefore counts whole.
    A process that is started anew under its old name counts from nothing; what it then adds shows when it exceeds what it had.
    """
    return f"max_over_time({series}[{STEP}]) - {series} offset {STEP} or max_over_time({series}[{STEP}])"


def growth(series: str, by: str) -> str:
    """PromQL for how much counters grew, added up for each value of these labels."""
    return f"sum by ({by}) ({grown(series)})"


def quantile(share: float, histogram: str, by: str = "", matching: str = "") -> str:
    """PromQL for the duration that this share of the measured ones stayed below."""
    return f"histogram_quantile({share}, {growth(f'{histogram}_bucket{matching}', f'le, {by}' if by else 'le')})"


RUNS = Dashboard(
    "fedplane-runs", "Runs", "Which runs go on, how they end, and what their apps measure.",
    (
        Panel(
            "Runs that go on", Look.NUMBERS,
            "A run that is Waiting has not found the clusters it needs: `fedplane explain RUN` says why each one was refused. "
            "Nothing at all means that no status service tells: see Aggregators, replicas.",
            (Query("max by (fedplane_phase) (fedplane_active_runs)", "{{fedplane_phase}}"),), width=6,
        ),
        Panel(
            "Runs that ended", Look.BARS,
            "Failures are told apart beside this. Runs that a person cancelled by the command line are not counted.",
            (Query(growth("fedplane_runs_total", "fedplane_outcome"), "{{fedplane_outcome}}"),), width=9,
        ),
        Panel(
            "Failures, by reason", Look.BARS,
            "RoundFailed: see Rounds for why. BadRequest: the resource is at fault, and `fedplane get RUN` says where. "
            "ServerFailed: the app's own server ended; its last words are in the run's log.",
            (Query(growth('fedplane_runs_total{fedplane_outcome="failed"}', "error_type"), "{{error_type}}"),), width=9,
        ),
        Panel(
            "What the apps measure", Look.LINES,
            "The last value that each run has reached. A curve that stays flat learns nothing: look at the app, its data, "
            "and the strategy. The 20 latest runs are shown while they go on.",
            (Query('max by (fedplane_run, fedplane_metric) (fedplane_run_metric{fedplane_metric=~"$metric"})',
                   "{{fedplane_run}} {{fedplane_metric}}"),),
        ),
        Panel(
            "From submission to clusters", Look.LINES,
            "How long runs waited to be placed. Long waits mean too few clusters that fit, or clusters that do not advertise: see Fleet.",
            (Query(quantile(0.5, "fedplane_placement_duration_seconds"), "half"),
             Query(quantile(0.95, "fedplane_placement_duration_seconds"), "95%")), "s",
        ),
        Panel(
            "Runs that failed", Look.TRACES,
            "Open a trace: its events have the reason, and the sentence that goes with it.",
            (Query('{ name = "run" && status = error } | select(span.fedplane.run, span.error.type)'),), width=24,
        ),
    ),
    (Choice("metric", "Metric", query="label_values(fedplane_run_metric, fedplane_metric)"),),
)  # fmt: skip

ROUNDS = Dashboard(
    "fedplane-rounds", "Rounds", "How long rounds take, why one is slow, and why one fails. Each dot leads to a trace.",
    (
        Panel(
            "How long rounds take", Look.HEATMAP,
            "Darker is more rounds. Press on a dot and choose the trace: what ends last in it is what the round waited for. "
            "A dark line at the deadline means that rounds wait for clusters that do not answer.",
            (Query(growth('fedplane_round_duration_seconds_bucket{fedplane_task=~"$task"}', "le"), "{{le}}"),), "s",
        ),
        Panel(
            "Half and 95% of the rounds", Look.LINES,
            "A gap between the two means that single clusters hold rounds up; both rising, that everything is slower.",
            (Query(quantile(0.5, "fedplane_round_duration_seconds", "fedplane_task"), "{{fedplane_task}}, half"),
             Query(quantile(0.95, "fedplane_round_duration_seconds", "fedplane_task"), "{{fedplane_task}}, 95%")), "s",
        ),
        Panel(
            "Slow rounds", Look.TRACES,
            "The slowest of the latest first. Read a trace from its end: `train` is a cluster's app, `download model` and `upload update` "
            "its line, `fold shard` an aggregator, and an `invite` with nothing in it a cluster that did not hear.",
            (Query('{ name =~ "round .*" && duration > $slow } | select(span.fedplane.run, span.fedplane.round, span.fedplane.task)'),),
        ),
        Panel(
            "Failed rounds", Look.TRACES,
            "too-few: too few clusters answered in time; their invites say why. too-large, unfoldable: the model or the updates.",
            (Query('{ name =~ "round .*" && status = error } | select(span.fedplane.run, span.fedplane.round, span.error.type)'),),
        ),
        Panel(
            "What became of the questions", Look.BARS,
            "Each cluster that a round asked ends as one of these. Unanswered: raise the deadline, or see Fleet for the cluster. "
            "Declined and rejected: see Fleet for the reasons.",
            (Query(growth("fedplane_contributions_total", "fedplane_outcome"), "{{fedplane_outcome}}"),),
        ),
        Panel(
            "Until an answer counts", Look.LINES,
            "From a round's opening to each answer. Where 95% is far above half, `spec.rounds.closeAt` ends rounds without the last.",
            (Query(quantile(0.5, "fedplane_contribution_duration_seconds", "fedplane_task"), "{{fedplane_task}}, half"),
             Query(quantile(0.95, "fedplane_contribution_duration_seconds", "fedplane_task"), "{{fedplane_task}}, 95%")), "s",
        ),
        Panel(
            "Rounds that ended, and why some failed", Look.BARS,
            "Rounds without a reason were aggregated or cancelled.",
            (Query(growth("fedplane_rounds_total", "fedplane_outcome, error_type"), "{{fedplane_outcome}} {{error_type}}"),),
            width=24,
        ),
    ),
    (Choice("task", "Task", ("train", "evaluate", "initialize", "reply")), Choice("slow", "Slow is more than", ("10s", "1s", "1m", "10m"))),
)  # fmt: skip

AGGREGATORS = Dashboard(
    "fedplane-aggregators", "Aggregators and backlog", "Whether the services keep up: who is there, what waits, how long folds take.",
    (
        Panel(
            "Replicas", Look.NUMBERS,
            "Processes that have spoken within the last minute. Fewer than you started: see the orchestrator, then the service's log. "
            "One is enough for work to go on; none is not.",
            (Query("count by (job) (count by (job, instance) (present_over_time(fedplane_log_lag[1m])))", "{{job}}"),),
        ),
        Panel(
            "Shards to fold", Look.LINES,
            "Waiting shards that do not become fewer mean too few aggregators, or a slow store: add replicas, or see the folds below.",
            (Query("max by (fedplane_state) (fedplane_work_backlog)", "{{fedplane_state}}"),),
        ),
        Panel(
            "Time per shard", Look.LINES,
            "Reading and writing included. Longer with the same models: the store is slow, see Bus. "
            "With larger models it is what it costs; FEDPLANE_SHARD_BYTES says how large a shard is.",
            (Query(quantile(0.5, "fedplane_fold_duration_seconds", "fedplane_work"), "{{fedplane_work}}, half"),
             Query(quantile(0.95, "fedplane_fold_duration_seconds", "fedplane_work"), "{{fedplane_work}}, 95%")), "s",
        ),
        Panel(
            "Facts that replicas are behind", Look.LINES,
            "More than a moment's work means a replica that cannot keep up, or whose connection is lost: its log says which.",
            (Query("max by (job, instance, fedplane_core) (fedplane_log_lag)", "{{job}} {{instance}} {{fedplane_core}}"),),
        ),
        Panel(
            "Models and updates, bytes a second", Look.LINES,
            "What each service reads and writes. All of it passes the bus's disks and network: compare with what those can do.",
            (Query(f"sum by (job, network_io_direction) (rate(fedplane_bulk_io_bytes_total[{RATE}]))",
                   "{{job}} {{network_io_direction}}"),), "Bps",
        ),
        Panel(
            "Facts stated, a second", Look.LINES,
            "What the federation does. Nothing, while runs go on, means that they are stuck: see the alert RunStuck.",
            (Query(f"sum by (job) (rate(fedplane_facts_total[{RATE}]))", "{{job}}"),),
        ),
    ),
)  # fmt: skip

FLEET = Dashboard(
    "fedplane-fleet", "Fleet and refusals", "What the clusters do: how long their apps work, what they decline, and what is refused.",
    (
        Panel(
            "How long apps work, by cluster", Look.LINES,
            "A cluster far above the others holds every round up: a smaller share of data, more CPU, or `spec.rounds.closeAt`.",
            (Query(quantile(0.5, "fedplane_app_duration_seconds", "fedplane_cluster", '{fedplane_task="train"}'), "{{fedplane_cluster}}"),),
            "s",
        ),
        Panel(
            "Apps that failed, by cluster", Look.BARS,
            "app-raised is an exception of the app: the trace has its last words. crashed, hung, timed-out: memory, or a deadlock.",
            (Query(growth('fedplane_app_duration_seconds_count{error_type!=""}', "fedplane_cluster, error_type"),
                   "{{fedplane_cluster}} {{error_type}}"),),
        ),
        Panel(
            "Answers that did not count, by reason", Look.BARS,
            "unanswered: too late, or not there. bus-full: see Bus. bad-update, wrong-layout: the app's model is not the run's. "
            "no-environment: the app's packages could not be had.",
            (Query(growth('fedplane_contributions_total{fedplane_outcome!="accepted"}', "error_type"), "{{error_type}}"),),
        ),
        Panel(
            "Answers that did not count, by cluster", Look.BARS,
            "One cluster alone: look at that cluster. All of them: look at the app, or at the bus. "
            "A cluster that was refused in three rounds is not asked again in that run.",
            (Query(growth('fedplane_contributions_total{fedplane_outcome!="accepted"}', "fedplane_cluster"),
                   "{{fedplane_cluster}}"),),
        ),
        Panel(
            "Permissions denied", Look.BARS,
            "Any at all is a fault: a service's account may not do what its work needs. Its log names what was refused.",
            (Query(growth("fedplane_denials_total", "job, fedplane_server"), "{{job}} by {{fedplane_server}}"),),
        ),
        Panel(
            "Connections refused", Look.BARS,
            "subject, authority, certificate: somebody who is none of ours, or a certificate that was made wrongly. not-granted, expired: "
            "a subscriber to be granted something anew. revoked: whom you have thrown out asks again. The authorizer's log names each.",
            (Query(growth("fedplane_connections_refused_total", "error_type"), "{{error_type}}"),),
        ),
        Panel(
            "Who did not contribute", Look.TRACES,
            "The latest answers that were declined, rejected or missing, each in the trace of its round.",
            (Query('{ name = "invite" && span.fedplane.outcome != "accepted" } '
                   "| select(span.fedplane.run, span.fedplane.cluster, span.fedplane.outcome, span.error.type)"),),
        ),
    ),
)  # fmt: skip

BUS = Dashboard(
    "fedplane-bus", "Bus", "What nats-server says of itself, by way of natsio/prometheus-nats-exporter, which reads its monitoring port.",
    (
        Panel(
            "Store in use", Look.LINES,
            "At one, nothing can be stated and every run stops: shorten retention, or give the server more disk. "
            "Nothing here: the exporter does not reach the server.",
            (Query("max by (server_name) (jetstream_server_total_message_bytes / jetstream_server_max_storage)", "{{server_name}}"),),
            "percentunit",
        ),
        Panel(
            "Streams", Look.LINES,
            "BULK has models and updates, LOG the facts of runs. One that only grows is not cleaned: see the status service's log.",
            (Query("max by (stream_name) (jetstream_stream_total_bytes)", "{{stream_name}}"),), "bytes",
        ),
        Panel(
            "Messages in streams", Look.LINES,
            "LETTERS has facts that webhooks refused; anything in it waits for a person.",
            (Query("max by (stream_name) (jetstream_stream_total_messages)", "{{stream_name}}"),),
        ),
        Panel(
            "Messages that consumers have not had", Look.LINES,
            "Each reader of the log. A line that rises belongs to somebody who is gone or too slow.",
            (Query("max by (stream_name, consumer_name) (jetstream_consumer_num_pending)", "{{stream_name}} {{consumer_name}}"),),
        ),
        Panel(
            "Network, bytes a second", Look.LINES,
            "At the line's limit, rounds with large models wait for it: fewer clusters at once, or more servers.",
            (Query(f"sum by (server_id) (rate(gnatsd_varz_in_bytes[{RATE}]))", "{{server_id}} in"),
             Query(f"sum by (server_id) (rate(gnatsd_varz_out_bytes[{RATE}]))", "{{server_id}} out")), "Bps",
        ),
        Panel(
            "Memory", Look.LINES,
            "The server caches its store up to GOMEMLIMIT; near the container's limit it is killed.",
            (Query("gnatsd_varz_mem", "{{server_id}}"),), "bytes",
        ),
        Panel(
            "Connections", Look.LINES,
            "One per service replica and cluster. Clusters that come and go all the time have a bad line, or expired credentials.",
            (Query("gnatsd_varz_connections", "{{server_id}}"),),
        ),
        Panel(
            "Slow consumers", Look.LINES,
            "Clients that the server cut off since it started, for not reading what they asked for. They connect again and lose nothing; "
            "many mean an overloaded machine.",
            (Query("gnatsd_varz_slow_consumers", "{{server_id}}"),),
        ),
    ),
)  # fmt: skip

DASHBOARDS: tuple[Dashboard, ...] = (RUNS, ROUNDS, AGGREGATORS, FLEET, BUS)
"""From what a user notices to what only an operator does."""
