"""Talking to a stage of a run on the terminal, or to two stages side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from concordant.app.runs import recipe_of, stage_model
from concordant.app.terminal import quiet_libraries, visible
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.pipeline.context import base_path, template_of
from concordant.pipeline.recipe import load_recipe, parse_overrides
from concordant.seeds import derive


class Talker:
    """A stage's model with its side of the conversation."""

    def __init__(self, run_folder: Path, stage: str, temperature: float, tokens: int) -> None:
        from concordant.models.hardware import probe
        from concordant.models.load import context_length, load_policy
        from concordant.rollout.inline import InlineSampler

        recipe_path, overrides = recipe_of(run_folder)
        recipe = load_recipe(recipe_path, parse_overrides(overrides))
        path = stage_model(run_folder, stage, base_path(recipe))
        machine = probe(recipe.machine)
        self.name = stage
        self.template = template_of(recipe, path)
        model = load_policy(path).to(machine.device)
        context = context_length(model)
        limit = min(tokens, context // 2)  # half of a short context is left to the conversation
        self.room = context - limit
        self.sampler = InlineSampler(
            model,
            stop_ids=self.template.stop_ids,
            pad_id=self.template.pad_id,
            limit=limit,
            machine=machine,
            temperature=temperature or 1.0,
            greedy=temperature == 0,
        )
        self.messages: tuple[Message, ...] = ()

    def answer(self, text: str, seed: int) -> str:
        """The answer to the next user turn; the oldest turns are forgotten when the context is full."""
        messages = (*self.messages, Message("user", text))
        ids = self.template.prompt_ids(messages)
        while len(ids) > self.room and len(messages) > 2:
            messages = messages[2:]
            ids = self.template.prompt_ids(messages)
        if len(ids) > self.room:
            return f"(that is {len(ids)} tokens; there is room for {self.room})"
        sample = self.sampler.sample([tuple(ids)], seed=seed).samples[0]
        answer = self.template.text(sample.completion)
        self.messages = (*messages, Message("assistant", answer))
        return answer


def chat(arguments: argparse.Namespace, console: Console) -> int:
    """Read turns until the end of input; /new starts over."""
    for option in ("temperature", "tokens"):
        if getattr(arguments, option) < (option == "tokens"):
            raise UserError(
                f"--{option} {getattr(arguments, option)}",
                where="the command line",
                expected="1 or more" if option == "tokens" else "0 or more",
                fix=f"leave --{option} out",
            )
    quiet_libraries()
    names = [arguments.stage, *([arguments.compare] if arguments.compare else [])]
    talkers = [Talker(arguments.run_folder, n, arguments.temperature, arguments.tokens) for n in names]
    console.print(f"talking to {' and '.join(names)}; /new starts over, Ctrl-D ends", style="dim")
    turn = 0
    while True:
        try:
            text = console.input("[bold]you:[/] " if console.is_terminal else "").strip()
        except EOFError:
            return 0
        if text == "/new":
            for talker in talkers:
                talker.messages = ()
        elif text:
            turn += 1
            _show(console, [(t.name, t.answer(text, derive(arguments.seed, turn))) for t in talkers])


def _show(console: Console, answers: list[tuple[str, str]]) -> None:
    """Model text is shown as it is, never as terminal markup."""
    panels: list[Any] = [Panel(Text(visible(text)), title=name, title_align="left") for name, text in answers]
    if console.is_terminal:
        console.print(Columns(panels, equal=True, expand=True) if len(panels) > 1 else panels[0])
    else:
        for name, text in answers:
            console.print(f"{name}: {visible(text)}", markup=False, highlight=False)
