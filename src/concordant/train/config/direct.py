"""Learning from preferences and judgements without a reward model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from concordant.train.config.loop import FitConfig, OptimizerConfig


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
