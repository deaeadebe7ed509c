"""Clusters of a hub tell what they do where the scheduler says that they can, and keep the traces that it keeps."""

import pytest
from work_story import learning

from fedplane.runtime.settings import TelemetrySettings
from fedplane.scheduler.pods import Outfit, driver_pod, pod
from fedplane.schemas.models import Chosen

APP = {"name": "app"}


def variables(outfit: Outfit, *, drives: bool) -> dict[str, str]:
    """What our process in a run's pod is told."""
    chosen = Chosen(cluster="a", score=0, terms=(), data="/data/a")
    made = driver_pod("r-1", learning(strategy=APP), "app:1", outfit) if drives else pod("r-1", learning(), chosen, outfit)
    ours, _ = made["containers"]
    return {variable["name"]: variable.get("value", "") for variable in ours["env"]}


@pytest.mark.parametrize("drives", [False, True], ids=["collaborator", "driver"])
def test_a_pod_is_told_of_the_collector_and_of_which_traces_are_kept(drives: bool) -> None:
    settings = TelemetrySettings(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG=0.1)
    plain = variables(Outfit("ours:1", "nats://h:4222"), drives=drives)
    told = variables(Outfit("ours:1", "nats://h:4222", settings.handed_on("http://collector:4318")), drives=drives)

    assert {name: value for name, value in told.items() if name not in plain} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "OTEL_METRIC_EXPORT_INTERVAL": "10000",
    }
    assert {name: told[name] for name in plain} == plain


def test_without_a_collector_that_they_reach_clusters_are_told_nothing_of_it() -> None:
    settings = TelemetrySettings(OTEL_EXPORTER_OTLP_ENDPOINT="http://only-on-the-hub:4318")

    assert settings.handed_on("") == {}


def test_every_variable_that_matters_to_a_process_is_handed_on() -> None:
    fields = {str(field.validation_alias) for field in TelemetrySettings.model_fields.values()}

    assert set(TelemetrySettings().handed_on("http://collector:4318")) == fields
