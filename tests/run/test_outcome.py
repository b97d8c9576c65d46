"""What was seen → facts: which rank was first, whose memory ran out, who stopped it."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from diagnose.run import outcome
from diagnose.run.follow import Followed, Passed
from diagnose.run.messages import Ended, Rank, Sample
from diagnose.run.outcome import exit_code, facts, first_dead, was_interrupted
from diagnose.sources.kernel import Fault, Kill

GIB = 1 << 30


def seen(status: int | None = 0, **changes: Any) -> Followed:
    """A run that ended with a wait status."""
    made = Followed(status=status, seconds=100.0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def ranks(*pids: int) -> dict[int, Rank]:
    """Processes that are the ranks 0, 1 …"""
    return {pid: Rank(pid, str(number), str(number), len(pids)) for number, pid in enumerate(pids)}


def told(run: Followed, environ: dict[str, str] | None = None, program: str = "torchrun") -> dict[str, Any]:
    """The facts of a run by their names."""
    return {fact.name: fact.value for fact in facts(run, [program, "train.py"], environ or {})}


def code(number: int) -> int:
    """The wait status of an exit code."""
    return number << 8


def died(pid: int, at: float, status: int | None, rank: str = "", main: bool = False) -> Ended:
    """A process that ended."""
    return Ended(pid, "python3", at, status, rank, main)


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (code(3), 3), (9, 137), (15, 143), (139, 139)])
def test_exit_codes_are_a_shells(status: int, expected: int) -> None:
    """139 as a wait status is SIGSEGV with a core dump."""
    assert exit_code(seen(status)) == expected


def test_a_hang_that_we_ended_has_a_code_of_its_own() -> None:
    """As `timeout` has."""
    assert exit_code(seen(9, ended_by_us=True)) == 124


def test_the_first_rank_to_die_is_named_and_not_those_that_followed() -> None:
    """Rank 1 of SIGSEGV, then the launcher stops the others."""
    run = seen(
        code(1),
        ranks=ranks(10, 11, 12),
        ended=[
            died(11, 50.0, 11, "1"),
            died(10, 50.4, 15, "0"),
            died(12, 50.4, 15, "2"),
            died(9, 51.0, code(1), main=True),
        ],
    )
    found = told(run)

    assert found["run.first_dead.rank"] == "1"
    assert found["run.first_dead.signal"] == "SIGSEGV"
    assert found["run.first_dead.others_followed"] is True
    assert found["run.killed_signal"] == "SIGSEGV"
    assert found["run.killed_process"] == "Rank 1"


def test_at_one_moment_a_stopped_rank_is_not_the_first() -> None:
    """What was seen in one look: SIGTERM comes from the launcher."""
    ended = [died(10, 50.0, 15, "0"), died(11, 50.001, 9, "1")]

    assert first_dead(ended, ranks(10, 11)) == ended[1]


def test_a_rank_that_ended_well_is_not_the_first() -> None:
    """Exit code 0 is no death."""
    ended = [died(10, 40.0, 0, "0"), died(11, 50.0, code(1), "1")]

    assert first_dead(ended, ranks(10, 11)) == ended[1]
    assert first_dead(ended[:1], ranks(10, 11)) is None


def test_a_job_that_a_launcher_started_again_and_that_ended_well_has_no_dead_rank() -> None:
    """torchrun --max-restarts: only the end counts."""
    run = seen(0, ranks=ranks(10, 11), ended=[died(11, 50.0, 11, "1"), died(10, 50.4, 15, "0")])

    assert not {"run.first_dead.rank", "run.killed_signal"} & set(told(run))


def test_a_rank_that_died_under_a_hang_is_told_unless_it_lives_again() -> None:
    """The others wait for it for ever."""
    run = seen(None, ranks=ranks(10, 11), ended=[died(11, 50.0, 9, "1")])
    assert told(run)["run.first_dead.rank"] == "1"
    run.ranks[12] = Rank(12, "1")

    assert "run.first_dead.rank" not in told(run)


def test_what_a_failed_program_kills_to_tidy_up_is_no_reason() -> None:
    """A helper that got SIGKILL just before the exit code 1."""
    found = told(seen(code(1), ended=[died(20, 99.9, 9), died(9, 100.0, code(1), main=True)]), program="python")

    assert "run.killed_signal" not in found


def test_what_a_shell_reports_of_its_child_is_found_again() -> None:
    """bash ends with 137, since the python in it was killed."""
    found = told(seen(code(137), ended=[died(20, 99.9, 9), died(9, 100.0, code(137), main=True)]), program="bash")

    assert found["run.killed_signal"] == "SIGKILL"
    assert found["run.killed_process"] == "python3 (process 20)"


def test_exit_code_137_of_a_container_stays_what_it_is() -> None:
    """Nothing of it was seen from here."""
    found = told(seen(code(137)), program="docker")

    assert found["run.inner_signal"] == "SIGKILL"
    assert "run.killed_signal" not in found


def with_memory(**sample: int) -> Followed:
    """A run that SIGKILL ended, after one look."""
    run = seen(9, ended=[died(9, 100.0, 9, main=True)])
    run.curve.take(Sample(at=1.0, processes=1, **sample))
    return run


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ({"kills": 1, "hits": 40, "limit": 4 * GIB, "used": 4 * GIB, "free": 0}, "limit"),
        ({"kills": 1, "hits": 0, "available": 0, "total": 64 * GIB}, "machine"),
        ({"kills": 0, "hits": 0}, "nobody"),
    ],
)
def test_whose_memory_ran_out(sample: dict[str, int], expected: str) -> None:
    """By the counters of the control group."""
    assert told(with_memory(**sample))["run.memory.killed_by"] == expected


@pytest.mark.parametrize(
    ("sample", "percent"),
    [
        ({"available": 8 * GIB, "total": 64 * GIB}, 12.5),
        ({"available": 60 * GIB, "total": 64 * GIB, "limit": 4 * GIB, "used": 3 * GIB, "free": GIB}, 25.0),
        ({"available": GIB, "total": 64 * GIB, "limit": 4 * GIB, "used": GIB, "free": 3 * GIB}, 1.6),
        ({}, None),
    ],
)
def test_how_short_memory_ran_is_told(sample: dict[str, int], percent: float | None) -> None:
    """Of the machine or of the limit, whichever had less left; nothing where neither is known."""
    assert told(with_memory(**sample)).get("run.memory.left_least_percent") == percent


def test_unknown_counters_leave_it_unknown() -> None:
    """Neither a counter nor a log: nobody says that it was not memory."""
    assert "run.memory.killed_by" not in told(with_memory())


def test_the_kernels_log_says_whose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid is one of ours, its scope the machine's; another program's kill is not ours."""
    kills = [Kill(999, "firefox", "machine", GIB), Kill(9, "python3", "machine", 60 * GIB)]
    monkeypatch.setattr(outcome.kernel, "since", lambda time: (kills, []))
    run = with_memory()
    run.kernel_mark = 5.0
    found = told(run)

    assert found["run.memory.killed_by"] == "machine"
    assert found["run.kernel.killed"] == "python3"
    assert found["run.kernel.other_kills"] == 1


def test_the_kill_of_another_program_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser of a colleague."""
    monkeypatch.setattr(outcome.kernel, "since", lambda time: ([Kill(999, "firefox", "machine", GIB)], []))
    run = with_memory(kills=0, hits=0)
    run.kernel_mark = 5.0

    assert told(run)["run.memory.killed_by"] == "nobody"


def test_faults_of_gpus_meanwhile_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the meaning that the catalogue has."""
    monkeypatch.setattr(outcome.kernel, "since", lambda time: ([], [Fault("79", "0000:3b:00")]))
    found = told(seen(code(1), kernel_mark=5.0))

    assert (found["run.xids"], found["run.xid.code"], found["run.xid.gpu"]) == (1, 79, "0000:3b:00")
    assert found["run.xid.action"] not in ("unknown", "application", "ignore")


def test_who_stopped_it_is_told() -> None:
    """The sender's name where it can be seen."""
    run = seen(15, passed=[Passed("SIGUSR1", "bash", 7, 10.0), Passed("SIGTERM", "slurmstepd", 8, 90.0)])
    found = told(run, {"SLURM_JOB_ID": "5", "SLURM_JOB_END_TIME": str(int(time.time()) + 3600)})

    assert found["run.stopped.signal"] == "SIGTERM"
    assert found["run.stopped.by"] == "slurmstepd"
    assert found["run.stopped.took"] == 10.0
    assert 3500 < found["run.scheduler_seconds_left"] <= 3600


def test_a_time_that_is_over_is_told() -> None:
    """By Slurm's own variable."""
    environ = {"SLURM_JOB_ID": "5", "SLURM_JOB_END_TIME": str(int(time.time()) - 5)}

    assert told(seen(15), environ)["run.scheduler_seconds_left"] <= -5
    assert "run.scheduler_seconds_left" not in told(seen(15), {"SLURM_JOB_END_TIME": "Unknown"})


def test_full_places_are_told() -> None:
    """The disk that is full, and /dev/shm."""
    run = seen(code(1))
    run.curve.take(
        Sample(
            at=1.0,
            processes=1,
            shm_free=0,
            shm_total=64 << 20,
            disks={"/data": (0, 100 * GIB), "/work": (9 * GIB, 9 * GIB)},
        )
    )
    found = told(run)

    assert (found["run.disk.full"], found["run.disk.folder"]) == (True, "/data")
    assert found["run.shm.full"] is True


def test_who_pressed_ctrl_c_needs_no_reason() -> None:
    """If it ended within a minute; hours later it ended for another reason."""
    assert was_interrupted(seen(2, interrupted_at=99.0))
    assert was_interrupted(seen(code(1), interrupted_at=60.0))
    assert not was_interrupted(seen(9, interrupted_at=3.0))
    assert not was_interrupted(seen(signal.SIGINT))
