"""Bad recipes: no traceback, one message with its parts, nothing written."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest

from bad_recipes import bad_recipes, originals, to_toml, try_recipe
from tiny_run import TOWN, concordant, town_file


def test_recipes_with_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = sum(try_recipe(tmp_path, text, words) for text, words in bad_recipes(250, seed=0))
    assert 5 < good < 100  # some mistakes are none, and most are


def test_what_is_written_for_the_mistakes_is_the_recipe_itself(tmp_path: Path) -> None:
    for text in originals():
        assert tomllib.loads(to_toml(tomllib.loads(text))) == tomllib.loads(text)
    assert try_recipe(tmp_path, TOWN.encode(), [])


def test_a_default_that_depends_on_a_bad_value(tmp_path: Path) -> None:
    """DAPO's buffer is a share of its longest completion, which may be anything."""
    for value in ("{}", '"x"', "[64]", "nan", "-1"):
        words = [f'policy={{ algorithm = "dapo", completion = {value} }}']
        assert not try_recipe(tmp_path, TOWN.encode(), words)


def test_absurd_numbers_of_threads(tmp_path: Path) -> None:
    for threads in (-1, 4097, 2**31, 2**63 - 1):
        assert not try_recipe(tmp_path, TOWN.replace("threads = 1", f"threads = {threads}").encode(), [])


def test_an_absurd_batch_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TOWN)
    for batch, near in (((1 << 61) - 1, "1 or"), (10**12, "2 or 4")):
        said = concordant("plan", tmp_path / "tiny.toml", f"policy.batch={batch}", "policy.minibatches=3").err
        assert f"a divisor of the batch of {batch}, such as {near}" in said


@pytest.mark.parametrize(
    "words",
    [
        "model.embedded.layers=2000000",
        "world.corpus=1000000000000000000",
        "feedback.prompts=1000000000000000000",
    ],
)
def test_an_absurd_size_is_refused_at_once(tmp_path: Path, words: str) -> None:
    begin = time.monotonic()
    outcome = concordant("plan", town_file(tmp_path), words)
    assert outcome.status == 2
    assert words.partition("=")[0] in outcome.err
    assert time.monotonic() - begin < 10


def test_prompts_that_are_gone_through_many_times_are_counted_at_once(tmp_path: Path) -> None:
    begin = time.monotonic()
    assert concordant("plan", town_file(tmp_path), "feedback.prompts=9999999").status == 0
    assert time.monotonic() - begin < 20
