"""The page that teaches PPO computes what the loop computes: each is the other's oracle."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from loops import Improvement, Pays, ppo_config

from concordant.data.types import Prompt
from concordant.models.load import load_policy
from concordant.rollout.rollout import Rollout
from tinies import PAD, assert_close, random_prompts, weights

PAGE = Path(__file__).resolve().parents[2] / "examples" / "ppo_in_one_file.py"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ppo_in_one_file", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def padded(rollout: Rollout, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rollout as the page has it: prompts of one length, completions padded on the right."""
    width = max(len(sample.completion) for sample in rollout.samples)
    ids, mask = [], []
    for sample in rollout.samples:
        empty = width - len(sample.completion)
        ids.append((*sample.prompt_ids, *sample.completion, *[PAD] * empty))
        mask.append([True] * len(sample.completion) + [False] * empty)
    return torch.tensor(ids), torch.tensor(mask)


def test_the_page_and_the_loop_have_the_same_losses_for_ten_updates(
    page: ModuleType, folders: dict[str, str]
) -> None:
    lr = 3e-3
    config = ppo_config(
        updates=10,
        batch=24,
        epochs=page.EPOCHS,
        lr=lr,
        kl_coef=page.KL_COEF,
        clip=page.CLIP,
        clip_value=page.CLIP,
        lam=page.LAM,
        gamma=page.GAMMA,
        vf_coef=page.VF_COEF,
        missing_eos_penalty=0.0,
        critic="shared",
    )
    loop = Improvement(folders["llama"], config, reward=Pays(11))
    loop.prompts = [
        (Prompt.user(f"question {i}"), (ids * 4)[:4]) for i, ids in enumerate(random_prompts(20, seed=8))
    ]
    policy, reference = load_policy(folders["llama"]), load_policy(folders["llama"])
    critic = page.make_critic(32)
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], lr=lr, weight_decay=0.0)
    for step in loop.run():
        assert step.rollout is not None
        ids, mask = padded(step.rollout, config.completion)
        scores = torch.tensor(step.scores)
        losses, _ = page.update(policy, reference, critic, optimizer, ids, 4, mask, scores)
        assert sum(losses) / len(losses) == pytest.approx(step.metrics["loss"], abs=2e-5)
    assert_close(weights(policy), weights(loop.policy), 1e-3)


def test_the_page_learns_what_it_is_paid_for(page: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    page.main()
    said = capsys.readouterr().out.splitlines()
    scores = [float(line.split("score ")[1].split()[0]) for line in said]
    assert scores[-1] > 0.4
    assert scores[0] < 0.2


def test_the_page_needs_the_equations_alone(page: ModuleType) -> None:
    imports = [line for line in PAGE.read_text().splitlines() if line.startswith(("import", "from"))]
    ours = [line for line in imports if "concordant" in line]
    assert ours
    assert all(line.startswith("from concordant.core") for line in ours)
