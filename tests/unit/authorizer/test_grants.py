"""What roles may do, as far as it can be said without a server; that a server sees it the same way is an integration test."""

from hypothesis import given
from hypothesis import strategies as st

from fedplane.authorizer import jetstream
from fedplane.authorizer.grants import CLUSTERS, PATTERNS_MAX, RUNS_MAX, SERVERS, Listening, collaborator, listening, of_role, subscriber
from fedplane.runtime.nats import letters, streams
from fedplane.schemas.facts import FACTS, Entrusted, Fact, Keyed, Paired, Revealed, Shared
from fedplane.schemas.names import NAME_PATTERN
from fedplane.schemas.patterns import matches
from fedplane.schemas.roles import Role

ANSWERED = ("contributed", "declined", "evaluated", "keyed", "shared", "revealed")
SERVICES = [role for role in Role if role not in (Role.COLLABORATOR, Role.SUBSCRIBER)]
NAMES = st.from_regex(NAME_PATTERN[:-1] + r"\Z").filter(lambda name: len(name) <= 20)


def test_streams_and_consumers_are_called_as_they_are_declared() -> None:
    declared = (*streams.STREAMS, streams.FOLDS_CONSUMER, streams.TIMERS_CONSUMER, streams.STATED, letters.LETTERS)

    assert (*jetstream.STREAMS, jetstream.FOLDS, jetstream.KEPT_TIMERS, jetstream.STATED, jetstream.LETTERS) == declared
    assert jetstream.FACT_STREAMS == streams.FACT_STREAMS


def test_every_fact_may_be_stated_by_somebody() -> None:
    grants = [collaborator("a", ["r"]), *(of_role(role, "one") for role in SERVICES)]
    may = [subject for grant in grants for subject in grant.publish]

    unsaid = [fact for fact in FACTS if not any(matches(pattern, f"log.{subject_of(fact)}") for pattern in may)]

    assert unsaid == []


def subject_of(fact: type[Fact]) -> str:
    known = {"run": "r", "cluster": "a"}
    return fact.pattern(**{name: value for name, value in known.items() if f"{{{name}}}" in fact.template}).replace("*", "1")


def test_a_cluster_without_runs_may_advertise_and_ask_for_what_it_may_read_which_is_nothing() -> None:
    grant = collaborator("amsterdam", [])

    assert grant.publish == (
        "log.fed.v1.fleet.amsterdam.advertised", "$JS.API.DIRECT.GET.FLEET.log.fed.v1.fleet.amsterdam.advertised",
        "listen.fed.v1.collaborator.amsterdam", "$JS.API.CONSUMER.MSG.NEXT.LOG.collaborator-amsterdam",
    )  # fmt: skip
    assert grant.subscribe == ("_INBOX_collaborator_amsterdam.>",)
    assert listening("amsterdam", []) is None


def test_a_cluster_in_a_run_may_do_what_the_run_asks_of_it() -> None:
    grant = collaborator("amsterdam", ["r"])
    heard = (
        "fed.v1.run.r.*", "fed.v1.run.r.round.*.invited.amsterdam", "fed.v1.run.r.round.*.contributed.amsterdam",
        "fed.v1.run.r.round.*.declined.amsterdam", "fed.v1.run.r.round.*.evaluated.amsterdam", "fed.v1.run.r.round.*.keyed.amsterdam",
        "fed.v1.run.r.round.*.shared.amsterdam", "fed.v1.run.r.round.*.revealed.amsterdam", "fed.v1.run.r.round.*.rejected.amsterdam",
        "fed.v1.run.r.round.*.entrusted.amsterdam", "fed.v1.run.r.round.*.closed", "fed.v1.run.r.round.*.failed",
        "fed.v1.run.r.round.*.paired",
    )  # fmt: skip

    assert grant.account == CLUSTERS
    assert grant.publish == (
        "log.fed.v1.fleet.amsterdam.advertised", "$JS.API.DIRECT.GET.FLEET.log.fed.v1.fleet.amsterdam.advertised",
        "listen.fed.v1.collaborator.amsterdam", "listen.fed.v1.collaborator.amsterdam.r",
        "$JS.API.CONSUMER.MSG.NEXT.LOG.collaborator-amsterdam", "$JS.API.CONSUMER.MSG.NEXT.LOG.collaborator-amsterdam_r",
        "log.fed.v1.run.r.round.*.contributed.amsterdam", "log.fed.v1.run.r.round.*.declined.amsterdam",
        "log.fed.v1.run.r.round.*.evaluated.amsterdam", "log.fed.v1.run.r.round.*.keyed.amsterdam",
        "log.fed.v1.run.r.round.*.shared.amsterdam", "log.fed.v1.run.r.round.*.revealed.amsterdam",
        "bulk.fed.v1.r.*.update.amsterdam.*.*.*",
        *(f"$JS.API.DIRECT.GET.LOG.log.fed.v1.run.r.round.*.{answer}.amsterdam" for answer in ANSWERED),
        "$JS.API.DIRECT.GET.BULK.bulk.fed.v1.r.*.model.>", "$JS.API.DIRECT.GET.BULK.bulk.fed.v1.r.given.*.*.>",
        "$JS.API.DIRECT.GET.BULK.bulk.fed.v1.r.*.asked.>",
    )  # fmt: skip
    assert grant.subscribe == ("_INBOX_collaborator_amsterdam.>",)
    assert listening("amsterdam", ["r"]) == Listening("LOG", "collaborator-amsterdam", tuple(f"log.{pattern}" for pattern in heard))


def test_a_reader_of_one_run_is_made_if_the_cluster_takes_part_in_it() -> None:
    of_one = listening("amsterdam", ["r1", "r2"], "r1")

    assert of_one is not None
    assert (of_one.consumer, {name.split(".")[4] for name in of_one.filters}) == ("collaborator-amsterdam_r1", {"r1"})
    assert listening("amsterdam", ["r1", "r2"], "r3") is None


def test_what_a_cluster_knows_of_anothers_keys_and_shares_is_what_the_aggregator_hands_on() -> None:
    reader, asks = listening("amsterdam", ["r"]), collaborator("amsterdam", ["r"]).publish
    assert reader is not None
    of_another = [fact.pattern(run="r", round=1, cluster="berlin") for fact in (Keyed, Shared, Entrusted, Revealed)]
    told = [Entrusted.pattern(run="r", round=1, cluster="amsterdam"), Paired.pattern(run="r", round=1)]

    heard = [subject for subject in (*of_another, *told) if any(matches(each, f"log.{subject}") for each in reader.filters)]
    asked = [subject for subject in (*of_another, *told) if any(matches(each, f"$JS.API.DIRECT.GET.LOG.log.{subject}") for each in asks)]

    assert (heard, asked) == (told, [])


@given(NAMES, NAMES, st.sets(NAMES, max_size=3), NAMES)
def test_nothing_that_a_cluster_states_or_stores_is_anothers(cluster: str, other: str, runs: set[str], run: str) -> None:
    wanted = (
        f"log.fed.v1.run.{run}.round.1.contributed.{other}", f"bulk.fed.v1.{run}.1.update.{other}.a.0.0",
        f"log.fed.v1.fleet.{other}.advertised",
    )  # fmt: skip
    may = [any(matches(pattern, subject) for pattern in collaborator(cluster, runs).publish) for subject in wanted]

    assert may == [cluster == other and run in runs, cluster == other and run in runs, cluster == other]


def test_whoever_is_outside_the_account_of_the_streams_asks_for_nothing_that_a_body_says() -> None:
    asks = [subject for subject in collaborator("a", ["r"]).publish if subject.startswith("$JS.")]
    kinds = {subject.split(".fed.")[0].removeprefix("$JS.API.") for subject in asks}

    assert kinds == {
        "DIRECT.GET.FLEET.log",
        "DIRECT.GET.LOG.log",
        "DIRECT.GET.BULK.bulk",
        *(f"CONSUMER.MSG.NEXT.LOG.collaborator-{name}" for name in ("a", "a_r")),
    }
    assert subscriber("grafana", ["fed.v1.>"]).publish == ()


def test_nothing_that_a_cluster_asks_of_a_server_can_be_asked_of_more_by_writing_a_wildcard() -> None:
    """Servers compare words with rights, so "*" allows the word ">", which as the last one of a question stands for everything below."""
    asks = [subject for subject in collaborator("a", ["r"]).publish if subject.startswith("$JS.")]

    assert [subject for subject in asks if subject.endswith("*")] == []


def test_services_are_in_the_account_of_the_streams_each_with_an_inbox_of_its_own() -> None:
    services = [of_role(role, "one") for role in SERVICES]

    assert {grant.account for grant in services} == {SERVERS}
    assert len({grant.subscribe for grant in services}) == len(services)


def test_whoever_is_asked_something_may_answer_and_nobody_else() -> None:
    assert [role for role in SERVICES if of_role(role, "one").answers] == [Role.AUTHORIZER, Role.OPERATOR]


def test_a_subscriber_to_more_than_a_token_holds_hears_what_came_last() -> None:
    patterns = [f"fed.v1.run.r{number:04}.>" for number in range(PATTERNS_MAX + 1)]

    grant = subscriber("grafana", patterns)

    assert (grant.subscribe, grant.left_out) == (tuple(patterns[1:]), ("fed.v1.run.r0000.>",))


def test_a_cluster_in_more_runs_than_a_token_holds_has_the_first_by_name() -> None:
    runs = [f"r{number:04}" for number in range(RUNS_MAX + 10)]

    granted, of_fewer = collaborator("a", reversed(runs)), collaborator("a", runs[:RUNS_MAX])

    assert granted.publish == of_fewer.publish
    assert (granted.left_out, of_fewer.left_out) == (tuple(runs[RUNS_MAX:]), ())
