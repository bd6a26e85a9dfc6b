"""What the parity tests share: two sets of weights, and the table they fill."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest
from compare import Makes, Table, moved

from concordant.models.load import Reference, load_policy, new_reward_model
from tinies import PAD, tiny_model

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".parity" / "results"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the weights everything starts from; a reference that is read from disk is read here."""
    folder = str(tmp_path_factory.mktemp("start"))
    tiny_model("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def policy(start: str) -> Makes:
    """Makes policies that all have the same weights and have moved away from where they started."""
    return lambda **noise: moved(load_policy(start), **noise)


@pytest.fixture
def reference(start: str) -> Reference:
    """Where the policies started."""
    return Reference(load_policy(start).requires_grad_(False))


@pytest.fixture
def reward_model(start: str) -> Makes:
    """Makes reward models, the same for the same seed."""
    return lambda seed=1: new_reward_model(start, pad_id=PAD, seed=seed)


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    """Collects what was found; `benchmarks/parity.py` makes a page of it."""
    found = Table()
    yield found
    trl = _trl_version()
    names = ("torch", "transformers", "accelerate", "concordant")
    facts = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), "trl": trl, **{n: version(n) for n in names}},
        "equal": [asdict(row) | {"within": row.within} for row in found.equal],
        "apart": [asdict(row) for row in found.apart],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"trl-{trl}.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _trl_version() -> str:
    import trl

    return str(trl.__version__)
