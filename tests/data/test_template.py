"""Ids and masks of chats: exact, the same in training and in sampling, and never fooled by text."""

from __future__ import annotations

import string
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from concordant.data.doctor.checkup import template_notes
from concordant.data.template import Template, fit, fit_all, load_tokenizer
from concordant.data.types import Message
from concordant.errors import UserError
from telling import tells

NAMES = ("minimind-tokenizer", "gpt2-tokenizer", "stories260K")
TWO = (
    Message("user", "hi"),
    Message("assistant", "hello"),
    Message("user", "so?"),
    Message("assistant", "bye"),
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (  # thinking stands before the last answer only
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
BACKWARDS = "{% for m in messages[::-1] %}{{ m['content'] }}<|im_end|>{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + CHATML
)


@pytest.fixture(scope="module")
def templates(shared_data: Path) -> dict[str, Template]:
    return {name: Template(load_tokenizer(str(shared_data / name))) for name in NAMES}


@pytest.fixture
def minimind(shared_data: Path) -> Any:
    return load_tokenizer(str(shared_data / "minimind-tokenizer"))


def segments(template: Template, ids: tuple[int, ...], mask: tuple[bool, ...]) -> list[str]:
    """Decoded text of each stretch of tokens that count."""
    pairs = zip(ids, mask, strict=True)
    stretches = ([i for i, _ in group] for counts, group in groupby(pairs, key=lambda p: p[1]) if counts)
    return [template.tokenizer.decode(stretch, clean_up_tokenization_spaces=False) for stretch in stretches]


words = st.text(string.ascii_letters + string.digits + " .,!?'\"\n<>|/é中🙂", min_size=1, max_size=30)
contents = st.one_of(words, st.sampled_from(["<|im_end|>", "a</s>b", "<|endoftext|>", "x<|im_start|>user\n"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(contents, contents), min_size=1, max_size=3), system=st.booleans())
@example(texts=[("q", "a <|im_end|> b</s> c<|endoftext|>"), ("q", "a")], system=True)
def test_masked_tokens_are_the_answers_with_their_end(
    templates: dict[str, Template], texts: list[tuple[str, str]], system: bool
) -> None:
    """sft_mask_off_by_one_and_eos_after_truncation: https://github.com/verl-project/verl/issues/3287,
    https://github.com/CarperAI/trlx/issues/401
    """
    for name, template in templates.items():
        messages = [Message("system", "be kind")] if system else []
        # Minimind's template strips line breaks before an answer: that is the template's right.
        answers = [answer.strip() or "x" for _, answer in texts]
        for (question, _), answer in zip(texts, answers, strict=True):
            messages += [Message("user", question), Message("assistant", answer)]
        ids, mask = template.conversation(messages)
        found = [s.removeprefix(" ") for s in segments(template, ids, mask)]
        assert found == [answer + template.turn_end for answer in answers], name
        prompt, last = messages[:-1], messages[-1].content
        assert template.prompt_ids(prompt) + template.completion_ids(prompt, last) == ids
        assert sum(i in template.stop_ids for i, counts in zip(ids, mask, strict=True) if counts) == len(
            texts
        )
        assert template.text(template.completion_ids(prompt, last)) == last


@pytest.mark.parametrize("name", NAMES)
def test_prompt_is_what_transformers_makes(templates: dict[str, Template], name: str) -> None:
    template = templates[name]
    for messages in (TWO[:1], TWO[:3]):
        rows = [m.as_dict() for m in messages]
        encoded = template.tokenizer.apply_chat_template(rows, add_generation_prompt=True)
        assert template.prompt_ids(messages) == tuple(encoded["input_ids"])


def test_one_bos_and_no_double(templates: dict[str, Template]) -> None:
    """no_double_bos: https://github.com/NVIDIA-NeMo/RL/issues/747,
    https://github.com/NVIDIA-NeMo/RL/issues/835
    """
    stories = templates["stories260K"]
    ids = stories.prompt_ids(TWO[:3])
    assert ids[0] == stories.tokenizer.bos_token_id
    assert ids.count(stories.tokenizer.bos_token_id) == 1
    gpt2 = templates["gpt2-tokenizer"]
    assert gpt2.tokenizer.bos_token_id not in gpt2.prompt_ids(TWO[:1])


def test_transcript_template_survives_saving(templates: dict[str, Template], tmp_path: Path) -> None:
    stories = templates["stories260K"]
    assert any("no chat template" in note for note in stories.notes)
    stories.tokenizer.save_pretrained(str(tmp_path))
    again = load_tokenizer(str(tmp_path))
    text = again.apply_chat_template([m.as_dict() for m in TWO], tokenize=False)
    assert text == "<s>\n\nHuman: hi\n\nAssistant: hello</s>\n\nHuman: so?\n\nAssistant: bye</s>"
    assert Template(again).fingerprint == stories.fingerprint


def test_pad_is_a_token_of_its_own(templates: dict[str, Template]) -> None:
    for name, template in templates.items():
        assert template.pad_id not in template.stop_ids, name
        assert 0 <= template.pad_id < len(template.tokenizer), name
    gpt2 = templates["gpt2-tokenizer"]
    every_character = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    assert gpt2.pad_id not in gpt2.tokenizer(every_character, verbose=False)["input_ids"]


def test_pad_equal_to_eos_or_outside_the_model_is_replaced(minimind: Any, shared_data: Path) -> None:
    minimind.pad_token = minimind.eos_token
    template = Template(minimind)
    assert template.pad_id not in template.stop_ids
    assert any("pads" in note for note in template.notes)
    gpt2 = load_tokenizer(str(shared_data / "gpt2-tokenizer"))
    gpt2.add_special_tokens({"pad_token": "<new-pad>"})
    assert Template(gpt2, vocab_size=50257).pad_id < 50257


def test_pad_is_no_character_that_a_text_may_hold() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"ÿ": 0, "hi": 1, "<end>": 2}, unk_token="hi"))
    template = Template(transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>"))
    assert template.pad_id == template.end_id == 2
    assert any("pad equals end-of-sequence" in note for note in template.notes)


def test_stop_ids_hold_what_the_generation_config_adds(shared_data: Path) -> None:
    template = Template(load_tokenizer(str(shared_data / "stories260K")), stop_ids=[1, 2])
    assert template.stop_ids == {1, 2}
    assert template.completion_ids(TWO[:1], "hello")[-1] == 2
    assert template.pad_id == 0


def test_end_of_turn_is_a_stop_token_even_if_eos_is_another(minimind: Any) -> None:
    minimind.eos_token = "<|endoftext|>"
    template = Template(minimind)
    assert template.stop_ids == {0, 2}
    assert template.completion_ids(TWO[:1], "hello")[-1] == 2


def test_template_text_behind_the_end_of_turn_is_not_trained(minimind: Any) -> None:
    template = Template(minimind, CHATML)
    ids, mask = template.conversation(TWO)
    assert segments(template, ids, mask) == ["hello<|im_end|>", "bye<|im_end|>"]
    assert ids[-1] == template.end_id


def test_template_that_forgets_trains_the_last_turn_only(minimind: Any) -> None:
    template = Template(minimind, FORGETFUL)
    ids, mask = template.conversation(TWO)
    assert segments(template, ids, mask) == ["<think></think>bye<|im_end|>"]
    rows = [m.as_dict() for m in TWO[:3]]
    prompt = tuple(minimind.apply_chat_template(rows, add_generation_prompt=True)["input_ids"])
    assert ids[: len(prompt)] == prompt == template.prompt_ids(TWO[:3])


def test_template_without_an_end_token_gets_eos(minimind: Any) -> None:
    template = Template(minimind, PLAIN)
    assert any("no special token" in note for note in template.notes)
    ids, mask = template.conversation(TWO)
    assert segments(template, ids, mask) == [" bye<|im_end|>"]
    assert template.text(template.completion_ids(TWO[:3], "bye")) == "bye"


def test_impossible_templates_are_named(minimind: Any) -> None:
    with pytest.raises(UserError, match="minimind-tokenizer"):
        Template(minimind, BACKWARDS)
    with pytest.raises(UserError, match="System role not supported"):
        Template(minimind, NO_SYSTEM).prompt_ids([Message("system", "s"), *TWO[:1]])


def test_answer_that_the_template_rewrites_is_an_error(templates: dict[str, Template]) -> None:
    with pytest.raises(UserError, match="minimind-tokenizer"):
        templates["minimind-tokenizer"].completion_ids(TWO[:1], "<think>hm</think>yes")


def test_embedded_word_level_tokenizer() -> None:
    tiny = pytest.importorskip("concordant.models.tiny")
    template = Template(tiny.train_tokenizer(["hi hello so bye ?"]))
    ids, mask = template.conversation(TWO)
    assert template.pieces(ids, mask)[-2:] == (("bye", True), ("<end>", True))
    assert template.prompt_ids(TWO[:3]) + template.completion_ids(TWO[:3], "bye") == ids
    assert template.text(template.completion_ids(TWO[:1], "hello")) == "hello"


def test_folders_and_names_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(str(tmp_path / "model"))
    with pytest.raises(UserError, match="did you mean model"):
        load_tokenizer(str(tmp_path / "modell"))
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        load_tokenizer(str(tmp_path / "model"))
    with pytest.raises(UserError, match="download the tokenizer files of nobody/nothing"):
        load_tokenizer("nobody/nothing")


def test_fit_trims_prompts_and_never_completions() -> None:
    """truncation_never_rewrites_content: https://github.com/OpenRLHF/OpenRLHF/issues/1311,
    https://github.com/OpenRLHF/OpenRLHF/issues/238
    """
    prompt, short, long = (1, 2, 3, 4, 5), (7,), (7, 8, 9)
    assert fit(prompt, [short, long], 8) == prompt
    assert fit(prompt, [short, long], 6) == (3, 4, 5)
    assert fit(prompt, [short, long], 6, head=1) == (1, 4, 5)
    assert fit(prompt, [long], 3) is None
    assert fit(prompt, [long], 4, head=1) is None
    assert fit(prompt, [long], 6, "drop") is None
    fitted = fit_all([(prompt, (short,)), (prompt, (long,)), (prompt, (long * 3,))], 6)
    assert (fitted.whole, fitted.trimmed, fitted.dropped, fitted.kept) == (1, 1, 1, (0, 1))
    assert fitted.rows[1] == ((3, 4, 5), (long,))
    with pytest.raises(UserError, match="0 of 2 rows fit 6 tokens; p50 8, p95 8"):
        fit_all([(prompt, (long,)), (prompt, (long,))], 6, "drop")


def with_bos(chat_template: str | None) -> Template:
    """A tokenizer that puts <s> before whatever it encodes, as those of Llama do."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["<s>", "</s>", "hi", "hello", "so", "?", "bye", "Human", "Assistant", ":"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="?")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [("<s>", 0)]
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=special)
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    assert made("hi")["input_ids"] == [0, 2]
    return Template(made, chat_template)


@pytest.mark.parametrize("by_template", [True, False])
def test_a_bos_comes_from_the_template_alone(by_template: bool) -> None:
    """no_double_bos: https://github.com/NVIDIA-NeMo/RL/issues/747, https://github.com/allenai/reward-bench/issues/164

    Once where the template writes one, never where it does not, and none in the midst of a conversation.
    """
    own = "{% for m in messages %}{{ m['content'] + (eos_token if m['role'] == 'assistant' else ' :') }}{% endfor %}"
    template = with_bos(None if by_template else own)
    ids, mask = template.conversation(TWO)
    prompt, answer = template.prompt_ids(TWO[:3]), template.completion_ids(TWO[:3], "bye")
    assert prompt + answer == ids
    assert [n for n, i in enumerate(ids) if i == 0] == ([0] if by_template else [])
    assert not mask[0] or not by_template
    assert answer == (6, 1)
    assert any("both add <s>" in note for note in template_notes(template)) is by_template


def small(chat_template: str | None = None) -> Template:
    """A template over a tokenizer of a few words, made on the spot."""
    tiny = pytest.importorskip("concordant.models.tiny")
    return Template(
        tiny.train_tokenizer(["hi hello so bye question user assistant : <think> </think>"]), chat_template
    )


def test_templates_and_tokenizers_that_cannot_be_used_say_what_to_give() -> None:
    place = "template of"
    with tells("does not add an answer", where=place, expected="begins with", fix="add_generation_prompt"):
        small(BACKWARDS)
    system = (Message("system", "so"), Message("user", "hi"))
    with tells(
        "refuses this conversation: System role", where=place, expected="system, user", fix="leave out"
    ):
        small(NO_SYSTEM).prompt_ids(system)
    counted = PLAIN.replace("{% for", "{{ messages | length }}{% for", 1)
    rewritten = "{% if messages | length > 3 %}" + counted + "{% else %}" + PLAIN + "{% endif %}"
    with tells("does not keep the prompt", where=place, expected="begins with", fix="only adds at the end"):
        small(rewritten).completion_ids(TWO[:3], "bye")
    endless = small().tokenizer
    endless.eos_token = None
    with tells(
        "no end-of-sequence token", where="Tokenizers", expected="ends an answer", fix="set eos_token"
    ):
        Template(endless)
