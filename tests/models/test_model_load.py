"""Models come and go as transformers folders; what is saved is what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from concordant.data.batches import Row, collate
from concordant.errors import UserError
from concordant.models.config import EmbeddedConfig
from concordant.models.forward import completion_logits, sequence_scores
from concordant.models.load import (
    add_adapter,
    context_length,
    load_policy,
    load_reward_model,
    new_reward_model,
    reference_of,
    save_model,
)
from concordant.models.tiny import tiny_llama, train_tokenizer
from tinies import (
    ADAPTER,
    CONTEXT,
    KINDS,
    PAD,
    disturb,
    random_rows,
    same,
    tiny_model,
    trainable,
    weights,
)

SMALL = EmbeddedConfig(layers=1, width=16, heads=2, context=32)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["one two three four", "five six seven"])


def logits_of(model: Any, rows: list[Row]) -> torch.Tensor:
    return completion_logits(model, collate(rows, PAD))[0].detach()


def scores_of(model: Any, rows: list[Row]) -> torch.Tensor:
    batch = collate(rows, PAD)
    return sequence_scores(model, batch).detach()


def plain_scores(folder: Path, rows: list[Row], *, left: bool) -> torch.Tensor:
    """Scores of a padded batch as somebody gets them who has transformers and nothing of ours."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    sequences = [row.prompt + row.completion for row in rows]
    width = max(map(len, sequences))
    pads = [(PAD,) * (width - len(s)) for s in sequences]
    ids = torch.tensor([p + s if left else s + p for p, s in zip(pads, sequences, strict=True)])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=(ids != PAD).long()).logits[:, 0]


def only_safetensors(folder: Path) -> bool:
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}
    return ".safetensors" in kinds and kinds <= {".safetensors", ".json", ".jinja", ".txt", ".md"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [None, ADAPTER])
def test_a_saved_policy_opens_in_transformers_with_equal_logits(
    kind: str, adapter: Any, folders: dict[str, str], tokenizer: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    policy, rows = load_policy(folders[kind]), random_rows(5)
    if adapter:
        policy = add_adapter(policy, adapter, 0)
    before = logits_of(policy, rows)
    disturb(policy)
    expected = logits_of(policy, rows)
    assert (before - expected).abs().max() > 0.1
    save_model(policy, tokenizer, tmp_path / "model")
    assert torch.allclose(logits_of(load_policy(str(tmp_path / "model")), rows), expected, atol=2e-5)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.allclose(logits_of(plain, rows), expected, atol=2e-5)
    assert only_safetensors(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing half-written is left"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [None, ADAPTER])
def test_a_saved_reward_model_gives_the_same_scores_in_transformers(
    kind: str, adapter: Any, folders: dict[str, str], tokenizer: Any, tmp_path: Path
) -> None:
    model, rows = new_reward_model(folders[kind], pad_id=PAD, seed=4), random_rows(6)
    if adapter:
        model = add_adapter(model, adapter, 0)
    before = scores_of(model, rows)
    disturb(model)
    expected = scores_of(model, rows)
    assert (before - expected).abs().max() > 0.1
    save_model(model, tokenizer, tmp_path / "model")
    assert torch.allclose(scores_of(load_reward_model(str(tmp_path / "model")), rows), expected, atol=2e-5)
    assert torch.allclose(plain_scores(tmp_path / "model", rows, left=False), expected, atol=2e-5)
    if kind != "gpt2":  # transformers gives absolute positions to the padding unless it is told otherwise
        assert torch.allclose(plain_scores(tmp_path / "model", rows, left=True), expected, atol=2e-5)
    assert only_safetensors(tmp_path / "model")


def test_a_reward_model_knows_the_pad_token_its_trunk_did_not(tokenizer: Any, tmp_path: Path) -> None:
    """GPT-2 has none, and transformers refuses to score a batch without it."""
    tiny_model("gpt2", pad_token_id=None).save_pretrained(tmp_path / "gpt2")
    model, rows = new_reward_model(str(tmp_path / "gpt2"), pad_id=PAD, seed=4), random_rows(6)
    save_model(model, tokenizer, tmp_path / "model")
    scores = plain_scores(tmp_path / "model", rows, left=False)
    assert torch.allclose(scores, scores_of(model, rows), atol=2e-5)


def test_the_head_of_a_reward_model_is_drawn_from_the_seed_alone(folders: dict[str, str]) -> None:
    """head_init_and_seed: https://github.com/huggingface/trl/issues/4887"""
    torch.manual_seed(1)
    one = new_reward_model(folders["llama"], pad_id=PAD, seed=7)
    torch.manual_seed(2)
    two = new_reward_model(folders["llama"], pad_id=PAD, seed=7)
    assert same(weights(one), weights(two))
    assert not torch.equal(
        one.score.weight, new_reward_model(folders["llama"], pad_id=PAD, seed=8).score.weight
    )
    assert same(weights(one.model), weights(load_policy(folders["llama"]).model)), "the trunk is the policy's"


def test_the_head_starts_with_the_published_spread(folders: dict[str, str]) -> None:
    """Deviation 1/sqrt(hidden + 1); transformers itself draws 0.02 or the model's own initializer_range.

    head_init_and_seed: https://github.com/huggingface/trl/issues/4887
    """
    heads = [new_reward_model(folders["qwen2"], pad_id=PAD, seed=seed).score.weight for seed in range(30)]
    drawn = torch.cat(heads).detach().flatten()
    assert float(drawn.std()) == pytest.approx(33**-0.5, rel=0.08)
    assert abs(float(drawn.mean())) < 3 * 33**-0.5 / len(drawn) ** 0.5


def test_an_adapter_starts_as_nothing_and_is_all_that_is_trained(folders: dict[str, str]) -> None:
    rows = random_rows(4)
    for kind in KINDS:
        policy = add_adapter(load_policy(folders[kind]), ADAPTER, 0)
        assert torch.equal(logits_of(policy, rows), logits_of(load_policy(folders[kind]), rows))
        names = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
        assert names
        assert all("lora_" in name for name in names)
        reward_model = add_adapter(new_reward_model(folders[kind], pad_id=PAD, seed=0), ADAPTER, 0)
        heads = [n for n, p in reward_model.named_parameters() if p.requires_grad and "lora_" not in n]
        assert len(heads) == 1
        assert "score" in heads[0]


def test_an_adapter_is_drawn_from_the_seed_alone(folders: dict[str, str]) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = add_adapter(load_policy(folders["llama"]), ADAPTER, 3)
    assert torch.equal(torch.random.get_rng_state(), before), "and draws from nobody else's generator"
    torch.manual_seed(2)
    assert same(weights(one), weights(add_adapter(load_policy(folders["llama"]), ADAPTER, 3)))
    assert not same(weights(one), weights(add_adapter(load_policy(folders["llama"]), ADAPTER, 4)))


def test_adapter_targets_that_match_nothing_are_a_user_error(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="q_projection"):
        add_adapter(
            load_policy(folders["llama"]), ADAPTER.model_copy(update={"targets": ("q_projection",)}), 0
        )


@pytest.mark.parametrize("adapter", [None, ADAPTER])
def test_the_reference_stays_where_the_policy_started(adapter: Any, folders: dict[str, str]) -> None:
    """reference_frozen_eval_same_dtype: https://github.com/NovaSky-AI/SkyRL/issues/1725"""
    policy, rows = load_policy(folders["llama"]), random_rows(4)
    start = logits_of(policy, rows)
    if adapter:
        policy = add_adapter(policy, adapter, 0)
    reference = reference_of(policy, folders["llama"])
    disturb(policy)
    with reference.active():
        assert torch.equal(logits_of(reference.model, rows), start)
    moved = logits_of(policy, rows)
    assert (moved - start).abs().max() > 0.1, "outside the context the adapter is active again"
    assert trainable(policy)
    if not adapter:
        assert not trainable(reference.model)


@pytest.fixture
def no_weights(folders: dict[str, str], tmp_path: Path) -> Path:
    """The folder of a model with its settings alone."""
    shutil.copy(Path(folders["llama"]) / "config.json", tmp_path)
    return tmp_path


def test_a_folder_without_weights_is_a_user_error(no_weights: Path) -> None:
    for load in (load_policy, load_reward_model):
        with pytest.raises(UserError, match="cannot load the model"):
            load(str(no_weights))


def test_pickled_weights_are_not_opened(folders: dict[str, str], no_weights: Path) -> None:
    torch.save(load_policy(folders["llama"]).state_dict(), no_weights / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot load the model"):
        load_policy(str(no_weights))


def test_damaged_weights_are_a_user_error(folders: dict[str, str], tmp_path: Path) -> None:
    for file in Path(folders["llama"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if "safetensors" in file.name else None])
    with pytest.raises(UserError, match="cannot load the model"):
        load_policy(str(tmp_path))


@pytest.mark.parametrize("name", ["nobody/has-this-model", "no-such-folder", "one/two/three", ""])
def test_a_name_that_does_not_exist_is_a_user_error(name: str) -> None:
    with pytest.raises(UserError) as caught:
        load_policy(name)
    assert repr(name) in str(caught.value)
    assert caught.value.fix


def test_weights_that_are_not_there_are_never_made_up(folders: dict[str, str], tmp_path: Path) -> None:
    """transformers draws them at random and warns: a language model would pass for a reward model."""
    with pytest.raises(UserError, match=r"score\.weight"):
        load_reward_model(folders["llama"])
    new_reward_model(folders["llama"], pad_id=PAD, seed=0).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"lm_head\.weight"):
        load_policy(str(tmp_path))
    again = new_reward_model(str(tmp_path), pad_id=PAD, seed=5)  # a reward model may start from another one
    assert torch.equal(
        again.score.weight, new_reward_model(folders["llama"], pad_id=PAD, seed=5).score.weight
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_context_length_is_known(kind: str, folders: dict[str, str]) -> None:
    policy = load_policy(folders[kind])
    assert context_length(policy) == CONTEXT
    assert context_length(add_adapter(policy, ADAPTER, 0)) == CONTEXT


def test_tied_embeddings_survive_saving(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_model("llama", tie_word_embeddings=True).eval()
    expected = logits_of(model, random_rows(3))
    save_model(model, tokenizer, tmp_path / "model")
    assert torch.equal(logits_of(load_policy(str(tmp_path / "model")), random_rows(3)), expected)


def test_the_embedded_model_is_drawn_from_the_seed_alone(tokenizer: Any) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = weights(tiny_llama(tokenizer, SMALL, seed=3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(one, weights(tiny_llama(tokenizer, SMALL, seed=3)))
    assert not same(one, weights(tiny_llama(tokenizer, SMALL, seed=4)))


def test_the_embedded_model_opens_in_transformers(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny_llama(tokenizer, SMALL, seed=3).eval()
    save_model(model, tokenizer, tmp_path / "model")
    again = load_policy(str(tmp_path / "model"))
    assert context_length(again) == 32
    words = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = [{"role": "user", "content": "One two"}, {"role": "assistant", "content": "three"}]
    assert words.apply_chat_template(chat, tokenize=False) == "<user> One two <assistant> three <end> "
    assert words.decode(words("One FIVE").input_ids) == "one five"
    assert words.eos_token_id != words.pad_token_id
    ids = torch.tensor([words("one two three").input_ids])
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_the_words_of_the_tokenizer_do_not_depend_on_their_order() -> None:
    one = train_tokenizer(["b a c", "a d"]).get_vocab()
    assert train_tokenizer(["d a", "c b a"]).get_vocab() == one


@pytest.mark.parametrize(("width", "heads"), [(30, 4), (20, 4), (64, 3)])
def test_heads_that_do_not_divide_the_width_are_refused_early(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="heads"):
        EmbeddedConfig(width=width, heads=heads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_frozen_and_as_precise_as_the_policy(
    kind: str, dtype: torch.dtype, folders: dict[str, str]
) -> None:
    """reference_frozen_eval_same_dtype: https://github.com/NovaSky-AI/SkyRL/issues/1725

    In evaluation mode, without gradients, weights in the precision of the policy's, frequencies of the rotary
    positions in fp32 whatever that is.
    """
    policy = load_policy(folders[kind], dtype=dtype)
    reference = reference_of(policy, folders[kind])
    other = reference.model
    assert other is not policy
    assert not any(module.training for module in other.modules())
    assert not any(parameter.requires_grad for parameter in other.parameters())
    assert {parameter.dtype for parameter in other.parameters()} == {dtype}
    frequencies = [tensor for name, tensor in other.named_buffers() if name.endswith("inv_freq")]
    assert all(tensor.dtype == torch.float32 for tensor in frequencies)
    assert bool(frequencies) == (kind != "gpt2")
    expected = logits_of(policy, random_rows(4))
    assert torch.isfinite(expected).all()
    assert torch.equal(logits_of(other, random_rows(4)), expected)
