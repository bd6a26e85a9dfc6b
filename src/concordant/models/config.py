"""Which model, which adapter, which machine. No torch here: recipes are read without it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from concordant.config import Config
from concordant.errors import UserError


class EmbeddedConfig(Config):
    """The size of the embedded tiny Llama."""

    layers: int = Field(2, ge=1, le=1_000)
    """Transformer layers."""
    width: int = Field(64, ge=8, le=100_000)
    """Hidden size."""
    heads: int = Field(4, ge=1, le=10_000, validate_default=True)
    """Attention heads; they divide the width."""
    context: int = Field(128, ge=16, le=1_000_000)
    """Longest sequence in tokens."""

    @field_validator("heads")
    @classmethod
    def _divide_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")  # absent where it was refused itself
        if width and width % (2 * heads):
            raise ValueError(f"heads of which twice the number divides the width {width}")
        return heads


class AdapterConfig(Config):
    """A LoRA adapter (Hu et al. 2021, arXiv:2106.09685): only the adapter is trained."""

    rank: int = Field(16, ge=1)
    """Rank of the update."""
    alpha: float = Field(32, gt=0)
    """The update is scaled by alpha / rank."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get an adapter, or "all-linear"."""


class ModelConfig(Config):
    """The model a run starts from: a folder or hub name, or the embedded tiny Llama."""

    path: str = ""
    """Folder (relative to data_root or to here) or hub name of a causal language model; empty = embedded."""
    embedded: EmbeddedConfig = EmbeddedConfig()
    """Size of the embedded model, which is used when path is empty."""
    adapter: AdapterConfig | None = None
    """Train a LoRA adapter instead of all weights."""
    chat_template: str = ""
    """A Jinja chat template to use instead of the tokenizer's own."""
    length: int = Field(0, ge=0)
    """Longest sequence in tokens, prompt and completion; 0 = what the model's context allows."""


class MachineConfig(Config):
    """Where to compute. `auto` measures and prints what it chose."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; auto = bfloat16 where the accelerator has it, else float32."""
    threads: int = Field(0, ge=0, le=4096)
    """CPU threads; 0 = measure one against all cores and take the faster."""


def check_device_name(name: str) -> None:
    """Raise UserError unless `name` is one that `MachineConfig.device` takes; whether it is there is another thing."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(
            f"there is no device {name!r}",
            where="machine.device",
            expected="auto, cpu, cuda or cuda:N",
            fix="set machine.device=auto",
        )
