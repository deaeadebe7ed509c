"""Threads that share the jobs of a step."""

import threading

import pytest

from fedplane.aggregator import team as team_module
from fedplane.aggregator.team import THREADS_MAX, Team, threads_here


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("jobs", [0, 1, 100])
def test_every_job_is_done_once_before_the_step_ends(threads, jobs) -> None:
    done: list[int] = []
    Team(threads).do([lambda number=number: done.append(number) for number in range(jobs)])

    assert sorted(done) == list(range(jobs))


def test_two_threads_work_at_the_same_time() -> None:
    meeting, met = threading.Barrier(2, timeout=10), []
    Team(2).do([lambda: met.append(meeting.wait())] * 2)

    assert sorted(met) == [0, 1]


def test_one_thread_is_the_callers_own() -> None:
    who = set()
    Team(1).do([lambda: who.add(threading.get_ident())] * 5)

    assert who == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_in_the_order_of_the_jobs_is_raised_and_the_others_are_done_all_the_same(threads) -> None:
    done: list[int] = []

    def job(number: int) -> None:
        done.append(number)
        if number in (3, 5):
            raise ValueError(f"job {number}")

    with pytest.raises(ValueError, match="job 3"):
        Team(threads).do([lambda number=number: job(number) for number in range(9)])
    assert sorted(done) == list(range(9))


def test_a_caller_does_not_wait_for_helpers_that_are_busy_with_anothers_jobs() -> None:
    team, end, done = Team(2), threading.Event(), []
    other = threading.Thread(target=team.do, args=([lambda: end.wait(10)] * 2,))
    other.start()
    team.do([lambda: done.append(1)] * 3)
    end.set()
    other.join()

    assert done == [1, 1, 1]


@pytest.mark.parametrize(
    ("limit", "at_most"), [("max 100000", THREADS_MAX), ("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("nonsense", 8)]
)
def test_a_containers_limit_counts(limit, at_most, tmp_path, monkeypatch) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(limit + "\n")
    monkeypatch.setattr(team_module, "CPU_LIMIT", file)
    monkeypatch.setattr(team_module.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    assert threads_here() == at_most


def test_cores_count_where_there_is_no_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(team_module, "CPU_LIMIT", tmp_path / "none")
    monkeypatch.setattr(team_module.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)

    assert threads_here() == 3
