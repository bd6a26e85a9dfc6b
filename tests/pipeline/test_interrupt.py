"""Signals: the first asks for a stop, the second leaves, and a closed terminal is no second one."""

from __future__ import annotations

import os
import signal

import pytest

from concordant.pipeline import interrupt
from concordant.pipeline.interrupt import SIGNALS, Interrupted, StopRequest


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """What would have ended the process, or its ties to the terminal."""
    found: list[int | str] = []
    monkeypatch.setattr(interrupt, "_leave", found.append)
    monkeypatch.setattr(interrupt, "_leave_terminal", lambda: found.append("terminal"))
    return found


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_for_a_stop(number: signal.Signals, left: list[int | str]) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with StopRequest().listening() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            stop.check()
    assert [signal.getsignal(one) for one in SIGNALS] == before
    assert left == (["terminal"] if number == signal.SIGHUP else [])


def test_words_that_nobody_can_read_are_no_error(left: list[int | str]) -> None:
    told = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)  # as behind `2>&1 | tee`, which goes with its terminal
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested
    finally:
        os.dup2(told, 2)
        for descriptor in (told, writer):
            os.close(descriptor)
    assert left == ["terminal"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_one_leaves(number: signal.Signals, left: list[int | str]) -> None:
    with StopRequest().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == []
        os.kill(os.getpid(), number)
        assert left == [number]


def test_a_closed_terminal_is_told_of_twice_and_is_one_request(left: list[int | str]) -> None:
    with StopRequest().listening() as stop:
        for _ in range(2):  # by the shell, and by the system
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested
    assert set(left) == {"terminal"}


def test_a_run_that_is_to_outlive_its_terminal_does() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
