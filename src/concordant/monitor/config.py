"""What is watched while a policy learns from its own samples, and what an alarm does."""

from __future__ import annotations

from pydantic import Field

from concordant.config import Config
from concordant.monitor.notice import Action


class MonitorConfig(Config):
    """Fixed questions that provoke one failure each, and blind comparisons, while the policy is trained."""

    canaries: int = Field(5, ge=0)
    """Steps of steps.jsonl between two looks at the canaries, of a world its own, else in English; 0 = none."""
    samples: int = Field(64, ge=16)
    """Completions of a canary in one look."""
    probes: int = Field(10, ge=0)
    """Steps between two blind comparisons with the model that training began with; one is made on the last step and
    after an alarm too. 0 = none, and none in a stage of fewer steps.
    """
    probed_by: str = ""
    """Who compares: simulated labelers or "gold" (of a world), "judge", or "people", whose answers come later. Empty =
    the judge where one is named, else who evaluates (evaluate.labelers), else the gold reward, without a world nobody.
    """
    judge: str = ""
    """Model that compares as "judge": a folder or hub name."""
    on_alarm: Action = "warn"
    """How far an alarm may go: say so; also brake (double kl_coef and halve the learning rates); also pause and ask
    people about the policy's answers; or go back to the step whose answers were liked best, and end there.
    """
    relabel: int = Field(200, ge=1)
    """Pairs of the policy's answers about which a pause asks people."""
