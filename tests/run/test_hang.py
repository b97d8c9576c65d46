"""Stacks → facts: who waits for whom, and in what."""

from __future__ import annotations

import pytest

from diagnose.run.hang import facts_of
from diagnose.run.stacks import Failed, Frame, Stack, kind_of, place_of, text_of

LIBRARY = "/env/lib/python3.11/site-packages/"
STDLIB = "/usr/lib/python3.11/"


def frames(*places: str) -> tuple[Frame, ...]:
    """Frames, innermost first, as `file:function:line`."""
    made = []
    for place in places:
        file, function, line = place.rsplit(":", 2)
        made.append(Frame(file, function, int(line)))
    return tuple(made)


TRAIN = ("/home/me/train.py:train_step:40", "/home/me/train.py:<module>:90")
ALL_REDUCE = frames(
    f"{LIBRARY}torch/distributed/distributed_c10d.py:all_reduce:3252",
    f"{LIBRARY}torch/distributed/c10d_logger.py:wrapper:83",
    *TRAIN,
)
BARRIER = frames(f"{LIBRARY}torch/distributed/distributed_c10d.py:barrier:5300", "/home/me/train.py:log:7", *TRAIN)
OWN = frames("/home/me/data.py:next_batch:81", *TRAIN)
STACKS = {
    "collective": ALL_REDUCE,
    "rendezvous": frames(f"{LIBRARY}torch/distributed/distributed_c10d.py:init_process_group:1700", *TRAIN),
    "backward": frames(
        f"{LIBRARY}torch/autograd/graph.py:_engine_run_backward:829", f"{LIBRARY}torch/_tensor.py:backward:626", *TRAIN
    ),
    "data loading": frames(
        f"{STDLIB}selectors.py:select:415",
        f"{STDLIB}multiprocessing/connection.py:wait:947",
        f"{STDLIB}multiprocessing/queues.py:get:113",
        f"{LIBRARY}torch/utils/data/dataloader.py:_try_get_data:1278",
        f"{LIBRARY}torch/utils/data/dataloader.py:__next__:720",
        *TRAIN,
    ),
    "file lock": frames(
        f"{LIBRARY}torch/utils/file_baton.py:wait:49", f"{LIBRARY}torch/utils/cpp_extension.py:load:1380", *TRAIN
    ),
    "download": frames(
        f"{STDLIB}ssl.py:read:1166",
        f"{LIBRARY}urllib3/response.py:read:940",
        f"{LIBRARY}huggingface_hub/file_download.py:http_get:400",
        *TRAIN,
    ),
    "an answer at the terminal": frames(
        f"{LIBRARY}click/termui.py:prompt:170", f"{LIBRARY}wandb/util.py:prompt_choices:9"
    ),
    "optimizer": frames(f"{LIBRARY}torch/optim/adamw.py:step:220", *TRAIN),
    "": OWN,
}


@pytest.mark.parametrize("kind", STACKS)
def test_what_a_process_waits_for_is_named(kind: str) -> None:
    """By its inner frames, as far as they are a library's."""
    assert kind_of(STACKS[kind]) == kind


def test_code_of_the_users_own_inside_a_library_is_his() -> None:
    """A forward pass under DDP is no collective, and a data set's own reading is loading."""
    forward = frames(
        "/home/me/model.py:forward:3",
        f"{LIBRARY}torch/nn/modules/module.py:_call_impl:1700",
        f"{LIBRARY}torch/nn/parallel/distributed.py:forward:1600",
    )
    reading = frames("/home/me/data.py:__getitem__:5", f"{LIBRARY}torch/utils/data/_utils/fetch.py:fetch:52", *TRAIN)

    assert kind_of(forward) == ""
    assert kind_of(reading) == "data loading"


def test_a_place_is_the_operation_and_who_called_it() -> None:
    """What a person looks for in the own program."""
    assert place_of(ALL_REDUCE) == "all_reduce, called from train_step (train.py:40)"
    assert place_of(OWN) == "next_batch (data.py:81)"
    assert place_of(()) == "no Python code"


def ranks(*stacks: tuple[Frame, ...]) -> list[Stack]:
    """Rank 0 stands in the first, and so on."""
    return [Stack(100 + rank, "python", str(rank), stack) for rank, stack in enumerate(stacks)]


def test_the_rank_that_others_wait_for_is_named() -> None:
    """Three in all_reduce, one in its own code."""
    told = facts_of(ranks(ALL_REDUCE, ALL_REDUCE, OWN, ALL_REDUCE), [], 1200, 3.1)

    assert told["run.hang.odd_ranks"] == "2"
    assert told["run.hang.waiting_ranks"] == "0, 1, 3"
    assert told["run.hang.others_wait"] is True
    assert told["run.hang.odd_where"] == "next_batch (data.py:81)"


def test_of_two_ranks_the_one_that_waits_is_not_the_odd_one() -> None:
    """In whichever order they come."""
    for found, odd in ((ranks(ALL_REDUCE, OWN), "1"), (ranks(OWN, ALL_REDUCE), "0")):
        assert facts_of(found, [], 60, 1.0)["run.hang.odd_ranks"] == odd


def test_all_alike_has_no_odd_rank() -> None:
    """Nobody is blamed where all wait."""
    told = facts_of(ranks(ALL_REDUCE, ALL_REDUCE), [], 60, 2.0)

    assert told["run.hang.differ"] is False
    assert told["run.hang.kind"] == "collective"
    assert "run.hang.odd_ranks" not in told


def test_different_collectives_are_no_rank_that_others_wait_for() -> None:
    """One in a barrier that the others never reach."""
    told = facts_of(ranks(BARRIER, ALL_REDUCE, ALL_REDUCE), [], 60, 3.0)

    assert told["run.hang.collectives_differ"] is True
    assert told["run.hang.others_wait"] is False


@pytest.mark.parametrize("fetch", ["fetch", "_MapDatasetFetcher.fetch"])
def test_without_ranks_launchers_and_idle_workers_tell_nothing(fetch: str) -> None:
    """The process that stands somewhere is the one that counts, and the worker that has something to do.

    py-spy names a method with its class or without.
    """
    launcher = Stack(1, "torchrun", "", frames(f"{STDLIB}subprocess.py:wait:1264", "/env/bin/torchrun:<module>:8"))
    idle = Stack(
        2,
        "python",
        "",
        frames(
            f"{STDLIB}multiprocessing/queues.py:get:113", f"{LIBRARY}torch/utils/data/_utils/worker.py:_worker_loop:300"
        ),
    )
    busy = Stack(
        3,
        "python",
        "",
        frames(
            "/home/me/data.py:__getitem__:5",
            f"{LIBRARY}torch/utils/data/_utils/fetch.py:{fetch}:52",
            f"{LIBRARY}torch/utils/data/_utils/worker.py:_worker_loop:349",
        ),
    )
    told = facts_of([launcher, idle, busy, Stack(4, "python", "", STACKS["data loading"])], [], 60, 0.0)

    assert told["run.hang.kind"] == "data loading"
    assert told["run.hang.worker_where"] == "__getitem__ (data.py:5)"


def test_what_cannot_be_read_is_told_with_its_reason() -> None:
    """Where no stack came, why."""
    told = facts_of([], [Failed(5, "python", "0", "Permission Denied")], 60, 0.0)

    assert "run.hang.unread" in told
    assert "run.hang.kind" not in told


def test_equal_stacks_are_written_once() -> None:
    """With all that stand there."""
    text = text_of(ranks(ALL_REDUCE, ALL_REDUCE, OWN), [])

    assert text.count("all_reduce (") == 1
    assert "rank 0 (pid 100), rank 1 (pid 101):" in text


def test_a_method_is_known_with_its_class_before_it() -> None:
    """py-spy names it so where Python tells the class: DDP that spreads its buffers waits for the others."""
    file = "/venv/lib/python3.11/site-packages/torch/nn/parallel/distributed.py"
    stack = (
        Frame(file, "DistributedDataParallel._distributed_broadcast_coalesced", 2194),
        Frame("/work/train.py", "<module>", 17),
    )

    assert kind_of(stack) == "collective"
