"""Whatever a resource and a cluster are called, a work for them is one that Kubernetes takes."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from fedplane.scheduler.pods import Outfit, literal
from fedplane.scheduler.works import WORK_BYTES_MAX, work
from fedplane.schemas.models import Chosen
from fedplane.schemas.names import NAME_PATTERN, run_id
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

RESOURCE_NAMES = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", fullmatch=True)
CLUSTERS = st.from_regex(NAME_PATTERN[1:-1], fullmatch=True).filter(lambda name: len(name) <= 63)
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def expanded(text, variables):
    """As Kubernetes expands arguments: `$$` is a dollar, `$(NAME)` a variable if there is one."""
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda found: "$" if found[1] is None else variables.get(found[1], found[0]), text)


@given(RESOURCE_NAMES, st.uuids(), CLUSTERS, st.text(max_size=1024))
def test_names_and_labels_are_legal(name, uid, cluster, data):
    resource = FederatedLearning.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {"client": {"image": "app:1"}}}
    )
    run = run_id(name, str(uid))

    made = work(run, resource, Chosen(cluster=cluster, score=0, terms=(), data=data), Outfit("ours:1", "nats://h:4222"))

    (job,) = made["spec"]["workload"]["manifests"]
    labels = [made["metadata"]["labels"], job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]]
    assert (made["metadata"]["namespace"], made["metadata"]["name"], job["metadata"]["name"]) == (cluster, run, run)
    assert DNS_LABEL.fullmatch(run)
    assert all(LABEL.fullmatch(value) for each in labels for value in each.values())
    assert len(json.dumps(made)) < WORK_BYTES_MAX


@given(st.text())
def test_a_literal_is_what_it_was_after_kubernetes_has_expanded_it(text):
    assert expanded(literal(text), {"": "x", "A": "x", text: "x"}) == text
