"""Fine-tuning and the reward model against TRL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peers
import pytest
from compare import Makes, Table, ours, random_pairs

from concordant.data.batches import Example
from concordant.train.objectives.reward import reward_objective
from concordant.train.objectives.sft import sft_objective
from tinies import random_rows

pytestmark = pytest.mark.parity


def test_sft(policy: Makes, table: Table, tmp_path: Path) -> None:
    """Two unequal micro-batches on their side, cut elsewhere than ours: both divide by all tokens of the step."""
    rows = random_rows(10, seed=3)
    model = policy()
    mine = ours(sft_objective(model), [Example((row,)) for row in rows], model)
    table.same("SFT", mine, peers.sft_loss(policy(), [rows[:3], rows[3:]], tmp_path))


MARGINS = (0.0, 1.0, 0.5, 2.0)


@pytest.mark.parametrize("margins", [False, True], ids=["plain", "margin"])
@pytest.mark.parametrize("centering", [0.0, 0.01])
def test_reward_model(
    margins: bool, centering: float, reward_model: Makes, table: Table, tmp_path: Path
) -> None:
    examples = random_pairs(8, seed=4)
    if margins:
        examples = [
            replace(example, pairs=(replace(example.pairs[0], margin=MARGINS[n % 4]),))
            for n, example in enumerate(examples)
        ]
    model = reward_model()
    mine = ours(reward_objective(model, centering=centering), examples, model)
    settings = {"center_rewards_coefficient": centering or None}
    theirs = peers.reward_loss(reward_model(), examples, tmp_path, **settings)
    told = "reward model" + ", margins" * margins + (f", centering {centering:g}" if centering else "")
    table.same(told, mine, theirs)
