"""What OpenFL itself makes of the example's workspace: its aggregator and three of its collaborators, in one process and without a wire.

Run by the Python of OpenFL, in a copy of the workspace: `python openfl_rounds.py ROUNDS FILE`. FILE gets the model, as .npz.
"""

import sys
from pathlib import Path

import numpy as np
from openfl.federated import Plan
from openfl.protocols import utils
from openfl.protocols.aggregator_client_interface import AggregatorClientInterface
from openfl.utilities import TensorKey

COLLABORATORS = {"amsterdam": "1", "berlin": "2", "copenhagen": "3"}
FIRST = "save/init.pbuf"


class Direct(AggregatorClientInterface):
    """A collaborator's way to an aggregator of the same process."""

    def __init__(self, name, aggregator):
        self.name, self.aggregator = name, aggregator

    def ping(self):
        return None

    def get_tasks(self):
        return self.aggregator.get_tasks(self.name)

    def get_aggregated_tensor(self, tensor_name, round_number, report, tags, require_lossless):
        return self.aggregator.get_aggregated_tensor(
            tensor_name, round_number, report=report, tags=tuple(tags), require_lossless=require_lossless, requested_by=self.name
        )

    def send_local_task_results(self, round_number, task_name, data_size, named_tensors):
        return self.aggregator.send_local_task_results(self.name, round_number, task_name, data_size, named_tensors)

    def send_message_to_server(self, openfl_message, collaborator_name):
        raise NotImplementedError


def plan(rounds: int) -> Plan:
    made = Plan.parse(Path("plan/plan.yaml"), Path("plan/cols.yaml"))
    made.rounds_to_train = rounds
    made.config["aggregator"]["settings"].update(rounds_to_train=rounds, init_state_path=FIRST, persist_checkpoint=False)
    made.authorized_cols, made.cols_data_paths = list(COLLABORATORS), dict(COLLABORATORS)
    made.federation_uuid, made.aggregator_uuid = "federation", "aggregator"
    return made


def main(rounds: int, file: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    first = plan(rounds)
    tensors = first.get_task_runner(first.get_data_loader("amsterdam")).get_tensor_dict(False)
    Path(FIRST).parent.mkdir(exist_ok=True)
    utils.dump_proto(utils.construct_model_proto(tensor_dict=tensors, round_number=0, tensor_pipe=first.get_tensor_pipe()), FIRST)
    aggregator = plan(rounds).get_aggregator()
    collaborators = [plan(rounds).get_collaborator(name, client=Direct(name, aggregator)) for name in COLLABORATORS]
    for _ in range(rounds):
        for collaborator in collaborators:  # one after the other: each gives its round's results before the next one asks for tasks
            tasks, number, _, _ = collaborator.client.get_tasks()
            for task in tasks:
                collaborator.do_task(task, number)
            collaborator.tensor_db.clean_up(collaborator.db_store_rounds)
    model = {name: TensorKey(name, aggregator.uuid, rounds, False, ("model",)) for name in tensors}
    np.savez(file, **{name: aggregator.tensor_db.get_tensor_from_cache(key) for name, key in model.items()})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
