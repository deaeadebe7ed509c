"""What came of a command, as a program reads it and as one line of a table."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from view_story import shown

from fedplane.cli import outcomes
from fedplane.cli.download import size
from fedplane.cli.keeping import Outcome
from fedplane.cli.manifest import origin
from fedplane.cli.output import Output, tell
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES

FACT = {type(fact): fact for fact in EXAMPLES}
RUN = "mnist-5f3a9c1e"


def test_a_run_that_was_asked_for_comes_with_the_first_word_about_it() -> None:
    nothing = {"run": RUN, "word": None, "message": "", "clusters": [], "refused": {}}
    scheduled, waiting, failed = FACT[facts.Scheduled], FACT[facts.Waiting], FACT[facts.Failed]
    assert isinstance(scheduled, facts.Scheduled) and isinstance(waiting, facts.Waiting) and isinstance(failed, facts.Failed)

    assert outcomes.submitted(RUN, None) == nothing
    assert outcomes.submitted(RUN, failed) == nothing | {"word": "failed", "message": failed.message}
    assert outcomes.submitted(RUN, waiting) == nothing | {
        "word": "waiting", "message": waiting.message, "refused": {each.cluster: each.message for each in waiting.refused},
    }  # fmt: skip
    assert outcomes.submitted(RUN, scheduled) == nothing | {
        "word": "scheduled", "clusters": [each.cluster for each in scheduled.participants],
        "refused": {each.cluster: each.message for each in scheduled.refused},
    }  # fmt: skip


def test_a_model_that_is_kept_says_where_and_which_bytes() -> None:
    model, source = origin(EXAMPLES, 1)

    assert outcomes.kept("models/model.safetensors", Outcome.THERE, source, model) == {
        "run": RUN, "training_round": 1, "place": "models/model.safetensors", "outcome": "there",
        "bytes": size(model), "digest": model.digest,
    }  # fmt: skip
    assert outcomes.downloaded(RUN, model, None, Path("m"))["training_round"] is None


def test_a_line_of_a_table_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    cancelled = facts.Cancelled(run=RUN, at=datetime(2026, 3, 2, tzinfo=UTC), message="wrong\x1b[2J data")

    assert shown(outcomes.row(outcomes.cancelled(RUN, cancelled, ours=False)), width=200).splitlines() == [
        "RUN             CANCELLED AT               MESSAGE         BEFORE",
        "mnist-5f3a9c1e  2026-03-02T00:00:00+00:00  wrong [2J data  yes",
    ]
    tell(Output.WIDE, {"clusters": ["a", "b"], "refused": {"c": "no data"}, "word": None}, "a sentence")
    tell(Output.TABLE, {}, "a sentence")

    said = capsys.readouterr()
    assert [line.rstrip() for line in said.out.splitlines()] == ["CLUSTERS  REFUSED     WORD", "a, b      c: no data"]
    assert said.err == "a sentence\n"
