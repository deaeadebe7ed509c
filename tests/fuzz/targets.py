"""Every decoder that reads bytes of somebody else: what it is given, and how it may refuse.

Bytes come from clusters, apps, hubs, webhooks, browsers and files, and whoever reads them serves others as well.
So a decoder either returns or raises an error that it documents; anything else would end a service, or a run that is not to blame.
What else must hold of what was read, a decoder's entry says itself: facts that were read can be written again, for one.
The table has three readers: `test_decoders` for every change, `search` for as long as one likes, and `corpus`, which keeps what was found.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import forms
import h11
import masked_round
from forms import Form
from nats.aio.msg import Msg
from pydantic import ValidationError

from fedplane.aggregator import runs as aggregating
from fedplane.aggregator.appending import CannotAppend, joined
from fedplane.authorizer import callout, certificates, tokens
from fedplane.authorizer.admission import judging, requested, reviews
from fedplane.authorizer.following import Following
from fedplane.cli import manifest, requests, verdicts
from fedplane.collaborator import apps, beside, bundles, recipes, transfers
from fedplane.collaborator.driver import files
from fedplane.collaborator.driver.replay import Driver
from fedplane.collaborator.frameworks import Unanswerable, asking, other, records, tensors, updates
from fedplane.collaborator.tasks import Collaborator
from fedplane.privacy import accounting
from fedplane.privacy.participant import Withdrawn
from fedplane.privacy.recovering import FalseSecret
from fedplane.runtime.archive import Unpacker
from fedplane.runtime.errors import ApiError, AppFailed, BadInput, Corrupt
from fedplane.runtime.kubernetes import connection as api
from fedplane.runtime.nats import connection, letters, views
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Core, State
from fedplane.scheduler import wishes
from fedplane.scheduler.ocm import amounts, reading
from fedplane.scheduler.ocm.cel import expressions
from fedplane.scheduler.ocm.cel.values import Failure, Meter
from fedplane.scheduler.runs import Scheduler
from fedplane.schemas import envelope, layout
from fedplane.schemas.bundles import Bundle
from fedplane.schemas.resources import FederatedLearning, explain_invalid
from fedplane.schemas.views import RunView
from fedplane.status.page.listening import Answer, _Door
from fedplane.status.page.onlooking import Onlooker, Place
from fedplane.status.phases import Phases
from fedplane.status.retention import Retention

__all__ = ["TARGETS", "Target"]

accounting.epsilon(1, 1e-5, 1, "rdp")  # loads SciPy, which takes a second, before anybody looks at the clock

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PYTHON = recipes.Python((3, 11, 7), "cpython-linux-x86_64")

BUNDLE_PEAK_BYTES = 3 * bundles.UNPACKED_BYTES_MAX
"""What a bundle holds may be in memory, with what it is compared with."""

LINE_PEAK_BYTES = 12 * 8 * envelope.FACT_BYTES_MAX
"""A line of an archive, its text, and what JSON makes of it."""


LATER = (timedelta(), timedelta(hours=1), timedelta(days=2))
"""How long after the last fact a service decides: at once, when every deadline is over, and when a run is to be forgotten."""


class Target(NamedTuple):
    """A decoder: it is given bytes, and a directory of its own if it reads files.

    `form` is how such bytes are made up, for whoever changes them with sense.
    `peak_bytes` is what it may need beside a multiple of what it was given.
    """

    decode: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...]
    form: Form
    peak_bytes: int = 20_000_000


def fact(data: bytes, _: Path) -> None:
    head, _, body = data.partition(b"\n")
    type_, _, subject = head.decode(errors="replace").partition(" ")
    read = envelope.read(subject, {"Ce-Type": type_}, body)
    wire = envelope.write(read, "/fuzz")
    assert envelope.read(subject, wire.headers, wire.body) == read, "a fact that was read is another one when it is written and read again"


def structured(data: bytes, _: Path) -> None:
    read, attributes, body = envelope.read_structured(data)
    assert envelope.read(read.subject, {"ce-type": attributes["type"]}, body) == read, "what a fact was read from is another one"


def log(data: bytes, _: Path) -> None:
    """Every service reads facts that anybody may have stated, in any order."""
    records = []
    for sequence, line in enumerate(data.splitlines()[:100], 1):
        try:
            stated, _attributes, body = envelope.read_structured(line)
        except envelope.Unreadable:  # every reader of the log skips what it cannot read
            continue
        records.append(Recorded(stated, sequence, str(sequence), None, "/fuzz", body))
    cut = aggregating.Cut(80_000, 8_000)
    cores: tuple[Core[Any], ...] = (
        Scheduler(None), aggregating.Runs(cut), Phases(10), Onlooker(), Collaborator("a"), Driver(), Retention(60, 60), Following(),
    )  # fmt: skip
    for core in cores:
        state = core.initial()
        for record in records:
            state = core.evolve(state, record)
        for later in LATER if records else ():
            for action in core.decide(state, records[-1].fact.at + later):
                if isinstance(action, State):
                    envelope.write(action.fact, "/fuzz")


def headers(data: bytes, _: Path) -> None:
    reading = connection._Client()._process_headers(data)
    try:
        reading.send(None)
    except StopIteration as done:
        assert done.value is None or all(isinstance(word, str) for pair in done.value.items() for word in pair)
    else:
        raise AssertionError("headers are read without waiting for anything")


def header(data: bytes, _: Path) -> None:
    read = layout.parse_header(data)
    runs = list(read.runs(0, read.bytes))
    assert sum(run.end - run.begin for run in runs) == read.bytes, "the runs of a layout do not cover it"


def appended(data: bytes, _: Path) -> None:
    read = layout.parse_header(data)
    made = layout.parse_header(joined(layout.Layout((), ()), [("berlin", read)], 1))
    assert made.bytes == read.bytes, "an appended layout has another size"


def model(data: bytes, directory: Path) -> None:
    file = _written(directory / "model.safetensors", data)
    tensors.read(file)
    tensors.metadata(file)


def replies(data: bytes, directory: Path) -> None:
    _written(directory / "reply-0.safetensors", data)
    (directory / "replies.json").write_text(json.dumps({"replies": [{"instruction": 0, "content": "reply-0.safetensors"}]}))
    (answer,) = asking._read(directory, 1)
    assert isinstance(answer, asking.Reply | asking.Failure), "a server is told something that is neither a reply nor why there is none"
    if isinstance(answer, asking.Reply):
        records.packed(answer.content)


def update(data: bytes, directory: Path) -> None:
    updates.settle(_written(directory / "update.safetensors", data), None)


def checked(data: bytes, directory: Path) -> None:
    left = transfers.check_update(_written(directory / "update.safetensors", data), None, 1_000_000)
    assert transfers.digests_of(left, [(0, left.bytes)]) if left.bytes else True, "an update that was taken cannot be hashed"


def metrics(data: bytes, directory: Path) -> None:
    json.dumps(other._answer(_written(directory / "metrics.json", data), "train"))


def answer(data: bytes, _: Path) -> None:
    apps.Answer.model_validate_json(data)


def line(data: bytes, _: Path) -> None:
    assert isinstance(apps._parsed(data), dict)
    assert isinstance(beside._code(data), int | None)


def asked(data: bytes, directory: Path) -> None:
    _written(directory / "asked.json", data)
    _written(directory / "content-0.safetensors", forms.SAFETENSORS.write(b"", {"a": forms.entry("U8", 8, 0)}, bytes(8)))
    files.read_ask(directory, ("amsterdam", "berlin"), 8, 1_000_000)


def bundle(data: bytes, directory: Path) -> None:
    file, into = _written(directory / "app.fab", data), directory / "unpacked" / "app"
    into.parent.mkdir()
    bundles.unpacked(Bundle(str(file)), into)
    outside = [path for path in directory.rglob("*") if path.is_file() and path != file and into not in path.parents]
    assert outside == [], "something was unpacked elsewhere"


def recipe(data: bytes, directory: Path) -> None:
    _written(directory / "pyproject.toml", data)
    recipes.recipe_of(directory, "flower", ("flwr>=1.20,<2",), PYTHON)


def archive(data: bytes, _: Path) -> None:
    unpacker = Unpacker()
    for _record in unpacker.take(data):
        pass
    unpacker.end()


def token(data: bytes, _: Path) -> None:
    tokens.read(data.decode(errors="replace"))


def question(data: bytes, _: Path) -> None:
    callout.asked(_object(data))


def certificate(data: bytes, _: Path) -> None:
    pem = data.decode(errors="replace")
    armoured = base64.encodebytes(data).decode()
    certificates.parse(pem if "BEGIN" in pem else f"-----BEGIN CERTIFICATE-----\n{armoured}-----END CERTIFICATE-----\n")


def request_to_sign(data: bytes, _: Path) -> None:
    requested.parse_request(data)


def review(data: bytes, _: Path) -> None:
    read = reviews.parse_review(data)
    verdict = judging.judge(read, judging.Rules("open-cluster-management.io/signer", "fedplane"))
    assert verdict.refused or not verdict.cluster, "whoever is let in by this has been asked for by nobody"


def view(data: bytes, _: Path) -> None:
    shown = views._viewed("$KV.runs.mnist", {"Fedplane-Sequence": data[:20].decode(errors="replace")}, data)
    RunView.model_validate_json(shown.body)


def letter(data: bytes, _: Path) -> None:
    why, _, body = data.partition(b"\n")
    named = {"ce-type": "io.fedplane.run.cancelled.v1", "ce-subject": "fed.v1.run.mnist-5f3a9c1e.cancelled", "ce-id": "1"}
    found = letters._letter(Msg(None, "dead.x.1", "", body, {letters.WHY: why.decode(errors="replace"), **named}))
    assert found is None or found.record.fact.subject == named["ce-subject"]


def hub(data: bytes, _: Path) -> None:
    found = _json(data)
    reading.read(found if isinstance(found, list) else [found])


def wish(data: bytes, _: Path) -> None:
    """What an API server holds of us has metadata that Kubernetes itself has checked."""
    wishes.wish({"metadata": {"name": "mnist", "namespace": "default", "uid": "5f3a9c1e", "generation": 1}, **_object(data)})


def expression(data: bytes, _: Path) -> None:
    text, _, document = data.partition(b"\x00")
    described = _object(document) or {"metadata": {"name": "amsterdam", "labels": {"region": "eu", "json": "[" * 900 + "]" * 900}}}
    read = expressions._compiled(expressions.parse(text.decode(errors="replace")), frozenset({"managedCluster"}))
    expressions.Expression("", read).value(described, {}, Meter(expressions.COST_MAX))


def quantity(data: bytes, _: Path) -> None:
    amounts.approximate(amounts.amount(data.decode(errors="replace")))


def resource(data: bytes, _: Path) -> None:
    try:
        read = FederatedLearning.model_validate_json(data)
    except ValidationError as error:
        assert explain_invalid(error), "a resource is refused without a word"
        raise
    written = read.model_dump_json(by_alias=True)
    assert FederatedLearning.model_validate_json(written).model_dump_json(by_alias=True) == written, (
        "a resource that was read is another one"
    )


def request(data: bytes, directory: Path) -> None:
    read = requests.read(_written(directory / "run.yaml", data))
    assert len(read.model_dump_json()) < 10 * requests.FILE_BYTES_MAX, "a file has become far larger than it is"


def webhook(data: bytes, _: Path) -> None:
    status, _, rest = data.decode("latin-1").partition(" ")
    retry_after, _, said = rest.partition("\n")
    outcome = verdicts.Answered(int(status[:3]) if status.isascii() and status.isdigit() else 503, retry_after, said)
    assert verdicts.judge(outcome, 3, NOW, 0.5, verdicts.Patience())


def hub_answer(data: bytes, _: Path) -> None:
    with api.door("look"):
        api._read("look", 200 if data[:1] == b"{" else 403, data.decode(errors="replace"))


def browser(data: bytes, _: Path) -> None:
    door = _Door(lambda asked: Answer(200, "text/plain", str(Place.read(asked.last_event_id)).encode()), own_only=True)
    reading = h11.Connection(h11.SERVER, max_incomplete_event_size=16_384)
    reading.receive_data(data)
    event = reading.next_event()
    if isinstance(event, h11.Request):
        assert isinstance(door._judge(event), Answer)


def kept(data: bytes, _: Path) -> None:
    read = manifest.parse(data)
    assert manifest.parse(manifest.write(read)) == read, "a manifest that was read is another one"


def hub_of_masks(data: bytes, _: Path) -> None:
    masked_round.helped(data)


def clusters_with_masks(data: bytes, _: Path) -> None:
    masked_round.recovered(data)


def keys_of_another(data: bytes, _: Path) -> None:
    masked_round.vouched(data)


def _written(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def _json(data: bytes) -> object:
    """What the library that carries it hands on; what is no JSON does not get as far."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _object(data: bytes) -> dict[str, object]:
    found = _json(data)
    return found if isinstance(found, dict) else {}


TARGETS = {
    "fact": Target(fact, (envelope.Unreadable,), forms.FACT),
    "structured-fact": Target(structured, (envelope.Unreadable,), forms.JSON),
    "log-of-a-service": Target(log, (), forms.LINES),
    "message-headers": Target(headers, (), forms.TEXT),
    "layout": Target(header, (layout.BadLayout,), forms.SAFETENSORS),
    "appended-layout": Target(appended, (layout.BadLayout, CannotAppend), forms.SAFETENSORS),
    "model-for-an-app": Target(model, (tensors.BadTensors,), forms.SAFETENSORS),
    "replies-for-a-server": Target(replies, (), forms.SAFETENSORS),
    "update-of-a-program": Target(update, (Unanswerable,), forms.SAFETENSORS),
    "update-of-an-app": Target(checked, (AppFailed,), forms.SAFETENSORS),
    "metrics-of-a-program": Target(metrics, (Unanswerable,), forms.JSON),
    "answer-of-an-app": Target(answer, (ValidationError,), forms.JSON),
    "line-of-an-app": Target(line, (), forms.JSON),
    "questions-of-a-server": Target(asked, (AppFailed,), forms.JSON),
    "bundle": Target(bundle, (BadInput,), forms.ZIP, BUNDLE_PEAK_BYTES),
    "recipe": Target(recipe, (BadInput,), forms.TEXT),
    "archive": Target(archive, (Corrupt,), forms.GZIP, LINE_PEAK_BYTES),
    "token": Target(token, (BadInput,), forms.TEXT),
    "question-of-a-bus": Target(question, (BadInput,), forms.JSON),
    "certificate": Target(certificate, (BadInput,), forms.TEXT),
    "request-to-sign": Target(request_to_sign, (BadInput,), forms.TEXT),
    "review-of-a-request": Target(review, (BadInput,), forms.JSON),
    "view": Target(view, (ValidationError,), forms.JSON),
    "dead-letter": Target(letter, (), forms.FACT),
    "objects-of-a-hub": Target(hub, (), forms.JSON),
    "object-of-a-run": Target(wish, (BadInput,), forms.JSON),
    "expression": Target(expression, (ValueError, Failure), forms.TEXT),
    "quantity": Target(quantity, (ValueError,), forms.TEXT),
    "resource": Target(resource, (ValidationError,), forms.JSON),
    "file-of-a-run": Target(request, (BadInput,), forms.TEXT),
    "answer-of-a-webhook": Target(webhook, (), forms.TEXT),
    "answer-of-a-hub": Target(hub_answer, (ApiError,), forms.JSON),
    "question-of-a-browser": Target(browser, (h11.RemoteProtocolError,), forms.TEXT),
    "manifest-of-a-model": Target(kept, (Corrupt,), forms.JSON),
    "shares-from-a-hub": Target(hub_of_masks, (ValidationError, BadInput), forms.JSON),
    "shares-from-clusters": Target(clusters_with_masks, (ValidationError, FalseSecret), forms.JSON),
    "keys-of-another-cluster": Target(keys_of_another, (ValidationError, Withdrawn), forms.JSON),
}
"""By the name that its folder in `corpus` has."""
