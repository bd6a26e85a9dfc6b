"""Settings of the two loops. No torch here: recipes are read without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from concordant.config import Config
from concordant.errors import UserError

NORM_SAMPLES = 512  # completions of the reference that fix the score normalisation
MOST_VALIDATED = 128  # examples in a look at what was kept out


class OptimizerConfig(Config):
    """AdamW with a warm-up and a schedule."""

    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up: not at all, to zero in a line, or as a cosine."""
    warmup: int = Field(0, ge=0)
    """Optimiser steps over which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    beta2: float = Field(0.999, gt=0, lt=1)
    """Decay of the second moment of AdamW."""
    clip_grad: float = Field(1.0, ge=0)
    """Largest norm of the gradient, policy and critic each by itself; 0 = no clipping."""
    skip_at_most: int = Field(5, ge=1)
    """Steps in a row whose loss or gradient is not finite, each left out, before training stops."""


class CheckpointConfig(Config):
    """When the state of a stage is saved; `checkpoint = 50` is short for `every` in this section."""

    every: str = Field("100 steps", pattern=r"^\d{1,9} (steps?|min)$")
    """Steps or minutes between two checkpoints: "50 steps", 50 or "10 min"; 0 = none before the end.

    Steps are those of steps.jsonl: optimiser steps; on own samples, rollouts or rounds.
    """
    keep: int = Field(2, ge=1)
    """Checkpoints that stay until the stage is complete, the newest ones."""
    best: str = Field("", pattern=r"^(-?[a-z_]+(/[a-z_0-9]+)?)?$")
    """Figure of steps.jsonl, with a minus where lower is better: the checkpoint with the best one stays too, and is
    what the stage leaves; empty = the stage leaves what its last step gave.

    Such as "objective/rlhf_reward" for PPO. Only the last step and those that `every` names are compared: with minutes
    they depend on the clock, and so does what the stage leaves.
    """

    @model_validator(mode="before")
    @classmethod
    def _every_unless_named(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping | CheckpointConfig) else {"every": value}

    @field_validator("every", mode="before")
    @classmethod
    def _steps_unless_said(cls, value: Any) -> Any:
        return f"{value} steps" if type(value) is int else value

    def check_best(self, metrics: Mapping[str, float]) -> None:
        """Raise a `UserError` where the steps of a stage, of which these are the figures, have none that is `best`."""
        name = self.best.removeprefix("-")
        if name and name not in metrics:
            raise UserError(
                f"the steps of this stage have no figure {name!r}",
                where="checkpoint.best",
                expected=f"one of {', '.join(sorted(metrics))}",
                fix="name one of them, or leave checkpoint.best empty",
            )

    def rank(self, metrics: Mapping[str, float]) -> float:
        """How good a step is by `best`: higher is better, and a step without that figure is the worst."""
        value = metrics.get(self.best.removeprefix("-"), math.nan)
        if not math.isfinite(value):
            return -math.inf
        return -value if self.best.startswith("-") else value

    @property
    def steps(self) -> int:
        """Steps between two checkpoints; 0 where minutes decide, or nothing does."""
        return 0 if self.every.endswith("min") else int(self.every.split()[0])

    @property
    def minutes(self) -> int:
        """Minutes between two checkpoints; 0 where steps decide, or nothing does."""
        return int(self.every.split()[0]) if self.every.endswith("min") else 0


class LoopConfig(Config):
    """What every training stage has."""

    tokens: int = Field(8192, ge=1)
    """Most tokens, padding included, in one forward pass; sets memory, not the result."""
    packing: bool = False
    """Learn without padding, rows one behind the other: for attention that skips what it may not see (flash, flex)."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    @field_validator("checkpoint", "optimizer", mode="before")
    @classmethod
    def _what_is_not_said_stays(cls, value: Any, info: ValidationInfo) -> Any:
        """A part of [optimizer] leaves the section's own defaults in force, not those of AdamW in general."""
        assert info.field_name is not None
        default = cls.model_fields[info.field_name].default
        return {**default.model_dump(), **value} if isinstance(value, Mapping) else value


class FitConfig(LoopConfig):
    """Learning from fixed data."""

    batch: int = Field(64, ge=1)
    """Examples per optimiser step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data; ignored when steps is set."""
    steps: int = Field(0, ge=0)
    """Optimiser steps; 0 = as many as epochs asks for."""
    validations: int = Field(5, ge=0)
    """Looks at up to 128 rows that were kept out, evenly over the steps: demonstrations and pairs."""

    def total_steps(self, examples: int) -> int:
        """Optimiser steps on this many examples."""
        return self.steps or max(1, round(self.epochs * examples / self.batch))


class RewardPartConfig(Config):
    """One source of scores."""

    weight: float = 1.0
    """Factor of its scores in the sum."""


class ModelPartConfig(RewardPartConfig):
    """A reward model."""

    kind: Literal["model"] = "model"
    """This source."""
    path: str = ""
    """Folder (relative to data_root or to here) or hub name; empty = the reward model of this run."""


class EnsemblePartConfig(RewardPartConfig):
    """Several reward models as one (Coste et al. 2023, arXiv:2310.02743)."""

    kind: Literal["ensemble"]
    """This source."""
    paths: tuple[str, ...] = Field(min_length=2)
    """Folders or hub names; "" is the reward model of this run."""
    combine: Literal["mean", "min", "spread"] = "mean"
    """Their mean, their minimum, or the mean less spread_coef times the variance."""
    spread_coef: float = Field(1.0, ge=0)
    """Weight of the variance, where combine = spread."""

    @field_validator("spread_coef")
    @classmethod
    def _a_spread_to_weigh(cls, coef: float, info: ValidationInfo) -> float:
        if coef != 1 and info.data.get("combine", "spread") != "spread":
            raise ValueError(f"1 for combine = {info.data['combine']}, which has no use for it")
        return coef


class FunctionPartConfig(RewardPartConfig):
    """A Python function."""

    kind: Literal["function"]
    """This source."""
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """Dotted name package.module:function; called with lists of chats and completions, returns a list of numbers."""


class ServerPartConfig(RewardPartConfig):
    """A server that gives scores over HTTP; the text of prompts and completions is sent there."""

    kind: Literal["server"]
    """This source."""
    url: str = Field(pattern=r"^https?://")
    """Address of the POST request."""
    timeout: float = Field(60.0, gt=0)
    """Seconds to wait for an answer; three tries."""


class LabelersPartConfig(RewardPartConfig):
    """The labelers of [feedback], who rank the completions of each prompt; their votes are kept."""

    kind: Literal["labelers"]
    """This source: the score is the share of the other completions that one is put above."""


def _model_unless_named(value: Any) -> Any:
    return {"kind": "model", **value} if isinstance(value, Mapping) else value


class ScoredConfig(LoopConfig):
    """Sampling from the policy, and scores for what it said."""

    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    completion: int = Field(64, ge=1)
    """Most tokens of a completion."""
    rewards: dict[
        str,
        Annotated[
            ModelPartConfig | EnsemblePartConfig | FunctionPartConfig | ServerPartConfig | LabelersPartConfig,
            Field(discriminator="kind"),
            BeforeValidator(_model_unless_named),
        ],
    ] = Field(default_factory=dict)
    """Where scores come from, by name; they are added up. None = the reward model of this run."""

    @property
    def needs_reward_stage(self) -> bool:
        """Whether scores come from a reward model trained in this run."""
        own = [part for part in self.rewards.values() if isinstance(part, ModelPartConfig) and not part.path]
        mixed = [part for part in self.rewards.values() if isinstance(part, EnsemblePartConfig)]
        return not self.rewards or bool(own) or any("" in part.paths for part in mixed)

    @property
    def asks_labelers(self) -> bool:
        """Whether scores come from the ranks that labelers give."""
        return any(isinstance(part, LabelersPartConfig) for part in self.rewards.values())


class OnPolicyConfig(ScoredConfig):
    """Learning from own samples: rollouts, each followed by clipped updates (arXiv:1707.06347)."""

    checkpoint: CheckpointConfig = CheckpointConfig(every="10 steps")
    updates: int = Field(50, ge=1)
    """Rollouts; each is followed by `epochs` passes of clipped updates."""
    batch: int = Field(128, ge=1)
    """Completions per rollout."""
    group: int = Field(1, ge=1)
    """Completions of each draw of a prompt, which are compared with each other; they divide the batch."""
    epochs: int = Field(2, ge=1)
    """Passes over one rollout."""
    minibatches: int = Field(1, ge=1)
    """Optimiser steps per pass; they divide the batch."""
    kl_coef: float = Field(0.05, ge=0)
    """Weight of the penalty on drift from the reference."""
    kl: Literal["reward", "k2", "k3"] = "reward"
    """Where the penalty stands: per token (k1) in the reward, or in the loss, estimated by k2 or ratio * k3."""
    kl_target: float | None = Field(None, gt=0)
    """Adapt kl_coef so that the KL per sequence stays near this many nats; unset = fixed kl_coef."""
    kl_horizon: float = Field(10_000, gt=0)
    """Completions over which the adaptive controller corrects (Ziegler et al. 2019, arXiv:1909.08593)."""
    score_norm: Literal["none", "reference"] = "reference"
    """Shift and scale scores by their mean and deviation on the reference's own completions."""
    score_clip: float = Field(0.0, ge=0)
    """Clip normalised scores to plus or minus this; 0 = no clipping."""
    missing_eos_penalty: float = Field(1.0, ge=0)
    """Taken off the score of a completion that never stopped."""
    clip: float = Field(0.2, gt=0)
    """The importance ratio is clipped to 1 - clip .. 1 + clip."""
    clip_high: float | None = Field(None, gt=0)
    """Upper clip by itself; unset = clip."""
    ratio: Literal["token", "sequence", "sequence_mean"] = "token"
    """The importance ratio of each token, or of the whole completion: of its sum or mean of log-ratios."""
    average: Literal["token", "sequence", "limit"] = "token"
    """Every token counts the same, or every completion, or the sum of each completion over its longest length."""
    ent_coef: float = Field(0.0, ge=0)
    """Weight of the entropy bonus."""
    early_stop_kl: float | None = Field(None, gt=0)
    """Leave the passes over a rollout once KL(old, new) per token exceeds 1.5 times this; unset = never."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="constant")

    @field_validator("kl_target")
    @classmethod
    def _something_to_adapt(cls, target: float | None, info: ValidationInfo) -> float | None:
        if target is not None and info.data.get("kl_coef") == 0:
            raise ValueError("kl_coef above 0 to start from, as the controller multiplies it")
        return target

    @field_validator("kl_horizon")
    @classmethod
    def _a_target_to_steer_to(cls, horizon: float, info: ValidationInfo) -> float:
        if horizon != cls.model_fields["kl_horizon"].default and not info.data.get("kl_target"):
            raise ValueError("a kl_target beside it: a fixed kl_coef has no horizon")
        return horizon

    @field_validator("group", "minibatches")
    @classmethod
    def _divide_the_batch(cls, part: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch")  # absent where it was refused itself
        if batch and batch % part:
            fitting = _divisors(batch)
            below = max(n for n in fitting if n < part)
            above = min((n for n in fitting if n > part), default=batch)
            raise ValueError(f"a divisor of the batch of {batch}, such as {below} or {above}")
        return part


def _divisors(n: int) -> list[int]:
    """Those up to a million, and what is left beside each: a batch may be absurd, and is refused all the same."""
    small = [d for d in range(1, min(math.isqrt(n), 1_000_000) + 1) if n % d == 0]
    return [*small, *(n // d for d in small)]


class PPOConfig(OnPolicyConfig):
    """PPO with a critic and a KL penalty (arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155)."""

    algorithm: Literal["ppo"] = "ppo"
    """This objective."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    whiten: bool = True
    """Whiten advantages over the whole rollout."""
    clip_value: float = Field(0.2, gt=0)
    """Values are clipped to the old value plus or minus this."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value loss; with a critic of its own trunk its learning rate says more."""
    critic: Literal["reward_model", "shared"] = "reward_model"
    """A trunk of its own started from the reward model, or a head on the policy's trunk."""
    critic_lr: float | None = Field(None, gt=0)
    """Learning rate of the critic; unset = the policy's."""
    critic_warmup: int = Field(0, ge=0)
    """Rollouts in which only the critic learns."""


class CriticFreeConfig(OnPolicyConfig):
    """PPO without a critic: completions of one prompt are compared with each other.

    An algorithm is a row of `CRITIC_FREE`, a set of defaults of which every one can be changed.
    """

    algorithm: Literal["rloo", "grpo", "dr_grpo", "dapo", "reinforce++", "reinforce++_baseline"]
    """Which set of defaults."""
    advantage: Literal["leave_one_out", "normalised", "centred", "to_go"] = "leave_one_out"
    """The score against the others of its group, in deviations of its group, against its mean, or alone."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token, where advantage = to_go."""
    whiten: bool = False
    """Whiten advantages over the whole rollout."""
    dynamic_sampling: int = Field(0, ge=0)
    """Times that groups whose scores are all the same are replaced by groups of other prompts."""
    overlong_buffer: int = Field(0, ge=0)
    """Tokens before the longest completion over which a penalty grows to 1; 0 = none."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_algorithm(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        known = dict(CRITIC_FREE.get(str(values.get("algorithm")), {}))
        longest = values.get("completion", cls.model_fields["completion"].default)
        if "overlong_buffer" in known and type(longest) is int:  # the paper's share of its longest completion
            known["overlong_buffer"] = max(1, longest // 4)
        return {**known, **values}

    @field_validator("overlong_buffer")
    @classmethod
    def _no_longer_than_a_completion(cls, buffer: int, info: ValidationInfo) -> int:
        if buffer > info.data.get("completion", buffer):
            raise ValueError(f"at most the longest completion of {info.data['completion']} tokens")
        return buffer

    @field_validator("gamma")
    @classmethod
    def _steps_to_discount(cls, gamma: float, info: ValidationInfo) -> float:
        if gamma != 1 and info.data.get("advantage", "to_go") != "to_go":
            raise ValueError(
                f"1 for advantage = {info.data['advantage']}, which has one reward per completion"
            )
        return gamma

    @field_validator("dynamic_sampling")
    @classmethod
    def _groups_to_replace(cls, times: int, info: ValidationInfo) -> int:
        if times and info.data.get("advantage") == "to_go":
            raise ValueError("0 for advantage = to_go: a completion by itself has no group to agree with")
        return times

    @field_validator("advantage")
    @classmethod
    def _groups_to_compare(cls, advantage: str, info: ValidationInfo) -> str:
        if advantage != "to_go" and info.data.get("group", 2) < 2:
            raise ValueError(
                "to_go for a group of 1; the others compare the completions of a prompt: set group"
            )
        return advantage


# Defaults after the papers; what they leave open is as elsewhere here (score_norm, missing_eos_penalty).
CRITIC_FREE: Mapping[str, Mapping[str, Any]] = {
    # Ahmadian et al. 2024, arXiv:2402.14740
    "rloo": {
        "group": 4,
        "epochs": 1,
        "ratio": "sequence",
        "average": "sequence",
        "advantage": "leave_one_out",
    },
    # Shao et al. 2024, arXiv:2402.03300
    "grpo": {
        "group": 8,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.04,
        "average": "sequence",
        "advantage": "normalised",
    },
    # Liu et al. 2025, arXiv:2503.20783: without the biases of length and difficulty
    "dr_grpo": {
        "group": 8,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.0,
        "average": "limit",
        "advantage": "centred",
    },
    # Yu et al. 2025, arXiv:2503.14476: no KL, wider clip above, no token wasted on groups that agree
    "dapo": {
        "group": 16,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.0,
        "clip_high": 0.28,
        "advantage": "normalised",
        "dynamic_sampling": 3,
        "overlong_buffer": 16,  # a quarter of the longest completion
        "missing_eos_penalty": 0.0,  # the buffer punishes what never stops
    },
    # Hu 2025, arXiv:2501.03262
    "reinforce++": {"group": 1, "epochs": 1, "advantage": "to_go", "whiten": True},
    "reinforce++_baseline": {
        "group": 8,
        "epochs": 1,
        "kl": "k2",
        "advantage": "centred",
        "whiten": True,
    },
}


class RoundsConfig(ScoredConfig):
    """Rounds of sampling, keeping what scored best, and fitting the policy to it."""

    checkpoint: CheckpointConfig = CheckpointConfig(every="1 step")
    rounds: int = Field(1, ge=1)
    """Rounds, each from the policy that the last one left."""
    prompts: int = Field(512, ge=1)
    """Prompts of a round."""
    samples: int = Field(8, ge=2)
    """Completions per prompt."""
    batch: int = Field(64, ge=1)
    """Examples per optimiser step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the examples of a round."""

    @property
    def steps_per_round(self) -> int:
        """Optimiser steps of a round in which every prompt gives an example."""
        return max(1, round(self.epochs * self.prompts / self.batch))


class BestOfNConfig(RoundsConfig):
    """Fine-tuning on the best of n samples: rejection sampling; over rounds, expert iteration (arXiv:2307.09288)."""

    algorithm: Literal["best_of_n"] = "best_of_n"
    """This objective."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="constant")


class OnlineDPOConfig(RoundsConfig):
    """DPO on pairs of the policy's own samples, the best against the worst (Guo et al. 2024, arXiv:2402.04792)."""

    algorithm: Literal["online_dpo"] = "online_dpo"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """Weight of drift from the reference."""
    rounds: int = Field(8, ge=1)
    """Rounds, each from the policy that the last one left."""
    samples: int = Field(4, ge=2)
    """Completions per prompt."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6, schedule="constant")


class DirectConfig(FitConfig):
    """Learning from preferences without a reward model."""

    nll_coef: float = Field(0.0, ge=0)
    """Weight of the cross-entropy of the chosen completions, which keeps their likelihood up."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6, schedule="linear")


class DPOConfig(DirectConfig):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) and its relatives."""

    algorithm: Literal["dpo"] = "dpo"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """Weight of drift from the reference."""
    loss: Literal[
        "sigmoid",
        "hinge",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "sppo_hard",
        "apo_zero",
        "apo_down",
        "discopop",
    ] = "sigmoid"
    """The loss of a pair; hinge is SLiC."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of labels taken to be the wrong way round (cDPO); a soft label is moved towards one half by it."""
    flip_rate: float = Field(0.0, ge=0, lt=0.5)
    """Share of labels known to be the wrong way round, corrected for without bias (robust DPO, arXiv:2403.00409)."""
    per_token: bool = False
    """Log-ratios are means per token instead of sums."""
    divergence: Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"] = "reverse_kl"
    """What drift costs (f-DPO, arXiv:2309.16240)."""
    length_alpha: float = Field(1.0, ge=0, le=1)
    """Weight of the tokens beyond the shorter completion of a pair (LD-DPO, arXiv:2409.06411)."""

    @field_validator("divergence")
    @classmethod
    def _needs_a_difference(cls, divergence: str, info: ValidationInfo) -> str:
        # The reward of another divergence is known up to a term of the prompt, which cancels in differences alone.
        apart = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
        if divergence != "reverse_kl" and info.data.get("loss") in apart:
            raise ValueError(
                f"reverse_kl as the divergence of the loss {info.data['loss']}, which looks at each side"
            )
        return divergence


class IPOConfig(DirectConfig):
    """Identity preference optimisation: margins are regressed on, so labels need no noise (arXiv:2310.12036)."""

    algorithm: Literal["ipo"] = "ipo"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """The log-ratios should differ by 1 / (2 beta)."""
    per_token: bool = True
    """Log-ratios are means per token; sums are the form of the paper."""


class KTOConfig(FitConfig):
    """Kahneman-Tversky optimisation: completions judged one by one, good or bad (arXiv:2402.01306)."""

    algorithm: Literal["kto"] = "kto"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """Weight of drift from the reference."""
    desirable_weight: float = Field(1.0, ge=0)
    """Weight of good completions."""
    undesirable_weight: float = Field(1.0, ge=0)
    """Weight of bad ones; the paper wants (desirable weight * number) / (undesirable ...) between 1 and 4/3."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6, schedule="linear")


class ORPOConfig(DirectConfig):
    """Odds-ratio preference optimisation: fine-tuning and preferences at once, no reference (arXiv:2403.07691)."""

    algorithm: Literal["orpo"] = "orpo"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """Weight of the odds ratio beside the cross-entropy (lambda of the paper)."""
    nll_coef: float = Field(1.0, ge=0)
    """Weight of the cross-entropy of the chosen completions."""


class SimPOConfig(DirectConfig):
    """Simple preference optimisation: means per token, a target margin, no reference (arXiv:2405.14734)."""

    algorithm: Literal["simpo"] = "simpo"
    """This objective."""
    beta: float = Field(2.0, gt=0)
    """Scale of the mean log-probabilities."""
    gamma: float = Field(1.0, ge=0)
    """Margin by which the chosen completion should win; the authors advise gamma / beta about 0.5."""


PairConfig = DPOConfig | IPOConfig | ORPOConfig | SimPOConfig
DirectPolicyConfig = PairConfig | KTOConfig


def _ppo_unless_named(value: Any) -> Any:
    return {"algorithm": "ppo", **value} if isinstance(value, Mapping) else value


PolicyConfig = Annotated[
    PPOConfig
    | CriticFreeConfig
    | BestOfNConfig
    | OnlineDPOConfig
    | DPOConfig
    | IPOConfig
    | KTOConfig
    | ORPOConfig
    | SimPOConfig,
    Field(discriminator="algorithm"),
    BeforeValidator(_ppo_unless_named),
]
