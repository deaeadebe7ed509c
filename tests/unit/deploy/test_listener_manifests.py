"""The listeners that a scheduler makes lead to the bus of deploy/, as `kubectl kustomize` builds it."""

from manifest_story import built_in, container, matches, named

from fedplane.scheduler.listeners import Entrance, objects


def test_a_listener_leads_to_the_bus_where_the_policy_for_it_is_added() -> None:
    bus = named("base", "StatefulSet", "nats")
    ports = {each["containerPort"] for each in container(bus)["ports"]}
    policies = built_in("namespace: fedplane\nresources: [DEPLOY/base, DEPLOY/components/from-outside]")
    told = {each["name"]: each["valueFrom"] for each in container(named("base", "Deployment", "scheduler"))["env"]}

    for entrance in (Entrance("NodePort", 31531), Entrance("LoadBalancer", 80), Entrance("Route", 443), Entrance("Ingress", 443, "a.b")):
        service = objects(entrance, "fedplane", "r")[0][1]["spec"]
        assert matches({"matchLabels": service["selector"]}, bus["spec"]["template"]["metadata"]["labels"])
        assert {each["targetPort"] for each in service["ports"]} <= ports
    assert told["FEDPLANE_LISTEN_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    (added,) = (each for each in policies if each["metadata"]["name"] == "bus-from-outside")
    assert (added["metadata"]["namespace"], added["spec"]["ingress"]) == ("fedplane", [{"ports": [{"port": 4222}]}])
