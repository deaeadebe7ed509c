"""What an object asks for: read from the API's JSON, whatever is in it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.wishes import FINALIZER, REQUEST_BYTES_MAX, Wish, differences, wish
from fedplane.schemas.envelope import read, write
from fedplane.schemas.facts import Submitted
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def body(spec=None, status=None, **metadata):
    given_metadata = {"name": "r", "namespace": "ns", "uid": "0a1b2c3d-4", "generation": 2, "resourceVersion": "7", **metadata}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": given_metadata, "spec": spec or {}, "status": status or {}}


def resource(spec=None, annotations=None):
    metadata = {"name": "r", "namespace": "ns", "uid": "0a1b2c3d-4", "generation": 2, "annotations": annotations or {}}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec or {}})


def test_an_object_is_read_as_the_run_that_it_means():
    asked = {"framework": "flower", "server": {"rounds": 5}}

    assert wish(body(asked)) == Wish(run="r-0a1b2c3d", uid="0a1b2c3d-4", version="7", resource=resource(asked))


def test_of_the_annotations_only_ours_goes_to_the_log():
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 900_000, "fedplane.io/app": "app"}

    assert wish(body(annotations=annotations)).resource == resource(annotations={"fedplane.io/app": "app"})


def test_finalizers_deletion_and_its_own_end_are_seen():
    told = {"run": "r-0a1b2c3d", "phase": "Failed"}
    seen = wish(body(status=told, finalizers=["other/x", FINALIZER], deletionTimestamp="2026-01-02T12:00:00Z"))

    assert (seen.finalizers, seen.held, seen.deleting, seen.ended) == (("other/x", FINALIZER), True, True, True)


@pytest.mark.parametrize(
    "told",
    [{}, {"phase": "Failed"}, {"run": "r-0a1b2c3d", "phase": "Running"}, {"run": "r-99999999", "phase": "Completed"}, "nonsense", []],
)
def test_a_status_of_a_run_that_goes_on_or_of_another_run_is_no_end(told):
    assert not wish(body(status=told)).ended


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"server": {"rounds": 0}, "extra": 1},
            "spec.server.rounds: Input should be greater than or equal to 1 (got 0); spec.extra: is not a field of this resource",
        ),
        ("text", "spec: Input should be a valid dictionary or instance of Spec (got 'text')"),
        (["list"], "spec: Input should be a valid dictionary or instance of Spec"),
    ],
)
def test_what_cannot_be_a_run_is_its_metadata_and_the_reason(spec, why):
    assert wish(body(spec)) == Wish(run="r-0a1b2c3d", uid="0a1b2c3d-4", version="7", resource=resource(), invalid=why)


def test_what_is_too_large_for_a_fact_is_told_its_size():
    read_ = wish(body({"server": {"image": "x" * REQUEST_BYTES_MAX}}))

    assert read_.resource == resource()
    assert read_.invalid.endswith("bytes, and what asks for a run may have 890000; shorten its largest fields")


@pytest.mark.parametrize("metadata", [{"name": "UPPER"}, {"name": ""}, {"uid": ""}, {"uid": "---"}])
def test_metadata_that_no_server_would_have_taken_is_bad_input(metadata):
    with pytest.raises(BadInput, match="has metadata that cannot be"):
        wish(body(**metadata))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
PARTS = ("framework", "server", "client", "strategy", "rounds", "data", "resources", "weights", "config")


@given(st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=5), JSON, max_size=4))
def test_whatever_an_object_says_its_request_fits_the_log_and_is_read_back_the_same(spec):
    found = wish(body(spec))
    fact = Submitted(run=found.run, at=NOON, resource=found.resource, from_hub=True, invalid=found.invalid)
    wire = write(fact, "/test")

    assert read(wire.subject, wire.headers, wire.body) == fact


def test_differences_name_the_field_and_both_values_and_a_default_written_out_is_none():
    before = resource({"server": {"rounds": 3}})
    now = resource({"server": {"rounds": 4, "minAvailableClients": 1}, "config": {"rate": 0.5}})

    assert list(differences(before, before)) == []
    assert list(differences(before, resource({"server": {"rounds": 3, "minAvailableClients": 1}}))) == []
    assert list(differences(before, now)) == ["spec.config.rate is not said and not 0.5", "spec.server.rounds is 3 and not 4"]
