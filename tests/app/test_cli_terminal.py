"""What stands on the terminal: progress with and without one, and text that cannot steer it."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from concordant.app import terminal
from concordant.app.commands.chatting import _show
from concordant.app.terminal import Steadfast, Terminal, visible

HOSTILE = "\x1b[2J\x1b]0;title\x07[red]not[/red] [/] a\rb\x9b31m \u202etxt.exe\u2066 \ud800"


def console(*, tty: bool, width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=tty, width=width, soft_wrap=not tty, legacy_windows=False
    )


def written(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def test_what_steers_the_terminal_is_marked() -> None:
    shown = visible(HOSTILE)
    assert not set("\x1b\x07\r\x9b\u202e\u2066\ud800") & set(shown)
    assert "[red]not[/red] [/] a\ufffdb" in shown
    assert len(shown) == len(HOSTILE)


@pytest.mark.parametrize(
    "text", ["Grüße\tund\nZeilen", "12\u00a0%", "\u3000東京", "👩\u200d👩", "می\u200cخواهم", "e\u0301"]
)
def test_writing_of_all_kinds_is_left_alone(text: str) -> None:
    assert visible(text) == text


@given(st.text(st.characters(codec="utf-8")))
def test_nothing_is_lost_and_nothing_steers(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert all(c in "\n\t" or c >= " " for c in shown)
    assert not any("\x7f" <= c <= "\x9f" for c in shown)


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("models", [1, 2])
def test_hostile_answers_are_shown_as_text(tty: bool, models: int) -> None:
    on = console(tty=tty, width=200)
    _show(on, [(f"model {n}", HOSTILE) for n in range(models)])
    shown = written(on)
    assert shown.count("[red]not[/red] [/] a") == models
    assert "\x1b[2J" not in shown
    assert "\x1b]0;" not in shown
    assert not set("\x07\x9b\u202e") & set(shown)


def test_lines_of_the_run_are_shown_as_text() -> None:
    on = console(tty=False)
    Terminal(on).say("[red]/runs/[x]/\x1b[2Jtiny[/]")
    assert written(on) == "[red]/runs/[x]/\ufffd[2Jtiny[/]\n"


def test_a_reader_that_goes_away_ends_nothing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        to = Terminal(Steadfast(file=pipe))
        to.say("heard")
        assert os.read(reader, 100) == b"heard\n"
        os.close(reader)
        for _ in range(2):
            to.say("heard by nobody")
        with to.activity("training", 2, "steps") as progress:
            progress.to(2)


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    on = console(tty=False)
    with Terminal(on).activity("PPO", 100, "steps") as progress:
        for done in range(41, 101):  # taken up again after step 40
            now[0] += 0.5
            progress.to(done, "KL 1.0")
    lines = written(on).splitlines()
    assert lines[0].startswith("  PPO 50/100 steps, ")
    assert lines[-1].startswith("  PPO 100/100 steps, ")
    assert lines[-1].endswith("  KL 1.0")
    assert "left" in lines[0]
    assert "left" not in lines[-1]
    assert 5 <= len(lines) <= 8
    assert ", 2.0/s, 25 s left" in lines[0] or ", 1.8/s" in lines[0]


def test_a_terminal_gets_a_bar() -> None:
    on = console(tty=True, width=120)
    with Terminal(on).activity("fine-tuning", 3, "steps") as progress:
        for done in (1, 2, 3):
            progress.to(done, "loss 1.234")
    shown = written(on)
    assert "fine-tuning" in shown
    assert "3/3" in shown
    assert "loss 1.234" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is given back


def test_an_activity_that_breaks_off_gives_the_terminal_back() -> None:
    on = console(tty=True)

    def broken_off() -> None:
        with Terminal(on).activity("PPO", 3, "steps") as progress:
            progress.to(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert "\x1b[?25h" in written(on)
    Terminal(on).say("stopped")
