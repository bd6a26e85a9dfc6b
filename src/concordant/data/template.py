"""Chat templates: from messages to token ids, with exact masks, the same way in training and in sampling.

All ids are made segment by segment: the prompt as text up to where the assistant begins to speak, then each
assistant turn up to its end-of-turn token, and so on. What is sampled behind `prompt_ids` is therefore what
`completion_ids` and `conversation` hold, token for token, and the mask is the list of segments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from concordant.data.sources import nearest
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.files import sha256_of

Ids = tuple[int, ...]
Overlong = Literal["trim_prompt_left", "drop", "error"]

# For tokenizers without a template: a transcript. `add_bos` is decided by what the tokenizer does by itself.
TRANSCRIPT = (
    "{add_bos}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] }}"
    "{% else %}{{ '\n\nAssistant: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_GUARD = "\ufdd0"  # Unicode noncharacters, which stand in no text
_GUARD_END = "\ufdd1"


def load_tokenizer(path_or_name: str) -> Any:
    """The tokenizer of a model folder or a hub name. No code from the folder is run.

    A folder with nothing but `vocab.json` and `merges.txt` is read as the byte-level BPE of GPT-2.
    Raises UserError where there is no tokenizer, or a hub name cannot be had.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return _tokenizer_in(path)
    if path.is_absolute() or path_or_name.startswith((".", "~")) or path_or_name.count("/") != 1:
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        names = [p.name for p in folder.iterdir() if p.is_dir()]
        like = nearest(path.name, names)
        raise UserError(
            f"there is no model folder {path_or_name}",
            where=str(folder),
            expected="a folder with model and tokenizer, or a hub name like owner/name",
            fix=f"did you mean {', '.join(like)}?" if like else "check the path",
        )
    return _tokenizer_on_hub(path_or_name)


def _tokenizer_in(path: Path) -> Any:
    from transformers import AutoTokenizer, GPT2Tokenizer

    present = [name for name in _TOKENIZER_FILES if (path / name).is_file()]
    if not present:
        raise UserError(
            "this folder has no tokenizer",
            where=str(path),
            expected=f"one of {', '.join(_TOKENIZER_FILES)}",
            fix="save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )
    bare = (
        present == ["vocab.json"] and (path / "merges.txt").is_file() and not (path / "config.json").is_file()
    )
    try:
        return (GPT2Tokenizer if bare else AutoTokenizer).from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read the tokenizer: {str(error).strip().splitlines()[0]}",
            where=str(path),
            expected="files that transformers can load without running code of the folder",
            fix="save it again with tokenizer.save_pretrained(folder)",
        ) from error


def _tokenizer_on_hub(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        offline = bool(os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE"))
        raise UserError(
            f"there is no folder {name} here, and the tokenizer of the hub model {name} cannot be had",
            where=name,
            expected=f"to download the tokenizer files of {name} (a few MB) from the Hugging Face hub",
            fix=("unset HF_HUB_OFFLINE to allow it, " if offline else "check the name and the network, ")
            + "or give the folder of a model",
        ) from error


class Template:
    """A tokenizer with its chat template, and what follows from the two.

    A tokenizer without a template gets a plain transcript (`TRANSCRIPT`), set on the tokenizer itself so that
    an exported folder works with `apply_chat_template`; so does `chat_template` where it is given.
    `vocab_size` is the model's, where it is known; `stop_ids` are further ids that end an answer
    (the `eos_token_id` of a generation config). `notes` says in words what had to be decided.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template: str | None = None,
        *,
        stop_ids: Iterable[int] = (),
        vocab_size: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        self.vocab_size = vocab_size or len(tokenizer)
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token",
                where=self.name,
                expected="a token that ends an answer",
                fix="set eos_token in tokenizer_config.json",
            )
        self._specials = _special_tokens(tokenizer)
        self._guarded = re.compile("|".join(map(re.escape, [*self._specials, _GUARD])))
        self._adds_space = self._decode((*self._ids("a"), *self._ids("a"))) == "a a"
        self._choose_template(chat_template)
        self.lead, tail = self._probe()
        ends = [token for token in re.findall(self._guarded, tail) if token in self._specials]
        self.turn_end: str = ends[0] if ends else ""
        self._tail = tail
        if not ends:
            self.notes.append(
                f"the template ends a turn with {tail!r} and no special token: {tokenizer.eos_token} "
                "is put behind the last answer, and earlier answers are not trained on"
            )
        end_id = tokenizer.convert_tokens_to_ids(self.turn_end) if ends else tokenizer.eos_token_id
        self.end_id: int = int(end_id)  # ends the answers we train on
        self.stop_ids = frozenset({tokenizer.eos_token_id, self.end_id, *stop_ids})
        self.pad_id = self._choose_pad()

    @property
    def name(self) -> str:
        """The folder or hub name of the tokenizer, for messages."""
        return str(getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the template and the vocabulary: equal fingerprints give equal ids."""
        return sha256_of([self.tokenizer.chat_template, self.tokenizer.get_vocab(), sorted(self.stop_ids)])

    def prompt_ids(self, messages: Sequence[Message]) -> Ids:
        """Ids of a prompt up to where the assistant begins to speak, with a BOS if the template has one."""
        text = self._render(messages, open_turn=True)
        segments = self._segments(messages) if self.turn_end else None
        done = "".join(part for part, _ in segments or ())
        if not segments or not text.startswith(done):
            return self._encode(text)
        ids, _ = self._masked(segments)
        return (*ids, *self._encode(text[len(done) :], after=done))

    def completion_ids(self, messages: Sequence[Message], text: str) -> Ids:
        """Ids of an answer to a prompt, with the end-of-turn token as the last one.

        Raises UserError where the template writes the prompt differently once it is answered.
        """
        before = self._render(messages, open_turn=True)
        after = self._render((*messages, Message("assistant", text)), open_turn=False)
        answer = self._answer(before, after)
        if answer is None:
            raise UserError(
                f"the chat template does not keep the prompt as it was when an answer follows: {text[:60]!r}",
                where=f"template of {self.name}",
                expected="the text with an answer begins with the text up to the answer",
                fix="give a chat_template that only adds at the end and rewrites no earlier or thinking part",
            )
        ids = self._encode(answer, after=before)
        return ids if self.turn_end else (*ids, self.end_id)

    def conversation(self, messages: Sequence[Message]) -> tuple[Ids, tuple[bool, ...]]:
        """Ids of a conversation and its loss mask: True on every assistant turn and its end-of-turn token.

        Ends with the last assistant turn. Where the template rewrites earlier turns (it drops their
        thinking, say), only the last assistant turn counts.
        """
        last = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=-1)
        if last < 0:
            raise ValueError("a conversation without an assistant turn has nothing to learn from")
        messages = messages[: last + 1]
        segments = self._segments(messages) if self.turn_end else None
        if segments is None:
            prompt = self.prompt_ids(messages[:-1])
            answer = self.completion_ids(messages[:-1], messages[-1].content)
            return prompt + answer, (False,) * len(prompt) + (True,) * len(answer)
        return self._masked(segments)

    def _masked(self, segments: Sequence[tuple[str, bool]]) -> tuple[Ids, tuple[bool, ...]]:
        """Ids of segments, and which of them count."""
        ids: list[int] = []
        mask: list[bool] = []
        done = ""
        for part, counts in segments:
            encoded = self._encode(part, after=done)
            ids += encoded
            mask += [counts] * len(encoded)
            done += part
        return tuple(ids), tuple(mask)

    def plain_ids(self, text: str) -> Ids:
        """Ids of text that is no chat, without BOS; special tokens written in it are plain characters."""
        return self._encode(self._guarded.sub(self._mark, text))

    @property
    def prefix_id(self) -> int:
        """The token behind which a text begins that nothing stands before: BOS, or else end of sequence."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def text(self, ids: Iterable[int]) -> str:
        """What people, labelers and rewards read: no stop, pad or other special tokens."""
        shown = [int(i) for i in ids if int(i) not in self.stop_ids and int(i) != self.pad_id]
        return self._decode(shown, skip_special_tokens=True).removeprefix(self._guarded.sub("", self.lead))

    def pieces(self, ids: Sequence[int], mask: Sequence[bool]) -> tuple[tuple[str, bool], ...]:
        """The text of each token and whether it counts, special tokens included, for a reader's eyes."""
        return tuple((self._decode([i]), counts) for i, counts in zip(ids, mask, strict=True))

    def marks_in(self, text: str) -> list[str]:
        """Special tokens written out in a text. They are encoded as plain text, never as the tokens."""
        return re.findall(self._guarded, text)

    def _segments(self, messages: Sequence[Message]) -> list[tuple[str, bool]] | None:
        """The rendered text cut before and behind each assistant turn; None if it is rewritten later."""
        segments: list[tuple[str, bool]] = []
        done = ""
        for n, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._render(messages[:n], open_turn=True)
            answer = self._answer(before, self._render(messages[: n + 1], open_turn=False))
            if answer is None or not before.startswith(done):
                return None
            segments += [(before[len(done) :], False), (answer, True)]
            done = before + answer
        return segments

    def _answer(self, before: str, after: str) -> str | None:
        """What `after` adds to `before`, cut right behind the end of the turn."""
        if not after.startswith(before):
            return None
        added = after[len(before) :]
        if not self.turn_end:
            return added.removesuffix(self._tail)
        # A lead such as an opened thinking block stands before the answer; the turn ends behind both.
        head, end, _ = added.removeprefix(self.lead).partition(self.turn_end)
        if not end:
            return None
        return (self.lead if added.startswith(self.lead) else "") + head + end

    def _render(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        """The template's text; special tokens written in a message are replaced by marks (see `_encode`)."""
        from jinja2 import TemplateError

        turns = [{"role": m.role, "content": self._guarded.sub(self._mark, m.content)} for m in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=open_turn
            )
        except (TemplateError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"the chat template refuses this conversation: {error}",
                where=f"template of {self.name}",
                expected=f"a template for turns of {', '.join(m.role for m in messages) or 'no messages'}",
                fix="give another chat_template, or leave out system turns if it knows none",
            ) from error
        return text

    def _mark(self, match: re.Match[str]) -> str:
        number = self._specials.index(match[0]) if match[0] != _GUARD else len(self._specials)
        return f"{_GUARD}{number}{_GUARD_END}"

    def _encode(self, text: str, *, after: str = "") -> Ids:
        """Ids of rendered text. Text is hostile: a special token in a message becomes plain characters."""
        ids: list[int] = []
        goes_on = bool(after) and not after.endswith(tuple(self._specials))
        for n, part in enumerate(re.split(f"{_GUARD}(\\d+){_GUARD_END}", text)):
            if n % 2 == 0:
                ids += self._ids(part, goes_on=goes_on or n > 0)
            else:
                written = [*self._specials, _GUARD][int(part)]
                ids += self._ids(written, goes_on=True, split_special_tokens=True)
        return tuple(ids)

    def _ids(self, text: str, *, goes_on: bool = False, **options: bool) -> list[int]:
        """Ids of plain text, BOS never added. `goes_on`: it stands behind other text.

        Tokenizers in the manner of SentencePiece put a space before everything they are given. Behind
        other text that space would be wrong, so the text is encoded behind a line break, which is taken off.
        """
        if not text:
            return []
        anchor = self._plain("\n") if goes_on and self._adds_space else []
        if anchor:
            ids = self._plain("\n" + text, **options)
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return self._plain(text, **options)

    def _plain(self, text: str, **options: bool) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, verbose=False, **options)
        return list(encoded["input_ids"])

    def _decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        decoded: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return decoded

    def _choose_template(self, chat_template: str | None) -> None:
        if chat_template is not None:
            self.tokenizer.chat_template = chat_template
        elif self.tokenizer.chat_template is None:
            begins = self.tokenizer("a")["input_ids"][:1] == [self.tokenizer.bos_token_id]
            add_bos = "{{ bos_token }}" if begins and self.tokenizer.bos_token else ""
            self.tokenizer.chat_template = TRANSCRIPT.replace("{add_bos}", add_bos)
            self.notes.append("the tokenizer has no chat template: a Human/Assistant transcript is used")

    def _probe(self) -> tuple[str, str]:
        """What the template writes between the open turn and an answer, and behind the answer."""
        question, answer = Message("user", "question"), Message("assistant", "ANSWER")
        before = self._render([question], open_turn=True)
        after = self._render([question, answer], open_turn=False)
        if not after.startswith(before) or "ANSWER" not in after[len(before) :]:
            raise UserError(
                "the chat template does not add an answer behind the prompt",
                where=f"template of {self.name}",
                expected="rendered with an answer, the text begins with the text of the prompt alone",
                fix="give a chat_template with add_generation_prompt and assistant turns",
            )
        lead, _, tail = after[len(before) :].partition("ANSWER")
        return lead, tail

    def _choose_pad(self) -> int:
        """A pad token apart from all stop tokens: the tokenizer's own, else one that no text contains."""
        tokenizer = self.tokenizer
        own = tokenizer.pad_token_id
        if own is not None and self._usable(own):
            return int(own)
        for token in self._pad_candidates():
            pad_id = int(tokenizer.convert_tokens_to_ids(token))
            if token in self._specials:
                tokenizer.pad_token = token
            self.notes.append(f"no pad token of its own: {token!r} ({pad_id}) pads")
            return pad_id
        self.notes.append(
            "pad equals end-of-sequence, for want of another token: training is not affected (masks go by "
            "position), but add a pad token before serving a reward model from this folder"
        )
        return int(tokenizer.eos_token_id)

    def _pad_candidates(self) -> Iterable[str]:
        """Special tokens of no other use, then the token of a byte that stands in no UTF-8 text."""
        tokenizer = self.tokenizer
        spare = [t for t in self._specials if re.search(r"pad|reserved|unused", t, re.IGNORECASE)]
        for token in (*spare, tokenizer.unk_token):
            if token is not None and self._usable(tokenizer.convert_tokens_to_ids(token)):
                yield token
        vocabulary = tokenizer.get_vocab()
        for token in ("<0xFF>", "ÿ"):
            pad_id = vocabulary.get(token)
            if pad_id is not None and self._usable(pad_id) and pad_id not in self._plain(token):
                yield token

    def _usable(self, pad_id: int) -> bool:
        return 0 <= pad_id < self.vocab_size and pad_id not in self.stop_ids


def _special_tokens(tokenizer: Any) -> list[str]:
    """All special tokens as text, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    return sorted(names, key=lambda name: (-len(name), name))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that fit a length limit, and an account of what was done to them."""

    rows: tuple[tuple[Ids, tuple[Ids, ...]], ...]  # a prompt with its completions
    kept: tuple[int, ...]  # which of the given rows these are
    whole: int
    trimmed: int
    dropped: int


def fit(
    prompt: Ids,
    completions: Sequence[Ids],
    limit: int,
    overlong: Overlong = "trim_prompt_left",
    *,
    head: int = 0,
) -> Ids | None:
    """The prompt, trimmed so that it fits `limit` tokens with the longest of its completions; None = drop.

    The prompt loses tokens at its left, behind the first `head` (a BOS) that are kept. Completions are never
    altered: with their end they would lose the token that teaches to stop.
    """
    room = limit - max(map(len, completions))
    if len(prompt) <= room:
        return prompt
    if overlong != "trim_prompt_left" or room <= head:
        return None
    return prompt[:head] + prompt[len(prompt) - (room - head) :]


def fit_all(
    rows: Sequence[tuple[Ids, tuple[Ids, ...]]],
    limit: int,
    overlong: Overlong = "trim_prompt_left",
    *,
    head: int = 0,
    where: str = "",
) -> Fitted:
    """Fit every row, and count. Raises UserError if none fits, or any does not with `overlong = "error"`."""
    fitted = [fit(prompt, completions, limit, overlong, head=head) for prompt, completions in rows]
    kept = tuple(n for n, prompt in enumerate(fitted) if prompt is not None)
    if len(kept) < len(rows) and (not kept or overlong == "error"):
        lengths = sorted(len(prompt) + max(map(len, completions)) for prompt, completions in rows)
        p50, p95 = lengths[len(lengths) // 2], lengths[int(0.95 * (len(lengths) - 1))]
        raise UserError(
            f"{len(kept)} of {len(rows)} rows fit {limit:,} tokens; p50 {p50:,}, p95 {p95:,}",
            where=where,
            expected="prompt and completion within the limit",
            fix='raise the length limit, or set overlong = "trim_prompt_left"',
        )
    result = tuple((prompt, rows[n][1]) for n in kept if (prompt := fitted[n]) is not None)
    trimmed = sum(prompt != rows[n][0] for n, (prompt, _) in zip(kept, result, strict=True))
    return Fitted(result, kept, len(kept) - trimmed, trimmed, len(rows) - len(kept))
