"""The trainers of TRL, built for a tiny model and fed with token rows.

TRL is imported inside functions: it lives in an environment of its own (`make parity`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from compare import Side, side
from torch import Tensor

from concordant.data.batches import Example, Row
from concordant.rollout.rollout import Rollout
from tinies import PAD, STOPS, VOCAB

TEXT = {"prompt": "w5", "chosen": "w6 w7", "rejected": "w8"}  # trainers want data; it is never trained on


def tokenizer() -> Any:
    """One word per id."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCAB)}
    words = {"<pad>" if i == PAD else "</s>" if i == STOPS[0] else word: i for word, i in words.items()}
    inner = Tokenizer(WordLevel(words, unk_token="w5"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="w5", padding_side="left"
    )


def common(folder: Path) -> dict[str, Any]:
    """Settings of any trainer: fp32 on a CPU, nothing recomputed, nothing sent anywhere."""
    return {
        "output_dir": str(folder),
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "per_device_train_batch_size": 12,
    }


def dataset(**columns: str) -> Any:
    from datasets import Dataset

    return Dataset.from_list([columns] * 12)


def direct_loss(
    policy: Any, reference: Any, examples: Sequence[Example], folder: Path, **settings: Any
) -> Side:
    """`DPOTrainer` on pairs."""
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(**(common(folder) | {"max_length": None} | settings)),
        train_dataset=dataset(**TEXT),
        processing_class=tokenizer(),
    )
    batch = trainer.data_collator(
        [
            {
                "prompt_ids": list(example.rows[0].prompt),
                "chosen_ids": list(example.rows[0].completion),
                "rejected_ids": list(example.rows[1].completion),
            }
            for example in examples
        ]
    )
    return side(trainer.compute_loss(policy, batch), policy)


def kto_loss(policy: Any, reference: Any, examples: Sequence[Example], folder: Path, **settings: Any) -> Side:
    """`KTOTrainer` on judged rows, each with the mismatched completion it is given."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    judged = [{"prompt": "w5", "completion": f"w{6 + n}", "label": n % 2 == 0} for n in range(12)]
    trainer = KTOTrainer(
        model=policy,
        ref_model=reference,
        args=KTOConfig(**(common(folder) | {"max_length": None} | settings)),
        train_dataset=Dataset.from_list(judged),
        processing_class=tokenizer(),
    )
    rows = []
    for example in examples:
        assert example.mismatched is not None
        rows.append(
            {
                "prompt_ids": list(example.rows[0].prompt),
                "completion_ids": list(example.rows[0].completion),
                "KL_completion_ids": list(example.mismatched.completion),
                "label": example.desirable,
            }
        )
    return side(trainer.compute_loss(policy, trainer.data_collator(rows)), policy)


def reward_loss(model: Any, examples: Sequence[Example], folder: Path, **settings: Any) -> Side:
    """`RewardTrainer` on pairs, with their margins where there are any."""
    from trl import RewardConfig, RewardTrainer

    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**(common(folder) | {"max_length": None} | settings)),
        train_dataset=dataset(**TEXT),
        processing_class=tokenizer(),
    )
    rows = []
    for example in examples:
        chosen, rejected = (list(row.prompt + row.completion) for row in example.rows)
        rows.append({"chosen_ids": chosen, "rejected_ids": rejected, "margin": example.pairs[0].margin})
    if not any(row["margin"] for row in rows):
        rows = [{name: row[name] for name in ("chosen_ids", "rejected_ids")} for row in rows]
    return side(trainer.compute_loss(model, trainer.data_collator(rows)), model)


def sft_loss(policy: Any, parts: Sequence[Sequence[Row]], folder: Path) -> Side:
    """`SFTTrainer` on an optimiser step of several micro-batches, labels on completions."""
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(**(common(folder) | {"max_length": None})),
        train_dataset=dataset(prompt="w5", completion="w6"),
        processing_class=tokenizer(),
    )
    tokens = torch.tensor(sum(len(row.completion) for part in parts for row in part))
    total: Side | None = None
    for part in parts:
        rows = [
            {
                "input_ids": list(row.prompt + row.completion),
                "labels": [-100] * len(row.prompt) + list(row.completion),
            }
            for row in part
        ]
        batch = trainer.data_collator(rows)
        one = side(trainer.compute_loss(policy, batch, num_items_in_batch=tokens), policy)
        total = one if total is None else total + one
    assert total is not None
    return total


def without_reference(
    trainer_of: Callable[..., Any], policy: Any, examples: Sequence[Example], args: Any
) -> Side:
    """`ORPOTrainer` and `CPOTrainer` on pairs."""
    trainer = trainer_of(model=policy, args=args, train_dataset=dataset(**TEXT), processing_class=tokenizer())
    batch: dict[str, Tensor] = {}
    for name, place in (("chosen", 0), ("rejected", 1)):
        rows = [example.rows[place] for example in examples]
        width = max(row.length for row in rows)
        shape = (len(rows), width)
        tokens, labels = torch.full(shape, PAD), torch.full(shape, -100)
        for n, row in enumerate(rows):
            tokens[n, : row.length] = torch.tensor(row.prompt + row.completion)
            labels[n, len(row.prompt) : row.length] = torch.tensor(row.completion)
        batch |= {
            f"{name}_input_ids": tokens,
            f"{name}_attention_mask": (tokens != PAD).long(),
            f"{name}_labels": labels,
        }
    loss, _ = trainer.get_batch_loss_metrics(policy, batch)
    return side(loss, policy)


def orpo_loss(policy: Any, examples: Sequence[Example], folder: Path, **settings: Any) -> Side:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return without_reference(ORPOTrainer, policy, examples, ORPOConfig(**(common(folder) | settings)))


def cpo_loss(policy: Any, examples: Sequence[Example], folder: Path, **settings: Any) -> Side:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return without_reference(CPOTrainer, policy, examples, CPOConfig(**(common(folder) | settings)))


def on_policy_loss(
    method: str,
    policy: Any,
    rollout: Rollout,
    scores: Tensor,
    then: Callable[[Any], None],
    folder: Path,
    **settings: Any,
) -> Side:
    """`RLOOTrainer` or `GRPOTrainer` on a rollout: frozen and scored now, learnt from after `then` moved the policy.

    The reference is what lies on disk where the policy was loaded from. One epoch was already taken on the
    rollout as far as the trainer knows, so it holds on to the log-probabilities of the old policy.
    """
    import trl

    n = len(rollout.samples)
    prompts = [list(sample.prompt_ids) for sample in rollout.samples]
    completions = [list(sample.completion) for sample in rollout.samples]
    given = common(folder) | {"per_device_train_batch_size": n, "num_iterations": 2}
    given |= {"temperature": rollout.temperature, "num_generations": n // (rollout.samples[-1].prompt + 1)}
    reward = Paid(scores.tolist())
    shared = {
        "model": policy,
        "reward_funcs": reward,
        "train_dataset": dataset(prompt="w5"),
        "processing_class": tokenizer(),
    }
    if method == "rloo":
        trainer: Any = trl.RLOOTrainer(args=trl.RLOOConfig(**(given | settings)), **shared)
        trainer._generate = lambda _: (prompts, completions, [""] * n)
    else:
        sampled = [list(sample.logprobs) for sample in rollout.samples]
        told = {"prompt_ids": prompts, "completion_ids": completions, "logprobs": sampled}
        trainer = trl.GRPOTrainer(
            args=trl.GRPOConfig(**(given | settings)), rollout_func=lambda *_: told, **shared
        )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": "w5"} for _ in range(n)])
    then(policy)
    return side(trainer.compute_loss(policy, batch), policy)


class Paid:
    """A reward function that says what it was told to say."""

    __name__ = "paid"

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def __call__(self, **_: Any) -> list[float]:
        return self.scores
