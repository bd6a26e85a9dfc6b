"""A batch that goes through the model without its padding teaches the same as one that stands padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from loops import learner_of, ppo_config
from test_direct import judged, pairs_of, with_reference
from test_normalisation import comparisons, critic_free, critic_of, targets_of
from torch import Tensor

from concordant.data.batches import Example
from concordant.errors import UserError
from concordant.models.forward import parameters_of
from concordant.models.load import load_policy, new_reward_model
from concordant.train.config import DPOConfig, KTOConfig, ORPOConfig
from concordant.train.learner import Objective
from concordant.train.objectives.direct import pair_objective
from concordant.train.objectives.kto import kto_objective
from concordant.train.objectives.on_policy import on_policy_objective
from concordant.train.objectives.reward import reward_objective
from concordant.train.objectives.sft import sft_objective
from tinies import KINDS, MACHINE, PAD, assert_close, disturb, gradients, random_rows

Case = tuple[list[Any], Sequence[Example], Objective]


def supervised(folder: str) -> Case:
    model = load_policy(folder)
    return [model], [Example((row,)) for row in random_rows(10, masked=True)], sft_objective(model)


def rewards(folder: str) -> Case:
    model = new_reward_model(folder, pad_id=PAD, seed=0)
    return [model], comparisons(), reward_objective(model, centering=0.01)


def on_policy(critic_kind: str) -> Callable[[str], Case]:
    def case(folder: str) -> Case:
        rows = random_rows(9, seed=2)
        policy, critic = load_policy(folder), critic_of(critic_kind, folder) if critic_kind else None
        config = ppo_config(ent_coef=0.05, temperature=0.7) if critic else critic_free(kl="k3")
        objective = on_policy_objective(
            policy, critic, targets_of(rows), torch.arange(9), config, kl_coef=0.3
        )
        return [policy, *([critic] if critic else [])], [Example((row,)) for row in rows], objective

    return case


def pairs(config: DPOConfig | ORPOConfig) -> Callable[[str], Case]:
    def case(folder: str) -> Case:
        policy = load_policy(folder)
        examples = pairs_of(random_rows(7, seed=5), load_policy(folder))
        disturb(policy)
        return [policy], examples, pair_objective(policy, config)

    return case


def verdicts(folder: str) -> Case:
    policy, config = load_policy(folder), KTOConfig(tokens=100)
    examples = judged(with_reference(random_rows(8, seed=6), load_policy(folder)))
    disturb(policy)
    return [policy], examples, kto_objective(policy, config, pad_id=PAD, machine=MACHINE)(examples)


CASES: dict[str, Callable[[str], Case]] = {
    "sft": supervised,
    "reward": rewards,
    "ppo, critic with a trunk": on_policy("trunk"),
    "ppo, shared critic": on_policy("shared"),
    "grpo": on_policy(""),
    "dpo": pairs(DPOConfig()),
    "orpo": pairs(ORPOConfig()),
    "kto": verdicts,
}


def measured(
    case: Case, *, tokens: int, packing: bool = False
) -> tuple[dict[str, float], dict[str, Tensor], list[int]]:
    """Metrics, gradients, and how many tokens each forward pass of the model was given."""
    modules, examples, objective = case
    widths: list[int] = []
    embedding = modules[0].get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _module, given: widths.append(given[0].numel()))
    learner = learner_of(*modules, tokens=tokens, packing=packing)
    learner.discard()
    metrics = learner.backward(examples, objective)
    found = gradients(*modules)
    learner.discard()
    hook.remove()
    return metrics, found, widths


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_do_not_depend_on_packing(name: str, kind: str, folders: dict[str, str]) -> None:
    """packed_equals_unpacked: https://github.com/meta-pytorch/torchtune/issues/2613,
    https://github.com/axolotl-ai-cloud/axolotl/issues/3478,
    https://github.com/allenai/open-instruct/issues/1549,
    https://github.com/hiyouga/LLaMA-Factory/issues/10737
    """
    case = CASES[name](folders[kind])
    metrics, found, _ = measured(case, tokens=100_000)
    filled = sum(row.length for example in case[1] for row in example.rows)
    for tokens in (1, 60, 100_000):
        packed_metrics, packed, widths = measured(case, tokens=tokens, packing=True)
        assert packed_metrics == pytest.approx(metrics, rel=1e-5, abs=2e-6)
        assert_close(packed, found)
        assert sum(widths) == filled, "no padding goes through the model"


def test_a_model_that_takes_no_positions_cannot_be_packed(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = parameters_of(load_policy(folders["llama"])) - {"position_ids"}
    monkeypatch.setattr("concordant.models.forward.parameters_of", lambda _model: known)
    with pytest.raises(UserError, match="position_ids"):
        measured(supervised(folders["llama"]), tokens=100, packing=True)
