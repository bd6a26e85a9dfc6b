"""The short form of `make survive`: runs that are killed again and again end as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import FAULTS, Bench, Unavailable
from kills import Survival, differences
from nursery import Nursery
from tiny_run import clone


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as one:
        yield one


def test_runs_survive_twenty_kills(nursery: Nursery, tmp_path: Path) -> None:
    survival = Survival(nursery, tmp_path, seed=1)
    tally = survival.kill(20, ("ppo", "dapo", "kto", "best_of_n"))
    assert tally.failures == []
    assert tally.total == 20
    assert tally.ends >= 4
    assert len({stage for _, stage in tally.kills} - {"between stages"}) >= 5


@pytest.fixture(scope="module")
def bench(nursery: Nursery, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(nursery, tmp_path_factory.mktemp("faults"), finished)


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_survives(bench: Bench, name: str) -> None:
    try:
        FAULTS[name][0](bench)
    except Unavailable as why:
        pytest.skip(str(why))


def test_the_driver_sees_what_differs(finished: Path, tmp_path: Path) -> None:
    other = clone(finished, tmp_path / "other")
    assert differences(other, finished) == []
    log = other / "stages" / "04-reward" / "steps.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("".join(line + "\n" for line in lines[:-1]))
    assert differences(other, finished) == ["stages/04-reward/steps.jsonl"]
    model = other / "stages" / "05-policy" / "model" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    results = json.loads((other / "results.json").read_text())
    (other / "results.json").write_text(json.dumps(results | {"seed": "another"}))
    assert differences(other, finished) == [
        "weights of 05-policy",
        "stages/04-reward/steps.jsonl",
        "results.json: seed is 'another', not 0",
    ]
    (other / "results.json").unlink()
    assert differences(other, finished) == ["no results.json"]
