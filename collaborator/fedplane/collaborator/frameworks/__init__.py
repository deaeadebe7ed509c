"""The runner: the few files that run a user's app in the app's own environment.

An app brings its own Python, its own framework and its own numpy, and none of them may ever meet ours.
So these files are copied beside the app as a package of their own, `fedplane_runner`, and are started by the app's Python.
They use the standard library, numpy and the one framework they adapt, and they stay readable by Python 3.9.
They know no bus: a request is a directory, and two pipes, or one socket, say when.

    python -m fedplane_runner --framework flower --app DIRECTORY --requests PATH --replies PATH     as a child of the collaborator
    python DIRECTORY --framework flower --app DIRECTORY --socket PATH                               in a container beside it

One process serves one app and one run, so that the app and its framework are loaded once and a client's state lives as long as the run.
Whoever hears nothing for a while may kill the process with all its descendants and start another.
What is lost then of a client's state is the adapter's to say.
With `--data-path PATH` the app sees its data there, and not where an invitation says.
Until a framework is imported the standard library suffices, so that whatever an environment lacks can be said in an answer.

The pipes carry JSON, one object a line. Each path is a FIFO or `/dev/fd/N`; the requests are opened first. One request at a time.

    to the runner      {"do": "work", "directory": PATH}
                       {"do": "stop"}                        exit in order
    from the runner    {"said": "ready", "framework": NAME, "version": VERSION}
                       {"said": "taken"}                     at the start of a request: what happens now is the app's doing
                       {"said": "alive"}                     every second until the reply; also while loading
                       {"said": "done"}                      the directory holds the answer
                       {"said": "failed", "reason": WORD, "message": SENTENCE}

A runner that cannot load the app says `failed` instead of `ready` and exits.
When nobody can send a request any more, the pipe being closed, the runner ends at once, whatever the app is doing.
What the app prints goes to standard output and standard error, never to the pipes.

In a container beside the collaborator, a *keeper* (see `keeping`) connects to the socket, again and again, until the run has ended.
A connection is a process: the keeper starts one when it is told to, and that process then says and hears on the socket what is said above.

    to the keeper      {"do": "load", "log": PATH}           start the app's process; what it prints is appended there, and shown as well
    from the keeper    {"said": "failed", ...}               it cannot be started
                       {"said": "ended", "code": NUMBER}     it has ended, and whatever it started with it; as `subprocess` has its code

Whoever closes the connection, or only its sending half, stops the process; the keeper buries it, closes, and connects again.
When there is a file PATH.ended beside the socket's PATH, the run has ended, and the keeper ends with code 0.

A request directory holds

    invitation.json       task ("initialize", "train", "evaluate", "reply"), run, round, training_round, cluster, position, clusters, data,
                          configuration (what the app's server tells its clients), run_configuration (overrides of the app's own settings);
                          to reply: instruction (kind, group), and fold, whether the reply will be folded with others;
                          appends: true if an update is appended to the model and need not have its tensors, else absent;
                          local_privacy (epsilon or null, delta, multiplier or null, clip, rounds) if it is to train with noise, else absent
    model.safetensors     the global model, or the instruction's records (see `records`); absent when the task is to initialize

and the runner adds

    update.safetensors    the app's tensors, in the model's order, or what is to be appended, or its reply's records;
                          absent when the task is to evaluate
    metrics.json          weight (the number of examples), metrics ({name: number}), configuration (when the task is to initialize)

The directory above lasts as long as the run. An adapter finds its path in the invitation as `home`, and may keep there what a client keeps.

The reasons for a failure: `load-failed` (the app or its settings cannot be loaded), `app-raised` (the app's code raised an exception),
`not-finite` (a tensor or metric is infinite or not a number), `wrong-layout` (other tensors came back than were sent),
`no-weight` (the app did not say how many examples it used), `not-supported` (it does what a federation by fedplane cannot),
`not-private` (it trains without the noise that the run asks for), `budget-spent` (its cluster may not spend more privacy in this run).
A program that is a process of its own has further ones:
`crashed` (a signal killed it), `no-update` (it left none), `bad-update` (what it left is no safetensors file).

With `--drive` the process runs the app's own server. Its only request is a directory with

    drive.json            run, clusters (how many), run_configuration

and it lasts as long as the server does. What the server asks meanwhile is put into the directory, and answered there:

    from the runner    {"said": "asks", "number": N}
    to the runner      {"do": "answered", "number": N}

    asked-N/asked.json            training_round, timeout_seconds (or null), contents (how many),
                                  instructions: a list of position (the cluster's), kind, group, content (its number)
    asked-N/content-K.safetensors one content's records
    asked-N/replies.json          replies: a list of instruction (its number), and content (a file's name) or error (reason, message);
                                  a mean of replies has weight and metrics as well. Who did not answer in time is not in it.

At the end update.safetensors is the model that the server leaves, and metrics.json has what it measured itself.

A framework is adapted by a module with one function, `open_app(directory)`, and by a line in the table below.
It returns an `answers.App`, which is given arrays.
If its apps work `by_files`, it returns an object that does what `working.work` does with an app.
If its apps have servers of their own, a second module has `open_server(directory)`, which returns an `asking.Server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["FRAMEWORKS", "Framework", "Unanswerable"]


class Unanswerable(Exception):
    """The app gave no answer that can be used. `reason` is one of the words above."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Framework(NamedTuple):
    """How a framework is adapted.

    `module` is its adapter here, `server` that of apps' own servers, if it has any.
    `distribution` is what the app's environment must have installed, from version `lowest` to before `below`,
    or one of the `others`, which have the same library in another form.
    An environment that is made for an app has what is `wanted`, the distribution and what its metadata forgets to say, `besides`.
    If the app asks for one of the others, it has that in the distribution's place.
    `environment` is set before the framework is imported, since some read it only then.
    An app `by_files` reads and writes the request's files itself, so the runner needs no numpy, and the app no environment of Python.
    """

    module: str
    server: str = ""
    distribution: str = ""
    lowest: tuple[int, ...] = ()
    below: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})
    by_files: bool = False

    @property
    def wanted(self) -> tuple[str, ...]:
        """What the app's environment needs, as pip takes it."""
        return (self._ranged(self.distribution), *self.besides) if self.distribution else self.besides

    @property
    def instead(self) -> tuple[str, ...]:
        """Of the other distributions, any of which does in place of the first that is wanted, the same."""
        return tuple(map(self._ranged, self.others))

    def _ranged(self, distribution: str) -> str:
        lowest, below = (".".join(map(str, numbers)) for numbers in (self.lowest, self.below))
        return f"{distribution}>={lowest},<{below}"


FRAMEWORKS = {
    "flower": Framework(
        module="flower",
        server="flower_server",
        distribution="flwr",
        lowest=(1, 38),  # the first with a process-wide task identity, which a message needs
        below=(1, 42),  # the last that was tried is 1.41
        environment={"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"},  # an app's environment need not reach the internet
    ),
    "openfl": Framework(
        module="openfl",
        distribution="openfl",
        lowest=(1, 9),  # the last there is
        below=(1, 10),
        besides=("numpy<2.4",),  # OpenFL's own decoding of tensors calls numpy in a way that 2.4 does not know any more
        environment={"FQDN": "localhost"},  # else it looks the machine's name up, and waits for that where there is no network
    ),
    "torch": Framework(
        module="torch",
        distribution="torch",
        lowest=(2, 3),  # the first with unsigned integers of more than 8 bits
        below=(3, 0),  # the last that was tried is 2.13; what is used of it has been the same throughout 2
    ),
    "sklearn": Framework(
        module="sklearn",
        distribution="scikit-learn",
        lowest=(1, 0),
        below=(2, 0),  # the last that was tried is 1.9; what is used of it, two attributes, is in every version
    ),
    "xgboost": Framework(
        module="xgboost",
        distribution="xgboost",  # on Linux it brings 300 MB of NVIDIA's libraries; the other has 6 MB, and no GPU
        lowest=(2, 1),
        below=(4, 0),  # the last that was tried is 3.2
        others=("xgboost-cpu",),
    ),
    "other": Framework(module="other", by_files=True),
}
"""Every framework that a runner can adapt, by the name that resources use."""
