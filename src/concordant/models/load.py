"""Loading and saving models: folders of safetensors that transformers opens as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from concordant.errors import UserError
from concordant.files import fresh_folder
from concordant.models.config import AdapterConfig
from concordant.models.forward import bare


@contextmanager
def _hub_errors(path: str) -> Iterator[None]:
    """Turn what transformers says about a missing or damaged model into one clear message."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot load the model {path!r}: {first}",
            where=path,
            expected="a folder with config.json and *.safetensors, or the name of a model on the hub",
            fix="check the path; a hub name needs a network the first time (or HF_HOME with a copy)",
        ) from error


def _load(kind: Any, path: str, *, new: str = "", **options: Any) -> Any:
    """Load all weights but those called `new`; transformers itself draws what it does not find at random."""
    with _hub_errors(path):
        model, report = kind.from_pretrained(path, use_safetensors=True, output_loading_info=True, **options)
    missing = sorted(set(report["missing_keys"]) - {new})
    if missing:
        raise UserError(
            f"the model {path!r} has no weights for {', '.join(missing[:3])}",
            where=path,
            expected=f"all weights of a {type(model).__name__}",
            fix="check that this is the right kind of model: a language model is not a reward model",
        )
    return model


def load_policy(path: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """A causal language model from a folder or the hub, in evaluation mode (dropout off)."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, path, dtype=dtype).eval()


def new_reward_model(path: str, *, pad_id: int, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """A reward model on the trunk of the model at `path`: one scalar head, drawn anew.

    The head starts as N(0, 1/sqrt(hidden + 1)) (Huang et al. 2024, arXiv:2403.17031), from `seed` alone.
    """
    from transformers import AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification
    model = _load(kind, path, new="score.weight", num_labels=1, dtype=dtype).eval()
    model.config.pad_token_id = pad_id
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1)
        weight.copy_(drawn.to(weight.dtype))
    return model


def load_reward_model(path: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """A reward model from a folder or the hub, in evaluation mode."""
    from transformers import AutoModelForSequenceClassification

    return _load(AutoModelForSequenceClassification, path, num_labels=1, dtype=dtype).eval()


def refuse_unless_reward_model(path: str) -> None:
    """Raise for a folder or hub name whose model does not give one score; its weights are not read."""
    from transformers import AutoConfig

    with _hub_errors(path):
        config = AutoConfig.from_pretrained(path)
    kinds = config.architectures or ["unknown"]
    if config.num_labels != 1 or not kinds[0].endswith("ForSequenceClassification"):
        raise UserError(
            f"{path!r} is no reward model: {kinds[0]} with {config.num_labels} labels",
            where=path,
            expected="a model for sequence classification with one label",
            fix="check the path; the reward model of a run lies in its stages/NN-reward/model",
        )


def add_adapter(model: Any, config: AdapterConfig, seed: int) -> Any:
    """Freeze `model` and put a LoRA adapter on it; a reward model's head stays trainable beside it."""
    from peft import LoraConfig, TaskType, get_peft_model

    is_reward = hasattr(model, "score")
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(
                model,
                LoraConfig(
                    task_type=TaskType.SEQ_CLS if is_reward else TaskType.CAUSAL_LM,
                    r=config.rank,
                    lora_alpha=config.alpha,
                    lora_dropout=0.0,
                    target_modules=targets,
                    modules_to_save=["score"] if is_reward else None,
                ),
            ).eval()
        except ValueError as error:
            raise UserError(
                f"no adapter can stand at {config.targets!r}: {str(error).splitlines()[0]}",
                where="model.adapter.targets",
                expected="names of linear modules of this model, such as ['q_proj', 'v_proj']",
                fix="set model.adapter.targets = 'all-linear'",
            ) from error


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write `model` and its tokenizer as one transformers folder, adapters merged, atomically."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    with fresh_folder(folder) as fresh:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)


@dataclass(frozen=True)
class Reference:
    """The frozen model drift is measured from: a copy, or the policy with its adapter switched off."""

    model: Any
    adapter_off: bool = False

    def active(self) -> AbstractContextManager[object]:
        """The context in which `model` computes as the reference."""
        off: AbstractContextManager[object] = (
            self.model.disable_adapter() if self.adapter_off else nullcontext()
        )
        return off


def reference_of(policy: Any, path: str) -> Reference:
    """The reference of a policy: the weights it started from."""
    if hasattr(policy, "disable_adapter"):
        return Reference(policy, adapter_off=True)
    dtype = next(bare(policy).parameters()).dtype
    device = next(bare(policy).parameters()).device
    return Reference(load_policy(path, dtype=dtype).to(device).requires_grad_(False))


def context_length(model: Any) -> int:
    """Longest sequence the model takes, in tokens."""
    return _context(bare(model).config)


def context_length_at(path: str) -> int:
    """The same for the model in a folder or on the hub; its weights are not read."""
    from transformers import AutoConfig

    with _hub_errors(path):
        return _context(AutoConfig.from_pretrained(path).get_text_config())


def _context(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 0) or 2**31)
