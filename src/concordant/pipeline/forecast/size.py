"""How large a model is, read from its configuration and from the headers of its files: no weight is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from concordant.models.config import AdapterConfig, EmbeddedConfig
from concordant.pipeline.context import base_path
from concordant.pipeline.recipe import Recipe
from concordant.worlds.world import make_world

Shapes = Mapping[str, tuple[int, ...]]

SPECIAL_TOKENS = 5  # of the embedded tokenizer, beside the words of the world
FLOAT = 4  # bytes: weights that are trained, gradients and moments are fp32
LONGEST_HEADER = 100 * 2**20  # bytes; safetensors itself takes no longer one
_EMBEDDINGS = ("embed", "wte", "wpe")


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model before it is loaded."""

    shapes: Shapes
    exact: bool  # read from its files; otherwise worked out from its configuration
    layers: int
    vocabulary: int
    context: int
    cached: int  # keys and values of a token in one layer, in numbers
    hidden: int
    config: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Numbers of the language model."""
        return sum(prod(shape) for shape in self.shapes.values())

    @property
    def trunk(self) -> int:
        """Numbers without a head of the vocabulary by itself: what a reward model or a critic shares."""
        return sum(prod(shape) for name, shape in self.shapes.items() if not name.startswith("lm_head"))

    def adapter(self, config: AdapterConfig) -> int:
        """Numbers of a LoRA adapter on it."""
        return sum(
            config.rank * (shape[0] + shape[1])
            for name, shape in self.shapes.items()
            if _adapted(name, shape, config.targets)
        )

    def trained(self, adapter: AdapterConfig | None) -> int:
        """Numbers that the optimiser moves."""
        return self.adapter(adapter) if adapter else self.parameters

    def cache(self, rows: int, columns: int) -> int:
        """Bytes of the keys and values of so many rows while they are sampled."""
        return self.layers * self.cached * rows * columns * FLOAT


def _adapted(name: str, shape: tuple[int, ...], targets: str | tuple[str, ...]) -> bool:
    if len(shape) != 2 or name.startswith("lm_head") or not name.endswith(".weight"):
        return False
    module = name.removesuffix(".weight").rpartition(".")[2]
    if targets == "all-linear":
        return not any(word in module for word in _EMBEDDINGS)
    return module in ((targets,) if isinstance(targets, str) else targets)


def size_of(recipe: Recipe) -> ModelSize | None:
    """The size of the model a recipe starts from; None where its configuration is not here."""
    if not recipe.model.path:
        assert recipe.world is not None
        words = len(make_world(recipe.world.name, recipe.seed).vocabulary())
        return _worked_out(embedded_config(recipe.model.embedded, words + SPECIAL_TOKENS))
    return size_at(base_path(recipe))


def size_at(path: str) -> ModelSize | None:
    """The size of the model in a folder, or of a hub model that is in the local cache.

    None where there is no configuration, or one whose numbers are none: a run that loads it says what is wrong.
    """
    folder = Path(path) if Path(path).is_dir() else cached_folder(path)
    config = _json(folder / "config.json") if folder else None
    if folder is None or config is None:
        return None
    try:
        shapes = {
            name: shape for file in sorted(folder.glob("*.safetensors")) for name, shape in _header(file)
        }
        return _measured(config, shapes) if shapes else _worked_out(config)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def cached_folder(name: str) -> Path | None:
    """Where the local cache of the hub holds a model's configuration; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def embedded_config(config: EmbeddedConfig, vocabulary: int) -> dict[str, Any]:
    """What `models.tiny.tiny_llama` makes of the recipe's size, in the words of a `config.json`."""
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.width * 8 // 3 // 8 * 8,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
        "tie_word_embeddings": True,
    }


def _worked_out(config: Mapping[str, Any]) -> ModelSize | None:
    """A size from a configuration alone, for models with the matrices of a Llama."""
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "num_attention_heads")
    if any(not isinstance(config.get(key), int) for key in needed):
        return None
    hidden, inner, layers, vocabulary, heads = (config[key] for key in needed)
    head = config.get("head_dim") or hidden // heads
    keys = (config.get("num_key_value_heads") or heads) * head
    of_a_layer = {
        "self_attn.q_proj.weight": (heads * head, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, heads * head),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in of_a_layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return _size(config, shapes, exact=False)


def _measured(config: Mapping[str, Any], shapes: Shapes) -> ModelSize:
    return _size(config, shapes, exact=True)


def _size(config: Mapping[str, Any], shapes: Shapes, *, exact: bool) -> ModelSize:
    """The field's words for the same things differ between families; those of GPT-2 are the other ones."""
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
    head = int(config.get("head_dim") or hidden // heads)
    return ModelSize(
        shapes,
        exact,
        layers=int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        vocabulary=int(config.get("vocab_size") or 0),
        context=int(config.get("max_position_embeddings") or config.get("n_positions") or 2**31),
        cached=2 * int(config.get("num_key_value_heads") or heads) * head,
        hidden=hidden,
        config=config,
    )


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of a safetensors file; nothing of a file that is damaged."""
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        try:
            header = json.loads(stream.read(length)) if length <= LONGEST_HEADER else {}
        except (ValueError, RecursionError):
            return
    for name, facts in header.items() if isinstance(header, dict) else ():
        if isinstance(facts, dict) and isinstance(facts.get("shape"), list):
            yield name, tuple(map(int, facts["shape"]))


def _json(file: Path) -> dict[str, Any] | None:
    """An object, or None where the file is missing or something else: a run that loads it says what is wrong."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
