"""Direct preference optimisation, KTO, ORPO and SimPO against TRL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import pytest
import torch
from compare import Makes, Side, Table, ours, random_pairs
from torch import Tensor

from concordant.core import direct
from concordant.core.logprobs import sequence_logprob
from concordant.data.batches import Counts, Example, MicroBatch, Row, micro_batches
from concordant.models.load import Reference
from concordant.train.config import DPOConfig, IPOConfig, KTOConfig, ORPOConfig, SimPOConfig
from concordant.train.objectives.direct import (
    completion_logprobs,
    pair_objective,
    reference_logprobs,
    worths,
)
from concordant.train.objectives.kto import kto_objective, log_ratio
from tinies import MACHINE, PAD

pytestmark = pytest.mark.parity

PAIRS = random_pairs(8)

# Name in the table, our config, settings of DPOTrainer.
DPO: list[tuple[str, DPOConfig | IPOConfig, dict[str, Any]]] = [
    *(
        (f"DPO {name}", DPOConfig(loss=name), {"loss_type": [name]})
        for name in (
            "sigmoid",
            "hinge",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "apo_zero",
            "apo_down",
            "discopop",
        )
    ),
    ("DPO sigmoid, beta 0.5", DPOConfig(beta=0.5), {"beta": 0.5}),
    ("DPO exo_pair", DPOConfig(loss="exo_pair"), {"loss_type": ["exo_pair"], "label_smoothing": 1e-3}),
    ("DPO robust", DPOConfig(flip_rate=0.1), {"loss_type": ["robust"], "label_smoothing": 0.1}),
    ("DPO sigmoid_norm", DPOConfig(per_token=True), {"loss_type": ["sigmoid_norm"]}),
    (
        "DPO sigmoid + 0.3 sft",
        DPOConfig(nll_coef=0.3),
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]},
    ),
    ("f-DPO forward KL", DPOConfig(divergence="forward_kl"), {"f_divergence_type": "forward_kl"}),
    (
        "f-DPO Jensen-Shannon",
        DPOConfig(divergence="jensen_shannon"),
        {"f_divergence_type": "js_divergence"},
    ),
    (
        "f-DPO alpha 0.5",
        DPOConfig(divergence="alpha"),
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5},
    ),
    (
        "f-DPO alpha 0.5, exo_pair",
        DPOConfig(divergence="alpha", loss="exo_pair"),
        {
            "f_divergence_type": "alpha_divergence",
            "f_alpha_divergence_coef": 0.5,
            "loss_type": ["exo_pair"],
            "label_smoothing": 1e-3,
        },
    ),
    ("LD-DPO alpha 0.5", DPOConfig(length_alpha=0.5), {"ld_alpha": 0.5}),
    (
        "LD-DPO alpha 0, hinge",
        DPOConfig(length_alpha=0.0, loss="hinge"),
        {"ld_alpha": 0.0, "loss_type": ["hinge"]},
    ),
    (
        "LD-DPO alpha 0.5, sigmoid_norm",
        DPOConfig(length_alpha=0.5, per_token=True),
        {"ld_alpha": 0.5, "loss_type": ["sigmoid_norm"]},
    ),
    ("IPO, mean per token", IPOConfig(), {"loss_type": ["ipo"]}),
]


@pytest.mark.parametrize(("name", "config", "settings"), DPO, ids=[row[0] for row in DPO])
def test_dpo(
    name: str,
    config: DPOConfig | IPOConfig,
    settings: dict[str, Any],
    policy: Makes,
    reference: Reference,
    table: Table,
    tmp_path: Path,
) -> None:
    model = policy()
    mine = ours(pair_objective(model, config, reference), PAIRS, model)
    theirs = peers.direct_loss(policy(), reference.model, PAIRS, tmp_path, **settings)
    table.same(name, mine, theirs)


NOT_OF_THE_DIFFERENCE = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")


@pytest.mark.parametrize("loss", NOT_OF_THE_DIFFERENCE)
def test_they_refuse_a_divergence_without_a_difference(
    loss: str, policy: Makes, reference: Reference, tmp_path: Path
) -> None:
    """The reward of f-DPO is known up to a term of the prompt, which cancels in differences only."""
    settings = {"loss_type": [loss], "f_divergence_type": "js_divergence"}
    with pytest.raises(ValueError, match="only supported for the following loss types"):
        peers.direct_loss(policy(), reference.model, PAIRS, tmp_path, **settings)


@pytest.mark.parametrize("loss", NOT_OF_THE_DIFFERENCE)
def test_we_refuse_a_divergence_without_a_difference(loss: str) -> None:
    with pytest.raises(ValueError, match="divergence"):
        DPOConfig(loss=loss, divergence="jensen_shannon")


def test_divergence_of_means(policy: Makes, reference: Reference, table: Table, tmp_path: Path) -> None:
    """f' is a function of the ratio of two completions; the length divides what it gives."""
    config = DPOConfig(per_token=True, divergence="jensen_shannon")
    settings = {"loss_type": ["sigmoid_norm"], "f_divergence_type": "js_divergence"}
    model = policy()
    mine = ours(pair_objective(model, config, reference), PAIRS, model)
    theirs = peers.direct_loss(policy(), reference.model, PAIRS, tmp_path, **settings)
    table.same("f-DPO Jensen-Shannon, sigmoid_norm", mine, theirs)


def test_ipo_on_sums(policy: Makes, reference: Reference, table: Table, tmp_path: Path) -> None:
    """TRL has means per token only; where all completions have n tokens, its loss at beta n is ours / n^2."""
    n = 4
    pairs = random_pairs(8, seed=1, length=n)
    model = policy()
    objective = pair_objective(model, IPOConfig(beta=0.1, per_token=False), reference)
    mine = ours(objective, pairs, model)
    theirs = peers.direct_loss(policy(), reference.model, pairs, tmp_path, loss_type=["ipo"], beta=0.1 * n)
    table.same("IPO, sums", mine, theirs * n**2)


def test_conservative_dpo(policy: Makes, reference: Reference, table: Table, tmp_path: Path) -> None:
    """TRL's sigmoid ignores label_smoothing; its aot does not, and on a batch of one pair it is cDPO."""
    model = policy()
    mine = ours(pair_objective(model, DPOConfig(label_smoothing=0.1), reference), PAIRS, model)
    smoothed = {"label_smoothing": 0.1}
    ignored = peers.direct_loss(policy(), reference.model, PAIRS, tmp_path, **smoothed)
    plain = peers.direct_loss(policy(), reference.model, PAIRS, tmp_path)
    assert ignored.loss == plain.loss
    table.deviates("cDPO 0.1 against sigmoid with label_smoothing", mine, ignored)
    total: Side | None = None
    for pair in PAIRS:
        one = peers.direct_loss(policy(), reference.model, [pair], tmp_path, loss_type=["aot"], **smoothed)
        total = one if total is None else total + one
    assert total is not None
    table.same("cDPO 0.1 (their aot, pair by pair)", mine, total * (1 / len(PAIRS)))


@pytest.mark.parametrize("kind", ["aot", "aot_unpaired"])
def test_aot(kind: str, policy: Makes, reference: Reference, table: Table, tmp_path: Path) -> None:
    """An equation in `core` that no recipe reaches: it compares a batch with itself, so it cannot be cut."""
    model = policy()

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        mask = batch.loss_mask_BC
        logprobs, base = completion_logprobs(model, batch), reference_logprobs(batch, reference)
        totals, base_totals = sequence_logprob(logprobs, mask), sequence_logprob(base, mask)
        chosen, rejected = batch.chosen_M, batch.rejected_M
        if kind == "aot":
            one, other = totals[chosen] - totals[rejected], base_totals[chosen] - base_totals[rejected]
        else:
            one, other = worths(logprobs, logprobs - base, batch, DPOConfig())
        return direct.weighted_mean(direct.aot_loss(one, other, beta=0.1), counts.pairs), {}

    mine = ours(objective, PAIRS, model, tokens=None)
    theirs = peers.direct_loss(policy(), reference.model, PAIRS, tmp_path, loss_type=[kind])
    table.same(f"DPO {kind}", mine, theirs)


def test_sft_term_of_unequal_micro_batches(
    policy: Makes, reference: Reference, table: Table, tmp_path: Path
) -> None:
    """TRL takes the mean of the means of micro-batches, we the mean over the optimiser batch."""
    parts = [PAIRS[:2], PAIRS[2:]]
    assert len({sum(len(pair.rows[0].completion) for pair in part) for part in parts}) == 2
    model = policy()
    mine = ours(pair_objective(model, DPOConfig(nll_coef=0.3), reference), PAIRS, model)
    settings = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}
    one, other = (peers.direct_loss(policy(), reference.model, part, tmp_path, **settings) for part in parts)
    table.deviates("DPO sigmoid + 0.3 sft, two unequal micro-batches", mine, one * 0.5 + other * 0.5)


JUDGED = [
    Example(
        (pair.rows[n % 2],),
        desirable=n % 3 != 0,
        mismatched=Row(pair.rows[0].prompt, PAIRS[(n + 1) % len(PAIRS)].rows[0].completion),
    )
    for n, pair in enumerate(PAIRS)
]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.7)])
def test_kto(
    positive: bool,
    weights: tuple[float, float],
    policy: Makes,
    reference: Reference,
    table: Table,
    tmp_path: Path,
) -> None:
    """With a baseline above 0, and with one that is clamped."""
    noise = _noise_with_baseline(positive, policy, reference)
    desirable, undesirable = weights
    given = {"desirable_weight": desirable, "undesirable_weight": undesirable}
    model = policy(**noise)
    prepared = kto_objective(model, KTOConfig(**given), pad_id=PAD, machine=MACHINE, reference=reference)
    mine = ours(prepared(JUDGED), JUDGED, model)
    theirs = peers.kto_loss(policy(**noise), reference.model, JUDGED, tmp_path, **given)
    told = f"KTO, z {'above' if positive else 'clamped at'} 0, weights {desirable:g} and {undesirable:g}"
    table.same(told, mine, theirs)


def _noise_with_baseline(positive: bool, policy: Makes, reference: Reference) -> dict[str, Any]:
    """The first noise after which the mean log-ratio of mismatched completions has this sign."""
    rows = [Example((one.mismatched,)) for one in JUDGED if one.mismatched is not None]
    (batch,) = micro_batches(rows, 10_000, PAD)
    for seed in range(40):
        with torch.no_grad():
            mean = log_ratio(policy(seed=seed), batch, reference).mean()
        if abs(mean) > 0.1 and bool(mean > 0) == positive:
            return {"seed": seed}
    raise AssertionError("no such noise")


def test_orpo(policy: Makes, table: Table, tmp_path: Path) -> None:
    """TRL's cross-entropy covers the prompt too; a prompt of one token is never predicted."""
    for prompt, check in ((1, table.same), (7, table.deviates)):
        pairs = random_pairs(8, seed=2, prompt=prompt)
        model = policy()
        mine = ours(pair_objective(model, ORPOConfig(beta=0.2)), pairs, model)
        theirs = peers.orpo_loss(policy(), pairs, tmp_path, beta=0.2)
        told = "prompts of one token" if prompt == 1 else "longer prompts"
        check(f"ORPO, {told}", mine, theirs)


def test_simpo(policy: Makes, table: Table, tmp_path: Path) -> None:
    """cpo_alpha, 1 by default in TRL, adds the cross-entropy of the chosen completions."""
    theirs = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0}
    for alpha in (0.0, 1.0):
        model = policy()
        mine = ours(pair_objective(model, SimPOConfig(nll_coef=alpha)), PAIRS, model)
        told = f"SimPO + {alpha:g} cross-entropy" if alpha else "SimPO"
        table.same(told, mine, peers.cpo_loss(policy(), PAIRS, tmp_path, cpo_alpha=alpha, **theirs))


def test_soft_labels_are_averages_of_both_directions(
    policy: Makes, reference: Reference, table: Table, tmp_path: Path
) -> None:
    """TRL has no soft labels; a pair with p counts as p of it and 1 - p of its mirror image."""
    p = 0.7
    soft = [replace(pair, pairs=(replace(pair.pairs[0], p_chosen=p),)) for pair in PAIRS]
    mirrored = [replace(pair, rows=pair.rows[::-1]) for pair in PAIRS]
    model = policy()
    mine = ours(pair_objective(model, DPOConfig(), reference), soft, model)
    one, other = (
        peers.direct_loss(policy(), reference.model, pairs, tmp_path) for pairs in (PAIRS, mirrored)
    )
    table.same("DPO sigmoid, soft labels (their mean over both directions)", mine, one * p + other * (1 - p))
