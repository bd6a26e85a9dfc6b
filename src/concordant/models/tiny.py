"""The embedded tiny Llama: a word-level tokenizer trained on a world's text, and random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from concordant.models.config import EmbeddedConfig

PAD, UNK, USER, ASSISTANT, END = "<pad>", "<unk>", "<user>", "<assistant>", "<end>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}" + ASSISTANT + " {{ message['content'] }} " + END + " "
    "{% else %}" + USER + " {{ message['content'] }} "
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + " {% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> Any:
    """A lower-casing word-level tokenizer over the words of `texts`, with a chat template."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [PAD, UNK, USER, ASSISTANT, END]
    tokenizer.train_from_iterator(
        texts, trainers.WordLevelTrainer(special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNK,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_llama(tokenizer: Any, config: EmbeddedConfig, seed: int) -> Any:
    """A Llama of the given size with random weights that depend on `seed` alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=config.width * 8 // 3 // 8 * 8,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.context,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
