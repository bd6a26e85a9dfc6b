"""Tiny models of three architectures and small batches, for the tests of several rooms."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concordant.data.batches import Padded, Row
from concordant.models.config import AdapterConfig
from concordant.models.hardware import Machine
from concordant.rollout.inline import InlineSampler

VOCAB, PAD, CONTEXT = 40, 0, 64
STOPS = (1, 2, 3, 4)  # several, so that a random model stops now and then
KINDS = ("llama", "gpt2", "qwen2")
MACHINE = Machine(torch.device("cpu"), torch.float32, 1, "tests")
ADAPTER = AdapterConfig(rank=4, alpha=8)

# Weights far larger than at a usual start: a wrong position or mask then shows far above rounding.
SPREAD = 0.2


def tiny_model(kind: str, seed: int = 0, **changed: Any) -> Any:
    """Two layers of width 32: RoPE (llama), learned absolute positions and dropout (gpt2), sliding window (qwen2)."""
    import transformers as tf

    shared = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": None, "eos_token_id": STOPS[0]}
    shared["initializer_range"] = SPREAD
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes["max_position_embeddings"] = CONTEXT
    torch.manual_seed(seed)
    if kind == "llama":
        return tf.LlamaForCausalLM(tf.LlamaConfig(**(shared | sizes | changed)))
    if kind == "qwen2":
        window = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
        heads = {"num_key_value_heads": 2}
        return tf.Qwen2ForCausalLM(tf.Qwen2Config(**(shared | sizes | window | heads | changed)))
    return tf.GPT2LMHeadModel(
        tf.GPT2Config(
            **(shared | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT} | changed)
        )
    )


def save_models(folder: Path) -> dict[str, str]:
    """A transformers folder of each kind, by kind; "mild" is a llama with the small weights that learn well."""
    models = {kind: tiny_model(kind) for kind in KINDS}
    models["mild"] = tiny_model("llama", initializer_range=0.05)
    for kind, model in models.items():
        model.save_pretrained(folder / kind)
    return {kind: str(folder / kind) for kind in models}


def ids(rng: random.Random, shortest: int, longest: int) -> tuple[int, ...]:
    """Random token ids other than padding and stop tokens."""
    return tuple(rng.randrange(5, VOCAB) for _ in range(rng.randint(shortest, longest)))


def random_rows(n: int, seed: int = 0, *, masked: bool = False) -> list[Row]:
    """Rows of different lengths; with `masked` some tokens of their completions do not count."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        prompt, completion = ids(rng, 1, 7), ids(rng, 1, 9)
        mask = tuple(rng.random() < 0.6 for _ in completion) if masked else ()
        rows.append(Row(prompt, completion, mask))
    return rows


def random_prompts(n: int, seed: int = 0) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [ids(rng, 1, 9) for _ in range(n)]


def alone(row: Row) -> Padded:
    """A row as a batch of its own, without any padding, not made by the code under test."""
    tokens = torch.tensor([row.prompt + row.completion])
    every, start = torch.ones_like(tokens, dtype=torch.bool), len(row.prompt)
    return Padded(tokens, every, start, every[:, start:], None, torch.tensor([tokens.shape[1] - 1]))


def plain_logprobs(model: Any, row: Row, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of a completion from one plain forward pass over prompt + completion."""
    tokens = torch.tensor([row.prompt + row.completion])
    logits = model(input_ids=tokens).logits[0, len(row.prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(row.completion)[:, None])[:, 0]


def sampler_of(model: Any, **changed: Any) -> InlineSampler:
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": PAD, "limit": 8, "machine": MACHINE}
    return InlineSampler(model, **(settings | changed))


def trainable(model: Any) -> list[Tensor]:
    """The parameters an optimiser moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def disturb(model: Any, seed: int = 9) -> None:
    """Move every trainable parameter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * SPREAD)


def gradients(*modules: Any) -> dict[str, Tensor]:
    """Gradients by parameter name; those that are not there are left out."""
    return {
        f"{number}.{name}": parameter.grad.clone()
        for number, module in enumerate(modules)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def weights(module: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Every tensor within `tolerance` of the largest entry of all of them."""
    assert one.keys() == other.keys()
    scale = max(float(tensor.abs().max()) for tensor in one.values())
    worst = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert worst <= tolerance * scale, f"off by {worst} at a scale of {scale}"
