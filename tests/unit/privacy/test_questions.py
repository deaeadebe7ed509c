"""What all members of a masked round were asked, as one digest: nothing is left out of it that would make others send nothing."""

from datetime import timedelta
from typing import Any

import pytest
from collaborator_story import NOW, invited, model_on
from masking_story import terms

from fedplane.privacy.pairing import ASKED, question
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Invited

TERMS = terms()
LATER = NOW + timedelta(days=2)
OWN = {
    "run", "round", "at", "cluster", "data", "deadline", "chunk_bytes", "position", "clusters", "model", "carries", "carried_until",
}  # fmt: skip
"""What may differ from cluster to cluster, or is known otherwise: the model by its bytes, the round by its name."""


@pytest.mark.parametrize(
    ("others", "is_same"),
    [
        ({"masking": TERMS.model_copy(update={"clip": 1e9})}, False),
        ({"configuration": {"lr": 0.0}}, False),
        ({"run_configuration": {"epochs": 0}}, False),
        ({"shard_bytes": 8}, False),
        ({"app": "/another"}, False),
        ({"model": 1}, False),
        ({"model": 0}, True),
        ({"cluster": "c2", "data": "its own", "position": 2, "deadline": LATER, "at": LATER}, True),
    ],
    ids=["a clip", "a learning rate", "no epochs", "other shards", "another app", "another model", "a model's name", "its own"],
)
async def test_what_would_make_the_others_send_nothing_is_part_of_the_question_that_masks_are_for(
    others: dict[str, Any], is_same: bool
) -> None:
    """Else a hub could ask the others so that their masked changes are zero, and have this cluster's alone in the sum."""
    models = [await model_on(MemoryBus()), (await model_on(MemoryBus())).model_copy(update={"digest": "blake3:" + "0" * 64})]
    models.append(models[0].model_copy(update={"shards": models[0].shards[::-1]}))
    ours = invited(model=models[0], masking=TERMS)
    if "model" in others:
        others = {"model": models[1 if is_same else 2]}

    assert (question(ours.model_copy(update=others)) == question(ours)) is is_same
    assert question(Invited.model_validate_json(ours.model_dump_json())) == question(ours), "a hub that reads it from the log has the same"


def test_everything_that_an_invitation_says_is_in_the_question_or_known_to_change_no_number() -> None:
    assert {*ASKED, *OWN} == set(Invited.model_fields)
    assert not OWN & ASKED.keys()
