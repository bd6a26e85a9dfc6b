"""Bad recipes, made of good ones, and what has to hold of each of them.

`tests/pipeline/test_recipe_fuzz.py` tries some hundreds, `benchmarks/survive.py` as many as one likes.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bad_files import mutated
from concordant.app.commands import running
from concordant.pipeline.interrupt import Interrupted
from tiny_run import TOWN, Outcome, concordant, snapshot

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PATIENCE = 20  # seconds that a plan may take; most take a hundredth of one
ROWS = 10_000  # of a world that is made for a run that is going to be stopped before its first stage

VALUES: tuple[Any, ...] = (
    True, False, 0, 1, -1, 2, 3, 7, 128, 10**6, 10**9 + 7, 2**31, 2**63 - 1, -(2**63), 0.0, 0.5, 1.0, -0.1, 1e-300,
    1e300, math.nan, math.inf, -math.inf, "", " ", "x", "0", "1", "auto", "none", "inf", "10 steps", "1 min",
    "99999999999 min", "grüß dich 你好", "\u202e", "\x00", "\x1b[31m", "💥" * 50, "a" * 5000, "../../..", "/", "~",
    "/dev/null", "a:b", "os:system", "http://", "https://127.0.0.1:1/", "sqlite:///x.sqlite", "nobody/nothing",
    "postgresql://nobody@127.0.0.1:1/none", [], [1], [""], ["a", "b"], [[]], [{}], {}, {"x": 1}, {"path": ""},
    {"algorithm": "ppo"}, {"algorithm": "none"}, {"kind": "function", "function": "os:system"},
    {"a": {"kind": "server", "url": "http://"}}, {"a": {"b": {"c": {}}}},
)  # fmt: skip
KEYS = (
    "x", "", "batch", "lr", "algorithm", "kl_coef", "group", "completion", "rewards", "checkpoint", "optimizer",
    "adapter", "url", "path", "policy", "compare", "world", "data", "a.b", "ä", "__class__", "model_fields", "steps",
)  # fmt: skip
ALGORITHMS = (
    "ppo", "rloo", "grpo", "dr_grpo", "dapo", "reinforce++", "reinforce++_baseline",
    "dpo", "ipo", "kto", "orpo", "simpo", "best_of_n", "online_dpo",
)  # fmt: skip

Values = dict[str, Any]


def originals() -> list[str]:
    """Good recipes: those that come with concordant, and the tiny one of the tests."""
    return [TOWN, *(file.read_text(encoding="utf-8") for file in sorted(RECIPES.glob("*.toml")))]


def bad_recipes(n: int, seed: int) -> Iterator[tuple[bytes, list[str]]]:
    """Recipes and overrides with mistakes: in bytes, in values, and on the command line."""
    draw = random.Random(seed)
    good = originals()
    for number in range(n):
        text = TOWN if number % 2 else draw.choice(good)
        kind = draw.randrange(4)
        if kind == 0:
            yield mutated(text.encode(), draw), []
        elif kind == 1:
            yield text.encode(), [_override(tomllib.loads(text), draw) for _ in range(draw.randint(1, 3))]
        else:
            yield to_toml(_mistaken(tomllib.loads(text), draw)).encode("utf-8", "surrogatepass"), []


def _mistaken(values: Values, draw: random.Random) -> Values:
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        draw.choice(MISTAKES)(values, draw)
    return values


def _tables(values: Values) -> list[Values]:
    """All tables of a recipe, itself included."""
    found = [values]
    for value in values.values():
        if isinstance(value, dict):
            found += _tables(value)
    return found


def _table(values: Values, draw: random.Random) -> Values:
    return draw.choice(_tables(values))


def _another_value(values: Values, draw: random.Random) -> None:
    table = _table(values, draw)
    if table:
        table[draw.choice(sorted(table))] = draw.choice(VALUES)


def _another_number(values: Values, draw: random.Random) -> None:
    """A number far from the one that was there."""
    numbers = [
        (table, key)
        for table in _tables(values)
        for key, value in table.items()
        if type(value) in (int, float)
    ]
    if numbers:
        table, key = draw.choice(numbers)
        table[key] = draw.choice((-1, 0, 1, 3, 17, 10**6, 10**9 + 7, 10**18)) * draw.choice(
            (1, 1, 0.5, table[key])
        )


def _another_key(values: Values, draw: random.Random) -> None:
    _table(values, draw)[draw.choice(KEYS)] = draw.choice(VALUES)


def _a_typo(values: Values, draw: random.Random) -> None:
    table = _table(values, draw)
    if table:
        key = draw.choice(sorted(table))
        at = draw.randrange(len(key) or 1)
        table[key[:at] + draw.choice("aeiou_ .") + key[at + 1 :]] = table.pop(key)


def _one_less(values: Values, draw: random.Random) -> None:
    """A key or a section that is not there."""
    table = _table(values, draw)
    if table:
        del table[draw.choice(sorted(table))]


def _elsewhere(values: Values, draw: random.Random) -> None:
    """Something that belongs to another section."""
    there = _table(values, draw)
    if there:
        key = draw.choice(sorted(there))
        _table(values, draw)[key] = json.loads(json.dumps(there[key]))


def _another_algorithm(values: Values, draw: random.Random) -> None:
    """Settings of one algorithm under the name of another."""
    policy = values.get("policy")
    if isinstance(policy, dict):
        policy["algorithm"] = draw.choice(ALGORITHMS)


def _compared(values: Values, draw: random.Random) -> None:
    """Sections under [compare], more or less well nested."""
    policy = values.get("policy", {"algorithm": draw.choice(ALGORITHMS)})
    name = draw.choice(("a", "", "ppo", "a.b", "ü", "x" * 300))
    one: Any = draw.choice((policy, {name: policy}, draw.choice(VALUES)))
    values["compare"] = draw.choice(({name: one}, {"a": policy, name: one}, policy, [policy]))


def _listed(values: Values, draw: random.Random) -> None:
    """A list where there was one, and one where there was a list."""
    table = _table(values, draw)
    if table:
        key = draw.choice(sorted(table))
        table[key] = table[key][0] if isinstance(table[key], list) and table[key] else [table[key]]


MISTAKES: tuple[Callable[[Values, random.Random], None], ...] = (
    _another_value, _another_value, _another_number, _another_number, _another_key, _a_typo, _one_less, _elsewhere,
    _another_algorithm, _compared, _listed,
)  # fmt: skip


def _override(values: Values, draw: random.Random) -> str:
    """A word of the command line: a place of the recipe, or none of it, and a value."""
    path: list[str] = []
    table = values
    while isinstance(table, dict) and table and draw.random() < 0.8:
        path.append(draw.choice(sorted(table)))
        table = table[path[-1]]
    path += [draw.choice(KEYS)] if not path or draw.random() < 0.2 else []
    value = draw.choice(VALUES)
    return f"{'.'.join(path)}={value if isinstance(value, str) else _word(value)}"


def to_toml(values: Values) -> str:
    """TOML with every table in braces, whatever stands in it."""
    return "".join(f"{json.dumps(key)} = {_word(value)}\n" for key, value in values.items())


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_word(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_word, value)) + "]"
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return text.replace("NaN", "nan").replace("Infinity", "inf") if isinstance(value, float) else text


def try_recipe(folder: Path, text: bytes, words: list[str]) -> bool:
    """Plan one recipe, and where it is tiny, run it up to its first stage; whether it is a good one still.

    Whatever is wrong fails an assertion: another exception than the one for people, a message without its parts,
    a file that is written, a plan that does not come to its end.
    """
    recipe = folder / "recipe.toml"
    recipe.write_bytes(text)
    before = snapshot(folder)
    with _in_time():
        planned = concordant("plan", recipe, *words, "--runs", folder / "runs")
    assert snapshot(folder) == before, "a plan that writes"
    if planned.status == 0:
        assert planned.err == ""
        if _small(recipe, words):
            _try_run(folder, recipe, words)
        return True
    _one_message(planned)
    with _in_time():
        ran = concordant("run", recipe, *words, "--runs", folder / "runs")
    assert ran.err == planned.err
    assert snapshot(folder) == before, "a refused run that writes"
    return False


def _small(recipe: Path, words: list[str]) -> bool:
    """Whether its world is made in a moment."""
    if words:
        return False
    world = tomllib.loads(recipe.read_text(encoding="utf-8")).get("world")
    sizes = ("corpus", "demonstrations", "prompts")
    return isinstance(world, dict) and all(type(world.get(n)) is int and world[n] <= ROWS for n in sizes)


def _try_run(folder: Path, recipe: Path, words: list[str]) -> None:
    """Run it up to where it would begin its first stage; what the data refuse is refused with nothing written."""
    before = snapshot(folder)
    with _in_time(), _stopped_before_the_first_stage():
        ran = concordant("run", recipe, *words, "--run", folder / "run")
    if ran.status:
        _one_message(ran)
        assert snapshot(folder) == before, "a refused run that writes"
    else:
        assert "nothing is lost" in ran.out
        shutil.rmtree(folder / "run")


@contextmanager
def _stopped_before_the_first_stage() -> Iterator[None]:
    def stop(*_: object) -> bool:
        raise Interrupted

    executed, threads = running.execute, torch.get_num_threads()
    running.execute = stop  # type: ignore[assignment]
    try:
        yield
    finally:
        running.execute = executed
        torch.set_num_threads(threads)  # what the recipe asked for was tried


def _one_message(outcome: Outcome) -> None:
    """What stands where, what was expected and what to do, once each."""
    assert outcome.status == 2, outcome
    assert outcome.err.startswith("error: "), outcome.err
    for word in ("\n  where: ", "\n  expected: ", "\n  do: "):
        assert outcome.err.count(word) == 1, outcome.err
    assert "Traceback" not in outcome.err


@contextmanager
def _in_time() -> Iterator[None]:
    """Fail what takes longer than it may; in the main thread."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"took longer than {PATIENCE} s")

    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
