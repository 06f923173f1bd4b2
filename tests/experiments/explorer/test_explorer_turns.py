"""Answers take turns, and the one in progress ends with the explorer."""

import threading
import time

import pytest

from experiments.explorer.turns import Ended, Turns


def test_calls_of_several_threads_do_not_overlap() -> None:
    turns = Turns()
    running = 0
    most = 0

    def work() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        return 7

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(turns.take(work))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert answers == [7] * 5


def test_the_end_stops_the_call_in_progress_and_takes_no_more() -> None:
    turns = Turns()
    started = threading.Event()
    outcome: list[str] = []

    def endless() -> None:
        started.set()
        while True:
            time.sleep(0.001)

    def call() -> None:
        try:
            turns.take(endless)
        except Ended:
            outcome.append("ended")

    thread = threading.Thread(target=call)
    thread.start()
    started.wait()
    turns.end()
    thread.join(5)
    assert outcome == ["ended"]
    with pytest.raises(Ended):
        turns.take(lambda: 1)


def test_an_error_of_a_call_leaves_the_turn_to_others() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 // 0)
    assert turns.take(lambda: 2) == 2
