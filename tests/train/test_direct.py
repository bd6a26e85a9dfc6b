"""Direct preference optimisation and KTO on token rows: the equations row by row, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from loops import MACHINE, config_of, learner_of
from torch import Tensor

from concordant.data.batches import Example, Pair, Row
from concordant.models.load import add_adapter, load_policy, reference_of
from concordant.train.config import DPOConfig, IPOConfig, KTOConfig, ORPOConfig, PairConfig, SimPOConfig
from concordant.train.fit import always, fit
from concordant.train.learner import Objective
from concordant.train.objectives.direct import DIVERGENCES, DPO_LOSSES, pair_objective
from concordant.train.objectives.kto import kto_objective
from tinies import ADAPTER, PAD, assert_close, disturb, gradients, plain_logprobs, random_rows

BUDGETS = (1, 60, 100_000)


def with_reference(rows: Sequence[Row], reference: Any) -> list[Row]:
    with torch.no_grad():
        return [replace(row, ref_logprobs=tuple(plain_logprobs(reference, row).tolist())) for row in rows]


def pairs_of(rows: Sequence[Row], reference: Any) -> list[Example]:
    """Two pairs by themselves, one with soft label and weight, and a ranking of three; prompts are shared."""
    rows = [replace(row, prompt=rows[min(n - n % 2, 4)].prompt) for n, row in enumerate(rows)]
    rows = with_reference(rows, reference)
    return [
        Example((rows[0], rows[1]), (Pair(0, 1),)),
        Example((rows[2], rows[3]), (Pair(1, 0, p_chosen=0.7, weight=0.5),)),
        Example((rows[4], rows[5], rows[6]), (Pair(0, 1, weight=1 / 3), Pair(0, 2, weight=1 / 3))),
    ]


@pytest.fixture(scope="module")
def moved(folders: dict[str, str]) -> Callable[[], tuple[Any, list[Example]]]:
    """A policy that has left its reference, and pairs with the reference's log-probabilities."""

    def make() -> tuple[Any, list[Example]]:
        policy = load_policy(folders["llama"])
        rows = random_rows(7, seed=5, masked=True)
        rows = [replace(row, loss_mask=(True, *row.loss_mask[1:])) for row in rows]
        examples = pairs_of(rows, load_policy(folders["llama"]))
        disturb(policy)
        return policy, examples

    return make


def counted(row: Row) -> Tensor:
    return torch.tensor(row.loss_mask) if row.loss_mask else torch.ones(len(row.completion), dtype=torch.bool)


def total(values: Tensor, row: Row) -> Tensor:
    return values[counted(row)].sum()


def log_ratio(policy: Any, row: Row) -> Tensor:
    return total(plain_logprobs(policy, row) - torch.tensor(row.ref_logprobs), row)


def logistic(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x))


def plain(config: PairConfig, policy: Any, chosen: Row, rejected: Row) -> Tensor:
    """The loss of one pair as its paper has it."""
    if isinstance(config, SimPOConfig):
        means = [total(plain_logprobs(policy, row), row) / counted(row).sum() for row in (chosen, rejected)]
        return logistic(config.beta * (means[0] - means[1]) - config.gamma)
    if isinstance(config, ORPOConfig):
        means = [total(plain_logprobs(policy, row), row) / counted(row).sum() for row in (chosen, rejected)]
        odds = [mean - torch.log(1 - mean.exp()) for mean in means]
        return config.beta * logistic(odds[0] - odds[1])
    c, r = log_ratio(policy, chosen), log_ratio(policy, rejected)
    if config.per_token:
        c, r = c / counted(chosen).sum(), r / counted(rejected).sum()
    if isinstance(config, IPOConfig):
        return (c - r - 1 / (2 * config.beta)) ** 2
    return logistic(config.beta * (c - r))


def assert_equals(objective: Objective, policy: Any, examples: Sequence[Example], loss: Tensor) -> None:
    """Loss and gradient, for every cut into micro-batches, every order, and another pad token."""
    policy.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = gradients(policy)
    for tokens in BUDGETS:
        for given in (examples, examples[::-1]):
            for pad_id in (PAD, 9):
                policy.zero_grad(set_to_none=True)
                learner = learner_of(policy, tokens=tokens)
                learner.pad_id = pad_id
                metrics = learner.backward(given, objective)
                assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=5e-6, abs=1e-6)
                assert_close(gradients(policy), expected)


CONFIGS: dict[str, PairConfig] = {
    "dpo": DPOConfig(),
    "dpo per token": DPOConfig(per_token=True),
    "dpo and likelihood": DPOConfig(nll_coef=0.3),
    "cdpo": DPOConfig(label_smoothing=0.2),
    "robust": DPOConfig(flip_rate=0.2),
    "ipo": IPOConfig(beta=0.3),
    "ipo of sums": IPOConfig(beta=0.3, per_token=False),
    "orpo": ORPOConfig(beta=1.0),
    "simpo": SimPOConfig(),
}


def test_figures_say_which_way_either_side_moved(moved: Callable[[], tuple[Any, list[Example]]]) -> None:
    policy, examples = moved()
    metrics = learner_of(policy, tokens=60).backward(examples, pair_objective(policy, DPOConfig()))
    pairs = [(example.rows, pair) for example in examples for pair in example.pairs]
    weight = sum(pair.weight for _, pair in pairs)
    for side in ("chosen", "rejected"):
        per_token = 0.0
        for rows, pair in pairs:
            row = rows[getattr(pair, side)]
            per_token += pair.weight * float(log_ratio(policy, row).detach() / counted(row).sum())
        assert metrics[f"policy/{side}_change"] == pytest.approx(per_token / weight, rel=1e-4)
    without = learner_of(policy, tokens=60).backward(examples, pair_objective(policy, SimPOConfig()))
    assert not [name for name in without if name.endswith("_change")], "SimPO has nothing to move from"


@pytest.mark.parametrize("name", CONFIGS)
def test_pairs_row_by_row(name: str, moved: Callable[[], tuple[Any, list[Example]]]) -> None:
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    preference_golden_numbers: https://github.com/hiyouga/LLaMA-Factory/issues/6722
    """
    policy, examples = moved()
    config = CONFIGS[name]
    loss, weights, nll, chosen_tokens = torch.zeros(()), 0.0, torch.zeros(()), 0.0
    for example in examples:
        for pair in example.pairs:
            chosen, rejected = example.rows[pair.chosen], example.rows[pair.rejected]
            there, back = plain(config, policy, chosen, rejected), plain(config, policy, rejected, chosen)
            p = pair.p_chosen
            if isinstance(config, DPOConfig):
                p = p * (1 - config.label_smoothing) + (1 - p) * config.label_smoothing
                if config.flip_rate:
                    e = config.flip_rate
                    there, back = (
                        ((1 - e) * there - e * back) / (1 - 2 * e),
                        ((1 - e) * back - e * there) / (1 - 2 * e),
                    )
            loss = loss + pair.weight * (p * there + (1 - p) * back)
            weights += pair.weight
            for row, share in ((chosen, pair.p_chosen), (rejected, 1 - pair.p_chosen)):
                nll = nll - share * pair.weight * total(plain_logprobs(policy, row), row)
                chosen_tokens += share * pair.weight * int(counted(row).sum())
    loss = loss / weights + config.nll_coef * nll / chosen_tokens
    assert_equals(pair_objective(policy, config), policy, examples, loss)


@pytest.mark.parametrize("loss", DPO_LOSSES)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_loss_and_divergence_is_finite_and_cut_as_one_likes(
    loss: Any, divergence: Any, moved: Callable[[], tuple[Any, list[Example]]]
) -> None:
    if divergence != "reverse_kl" and loss in ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"):
        with pytest.raises(ValueError, match="divergence"):
            DPOConfig(loss=loss, divergence=divergence)
        return
    policy, examples = moved()
    objective = pair_objective(policy, DPOConfig(loss=loss, divergence=divergence, length_alpha=0.5))
    seen = []
    for tokens in BUDGETS:
        policy.zero_grad(set_to_none=True)
        metrics = learner_of(policy, tokens=tokens).backward(examples, objective)
        seen.append((metrics, gradients(policy)))
    assert all(math.isfinite(value) for value in seen[0][0].values())
    for metrics, found in seen[1:]:
        assert metrics == pytest.approx(seen[0][0], rel=1e-5, abs=1e-6)
        assert_close(found, seen[0][1])


@pytest.mark.parametrize("config", [DPOConfig(), DPOConfig(loss="hinge"), IPOConfig()])
def test_at_the_start_the_policy_is_its_reference(config: PairConfig, folders: dict[str, str]) -> None:
    """reference = the weights passed, step-0 KL 0; the loss is the one of equal worth.

    initial_kl_is_zero: https://github.com/CarperAI/trlx/issues/108,
    https://github.com/CarperAI/trlx/issues/509
    """
    policy = load_policy(folders["llama"])
    examples = pairs_of(random_rows(7, seed=5), policy)
    metrics = learner_of(policy).backward(examples, pair_objective(policy, config))
    assert metrics["reward/margin"] == pytest.approx(0, abs=1e-5)
    start = {"sigmoid": math.log(2), "hinge": 1.0}
    wanted = start[config.loss] if isinstance(config, DPOConfig) else 1 / (4 * config.beta**2)
    assert metrics["loss"] == pytest.approx(wanted, rel=1e-4)


def test_an_adapter_switched_off_is_a_reference_like_the_cached_one(folders: dict[str, str]) -> None:
    policy = load_policy(folders["llama"])
    examples = pairs_of(random_rows(7, seed=5), policy)
    bare = [replace(e, rows=tuple(replace(row, ref_logprobs=()) for row in e.rows)) for e in examples]
    adapted = add_adapter(policy, ADAPTER, 0)
    disturb(adapted)
    reference = reference_of(adapted, folders["llama"])
    cached = learner_of(adapted).backward(examples, pair_objective(adapted, DPOConfig()))
    live = learner_of(adapted).backward(bare, pair_objective(adapted, DPOConfig(), reference))
    assert cached == pytest.approx(live, rel=1e-5, abs=1e-6)
    assert abs(live["reward/margin"]) > 1e-3


def judged(rows: Sequence[Row]) -> list[Example]:
    """Every other row is desirable; each has the completion of the next row as its mismatch."""
    return [
        Example(
            (row,),
            desirable=n % 2 == 0,
            weight=1.0 if n else 0.5,
            mismatched=replace(rows[(n + 1) % len(rows)], prompt=row.prompt),
        )
        for n, row in enumerate(rows)
    ]


def test_kto_row_by_row(folders: dict[str, str]) -> None:
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    """
    policy, reference = load_policy(folders["llama"]), load_policy(folders["llama"])
    disturb(policy)
    examples = []
    for example in judged(random_rows(8, seed=6)):
        assert example.mismatched is not None
        (row, other) = with_reference((*example.rows, example.mismatched), reference)
        examples.append(replace(example, rows=(row,), mismatched=other))
    config = KTOConfig(desirable_weight=1.5, undesirable_weight=0.8, tokens=40)
    ratios = torch.stack([log_ratio(policy, e.mismatched).detach() for e in examples if e.mismatched])
    z = ratios.mean().clamp(min=0)
    loss = torch.zeros(())
    for example in examples:
        distance = log_ratio(policy, example.rows[0]) - z
        if example.desirable:
            loss = loss + example.weight * 1.5 * (1 - torch.sigmoid(config.beta * distance))
        else:
            loss = loss + example.weight * 0.8 * (1 - torch.sigmoid(-config.beta * distance))
    objective = kto_objective(policy, config, pad_id=PAD, machine=MACHINE)(examples)
    assert_equals(objective, policy, examples, loss / sum(example.weight for example in examples))
    metrics = learner_of(policy, tokens=30).backward(examples, objective)
    assert metrics["objective/kl"] == pytest.approx(float(z), rel=1e-4, abs=1e-6)


def shorter_wins(n: int, seed: int) -> list[Example]:
    rows = random_rows(2 * n, seed=seed)
    examples = []
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        other = replace(other, prompt=one.prompt)
        if len(one.completion) != len(other.completion):
            first = int(len(one.completion) > len(other.completion))
            examples.append(Example((one, other), (Pair(first, 1 - first),)))
    return examples


def a_seven_wins(n: int, seed: int) -> list[Example]:
    """Pairs of which one completion has the token 7 in it."""
    rng, rows = random.Random(seed), random_rows(2 * n, seed=seed)
    examples = []
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        plain = [tuple(8 if token == 7 else token for token in row.completion) for row in (one, other)]
        at = rng.randrange(len(plain[0]))
        with_seven = (*plain[0][:at], 7, *plain[0][at + 1 :])
        examples.append(Example((Row(one.prompt, plain[1]), Row(one.prompt, with_seven)), (Pair(1, 0),)))
    return examples


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("dpo", shorter_wins),
        ("dpo", a_seven_wins),
        ("ipo", a_seven_wins),
        ("orpo", a_seven_wins),
        ("simpo", a_seven_wins),
    ],
)
def test_a_labeler_with_a_rule_is_learnt(
    name: str, rule: Callable[[int, int], list[Example]], folders: dict[str, str]
) -> None:
    """Within 100 steps the implied preferences on unseen pairs agree with the labeler in 8 of 10.

    Length alone is no rule for the objectives that look at means per token.
    """
    config = CONFIGS[name]
    policy, reference = load_policy(folders["llama"]), load_policy(folders["llama"])

    def prepared(examples: list[Example]) -> list[Example]:
        return [replace(e, rows=tuple(with_reference(e.rows, reference))) for e in examples]

    training, unseen = prepared(rule(800, 1)), prepared(rule(300, 2))
    objective = pair_objective(policy, config)
    before = learner_of(policy).backward(unseen, objective)["reward/accuracy"]
    learner = learner_of(policy, lr=3e-3)
    list(fit(learner, training, always(objective), config_of(100, 32), seed=0))
    learner.discard()
    after = learner.backward(unseen, objective)["reward/accuracy"]
    assert after > 0.8
    if name == "dpo":
        assert before == pytest.approx(0.5, abs=0.05)  # at the start it has no opinion


def test_kto_learns_the_same_labeler(folders: dict[str, str]) -> None:
    policy, reference = load_policy(folders["llama"]), load_policy(folders["llama"])
    examples = []
    for example in a_seven_wins(300, seed=1):
        (pair,) = example.pairs
        rows = with_reference(example.rows, reference)
        examples += [Example((row,), desirable=n == pair.chosen) for n, row in enumerate(rows)]
    count = len(examples)
    examples = [
        replace(
            e,
            mismatched=with_reference(
                [replace(examples[(n + 2) % count].rows[0], prompt=e.rows[0].prompt)], reference
            )[0],
        )
        for n, e in enumerate(examples)
    ]
    config = KTOConfig()
    objective_of = kto_objective(policy, config, pad_id=PAD, machine=MACHINE)
    list(fit(learner_of(policy, lr=3e-3), examples, objective_of, config_of(60, 64), seed=0))
    unseen = [replace(e, rows=tuple(with_reference(e.rows, reference))) for e in a_seven_wins(200, seed=2)]
    metrics = learner_of(policy).backward(unseen, pair_objective(policy, DPOConfig()))
    assert metrics["reward/accuracy"] > 0.8


@pytest.mark.parametrize("config", [DPOConfig(), IPOConfig()])
def test_an_objective_that_needs_a_reference_says_so(config: PairConfig, folders: dict[str, str]) -> None:
    policy = load_policy(folders["llama"])
    examples = [Example((row, row), (Pair(0, 1),)) for row in random_rows(2)]
    with pytest.raises(ValueError, match="compares with a reference, and there is none"):
        learner_of(policy).backward(examples, pair_objective(policy, config))


def test_objectives_without_a_reference_need_none(folders: dict[str, str]) -> None:
    policy = load_policy(folders["llama"])
    examples = [Example((row, row), (Pair(0, 1),)) for row in random_rows(2)]
    for config in (ORPOConfig(), SimPOConfig()):
        assert math.isfinite(learner_of(policy).backward(examples, pair_objective(policy, config))["loss"])
