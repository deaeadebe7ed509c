"""Flower's side of the secure-aggregation benchmark: its own SecAgg+, unmodified, client's mod and server's workflow in one process.

Messages go from hand to hand: a client gets a copy, as from the network, and nothing is serialized on the way.
Left out are therefore its object store, its network, and the model's download; the bytes that a client would send are counted afterwards.
Of a client's work, making its reply of its update is left out as well (`call_next`), since it does that without masks, too.
Clients that are not measured mask one number instead of their update, and the server is given a measured client's masked update for theirs.
"""

import copy
import logging
import time
from collections.abc import Iterable

import numpy as np
from cohort import EXAMPLES, Answer, Case, Stopwatch, answer, mean, update
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["main"]

FIRST_NODE = 1000
"""Nodes have numbers, and zero is none."""


class Clients:
    """All clients, as the server's grid: it sends messages and gets the replies."""

    def __init__(self, case: Case) -> None:
        self.case, self.watch = case, Stopwatch()
        self.seconds = 0.0
        self.whole = [ndarrays_to_parameters(tensors(update(client, case.elements))) for client in range(case.measured)]
        self._contexts = [Context(1, FIRST_NODE + client, {}, RecordDict(), {}) for client in range(case.clients)]
        self._masked: RecordDict | None = None

    def send_and_receive(self, messages: Iterable[Message], timeout: float | None = None) -> list[Message]:
        begun = time.perf_counter()
        ordered = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        replies = [reply for message in ordered if (reply := self._reply(copy.deepcopy(message))) is not None]
        self.seconds += time.perf_counter() - begun
        return replies

    def _reply(self, message: Message) -> Message | None:
        client = message.metadata.dst_node_id - FIRST_NODE
        masking = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE] == Stage.COLLECT_MASKED_VECTORS
        if masking and client >= self.case.clients - self.case.missing:
            return None
        measured = client < self.case.measured
        trained = self._trained(client, message)  # made before the clock runs
        if not measured:
            reply = secaggplus_mod(message, self._contexts[client], lambda *_: trained)
            return Message(self._masked, reply_to=message) if masking else reply
        with self.watch.working(client):
            reply = secaggplus_mod(message, self._contexts[client], lambda *_: trained)
        self.watch.sends(client, sum(len(each.deflate()) for each in get_all_nested_objects(reply.content).values()))
        if masking:
            self._masked = reply.content
        return reply

    def _trained(self, client: int, message: Message) -> Message:
        parameters = self.whole[client] if client < self.case.measured else ndarrays_to_parameters([np.zeros(1, np.float32)])
        result = FitRes(Status(Code.OK, ""), parameters, EXAMPLES, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)


def tensors(whole: np.ndarray) -> list[np.ndarray]:
    """A model of tensors of a million elements."""
    return np.array_split(whole, max(1, len(whole) // 1_000_000))


def play(case: Case) -> Answer:
    logging.disable(logging.CRITICAL)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # or no message can be made
    clients = Clients(case)
    strategy = FedAvg(min_fit_clients=case.clients, min_available_clients=case.clients)
    managed = SimpleClientManager()
    for client in range(case.clients):
        managed.register(GridClientProxy(FIRST_NODE + client, clients, 1))
    context = LegacyContext(Context(1, 1, {}, RecordDict(), {}), ServerConfig(num_rounds=1), strategy, managed)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    proposal = compat.parameters_to_arrayrecord(ndarrays_to_parameters([np.zeros(1)]), keep_input=True)  # tiny, since nobody downloads it
    context.state.array_records[MAIN_PARAMS_RECORD] = proposal
    begun = time.perf_counter()
    SecAggPlusWorkflow(num_shares=case.neighbours + 1, reconstruction_threshold=case.threshold)(clients, context)
    server = time.perf_counter() - begun - clients.seconds
    found = compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    whole = np.concatenate([each.ravel() for each in parameters_to_ndarrays(found)])
    assert len(whole) == case.elements, "the workflow has found no mean"
    apart = float(np.abs(whole - mean(case)).max()) if case.whole else None
    return clients.watch.answer(case.measured, server, apart)


def main() -> None:
    answer(play)


if __name__ == "__main__":
    main()
