"""What each word means in every fact that has it as a field.

One word has one meaning, so the meaning is written once, here, and not at each of the twenty places where the word is a field.
Where a fact uses a word in a narrower sense, `Fact.word` says so; that is the exception and should stay rare.
The JSON Schemas and `docs/events.md` are generated from this table. A field without an entry fails a test.
"""

from collections.abc import Mapping

__all__ = ["WORDS", "meaning"]

WORDS: Mapping[str, str] = {
    "allocatable": "what the cluster can give, as Kubernetes quantities: `cpu` in cores, `memory` in bytes, others by name",
    "app": "where the user's app is: a directory on the cluster's machine or an image",
    "at": "when it was stated, by the clock of whoever stated it",
    "attempt": "tells this upload from another of the same cluster in the same round; only the stated one counts",
    "bytes": "how many bytes there are",
    "carried": "those of the clusters that still work on an earlier round's question, and which round's; their answer to it counts here",
    "carried_until": "how long work on this question may go on after its round, for a later round to carry; none: it ends with the round",
    "carries": "the earlier round whose question the cluster should answer here; none, or when that work is lost: this round's question",
    "chunk_bytes": "bytes of a chunk, the last one excepted",
    "claims": "what the cluster says about itself, by claim name; a data claim says where data is",
    "close_at": "so many contributions close the round before its deadline; none: it waits for everyone",
    "cluster": "the cluster's name",
    "clusters": "the clusters that are asked",
    "Invited.clusters": "how many clusters take part in the run",
    "configuration": "what the app is told in this round besides the model",
    "Contributed.configuration": "what the app's own server would tell its clients in every round; only an initialization has it",
    "criterion": "the criterion's name",
    "data": "the value of the cluster's data claim",
    "deadline": "answers that are stored later do not count",
    "detail": "the end of what the app itself printed",
    "digest": "BLAKE3 of the bytes, 256 bits in hexadecimal, after the name of the hash",
    "Model.digest": "BLAKE3 over the digests of the layout and of the shards, in order, 256 bits of each",
    "eligible": "how many clusters passed every filter",
    "facts": "how many facts there are",
    "faulty": "the clusters whose contributions could not be used",
    "framework": "the framework the app is written for",
    "frameworks": "the frameworks the cluster can run",
    "labels": "labels, as a Kubernetes object has them",
    "layout": "where the layout is: a safetensors header",
    "left_out": "participants that were not asked because their contributions were refused before, and why",
    "lease_seconds": "how long after `at` this holds",
    "members": "the clusters whose answers are in the result, by name",
    "memory": "what the server's strategy remembers besides the model, such as an optimizer's moments",
    "message": "a sentence for a person",
    "metrics": "numbers the app measured, by name",
    "minimum": "how many answers the round needs to have a result",
    "model": "the model",
    "Opened.model": "the model to train or to evaluate; none when it is to be initialized",
    "Invited.model": "the model to train or to evaluate; none when it is to be initialized",
    "Aggregated.model": "the new model; none when a model was evaluated",
    "number": "counts from 1",
    "origin": "the round whose question the update answers and whose model it was trained from; none: this round's",
    "participants": "the clusters that take part, the best score first",
    "piece": "where the bytes are",
    "position": "the cluster's place among those that take part in the run, by name, from 0",
    "products": "inner products of the members' differences from the model: the upper triangle, by rows",
    "reason": "a word for a machine",
    "Closed.reason": "why, in a few words",
    "Completed.reason": "why no other round follows, in a few words",
    "refused": "the clusters that do not take part, and why",
    "resource": "the FederatedLearning resource, without its status",
    "round": "the round's number on the log, from 0",
    "run": "the run's id",
    "run_configuration": "what the resource tells the app for the whole run",
    "score": "between 0 and 1; more is better",
    "Chosen.score": "the sum of the terms, each score times its weight",
    "Refused.score": "the sum of the terms, for a cluster that passed every filter and was outscored",
    "shard": "the shard's number, from 0",
    "shard_bytes": "bytes of a shard, the last one excepted",
    "shards": "where each shard is, in order",
    "strategy": "how contributions become the next model",
    "subject": "chunk k is the message under this subject followed by `.k`",
    "task": "the one question the round asks",
    "terms": "the criteria's parts in the score",
    "training_round": "the round as the user counts: 0 is initialization, and a repeated or evaluating round keeps its number",
    "training_rounds": "how many training rounds the run will have",
    "wanted": "how many clusters the run needs",
    "weight": "how much it counts: for a cluster's answer, the number of examples behind it",
    "Aggregated.weight": "the sum of the members' weights",
    "weight_max": "a greater weight is refused; none: any weight is taken",
    "Term.weight": "how much the criterion counts in this run",
}


def meaning(owner: str, field: str) -> str:
    """What the field means where this fact or value has it. Raises KeyError for a word that is not in the table."""
    return WORDS.get(f"{owner}.{field}") or WORDS[field]
