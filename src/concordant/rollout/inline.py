"""Sampling in this process: a batch with a key/value cache that finished rows leave and waiting prompts join.

Every row of the batch ends in the same cache column (rows are padded on the left), so that one
forward pass extends them all whatever their lengths. Finished rows are dropped and new prompts
are prefilled into their places once enough places are free; columns that hold nothing but
padding are cut off. A prompt sampled several times is prefilled once, where its samples fit together.

Legend: B live rows, T cache columns, V vocabulary, N all completions asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from concordant.core.logprobs import token_logprobs
from concordant.models.forward import parameters_of
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.rollout.rollout import Rollout, Sample


class InlineSampler:
    """Samples from `model` as it is at the moment of the call, so it never lags behind the learner.

    `slots` is the most rows in one forward pass, fewer once memory gave out; `check` is called between two passes and
    may raise. The whole distribution is sampled: truncating it
    (top-p, top-k) would bias the importance ratio by the mass cut off.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        stop_ids: Collection[int],
        pad_id: int,
        limit: int,
        machine: Machine,
        temperature: float = 1.0,
        slots: int = 256,
        greedy: bool = False,
        check: Callable[[], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.model = model
        self.stop_ids = torch.tensor(sorted(stop_ids), device=machine.device)
        self.pad_id = pad_id
        self.limit = limit
        self.machine = machine
        self.temperature = temperature
        self.slots = Budget(slots, "rows", say)
        self.greedy = greedy
        self.check = check

    def sample(self, prompts: Sequence[tuple[int, ...]], *, samples: int = 1, seed: int) -> Rollout:
        """`samples` completions of each prompt; see `Sampler`."""
        return self.slots.run(lambda slots: self._sample(prompts, samples, seed, slots))

    @torch.inference_mode()
    def _sample(self, prompts: Sequence[tuple[int, ...]], samples: int, seed: int, slots: int) -> Rollout:
        generator = torch.Generator(self.machine.device).manual_seed(seed)
        tokens = torch.full((len(prompts) * samples, self.limit), self.pad_id, device=self.machine.device)
        logprobs = torch.zeros(tokens.shape, device=self.machine.device)
        length = torch.zeros(len(tokens), dtype=torch.long, device=self.machine.device)
        # Prompts of similar length wait side by side, so that a prefill pads little.
        queue = sorted(range(len(tokens)), key=lambda n: len(prompts[n // samples]))
        live = _Live.empty(self.machine.device)
        while queue or len(live.rows):
            if self.check is not None:
                self.check()
            free = slots - len(live.rows)
            if queue and free >= max(1, min(slots // 2, len(queue))):
                take, queue = queue[:free], queue[free:]
                live = live.join(self._prefill(prompts, take, samples))
            drawn, logprobs_B = self._draw(live.logits_BV, generator)
            at = length[live.rows]
            tokens[live.rows, at] = drawn
            logprobs[live.rows, at] = logprobs_B
            length[live.rows] = at + 1
            going = ~torch.isin(drawn, self.stop_ids) & (at + 1 < self.limit)
            if not bool(going.all()):
                live, drawn = live.keep(going), drawn[going]
            if len(live.rows):
                live.logits_BV = self._extend(live, drawn)
        return self._collect(prompts, samples, tokens, logprobs, length)

    def _draw(self, logits_BV: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One token per row, with its log-probability at the sampling temperature."""
        if self.greedy:
            drawn = logits_BV.argmax(-1)
        else:
            # argmax(p / Exp(1)) is a draw from p: the exponential race, without a cumulative sum.
            weights = torch.softmax(logits_BV.float() / self.temperature, -1)
            race = torch.empty_like(weights).exponential_(generator=generator)
            drawn = (weights / race).argmax(-1)
        logprobs = token_logprobs(logits_BV[:, None], drawn[:, None], self.temperature)[:, 0]
        return drawn, logprobs

    def _forward(self, **given: Any) -> Tensor:
        """Logits of the last column, (B, V)."""
        known = parameters_of(self.model)
        if "logits_to_keep" in known:
            given["logits_to_keep"] = 1
        if "position_ids" not in known:
            del given["position_ids"]
        with self.machine.autocast():
            logits: Tensor = self.model(use_cache=True, **given).logits[:, -1]
        return logits

    def _prefill(self, prompts: Sequence[tuple[int, ...]], rows: list[int], samples: int) -> _Live:
        """Run the prompts of these completions through the model once each and repeat what comes out."""
        from transformers import DynamicCache

        device = self.machine.device
        asked, repeat = torch.unique(torch.tensor(rows, device=device) // samples, return_inverse=True)
        given = [prompts[i] for i in asked.tolist()]
        width = max(map(len, given))
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p in given], device=device)
        lengths = torch.tensor([len(p) for p in given], device=device)
        attention = torch.arange(width, device=device) >= (width - lengths)[:, None]
        cache = DynamicCache()
        logits = self._forward(
            input_ids=ids,
            attention_mask=attention.long(),
            position_ids=(attention.long().cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
        )
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return _Live(asked, lengths, logits, layers).take(repeat, torch.tensor(rows, device=device))

    def _extend(self, live: _Live, drawn: Tensor) -> Tensor:
        """Append the drawn tokens to the cache and return the logits after them."""
        from transformers import DynamicCache

        cache = DynamicCache(ddp_cache_data=live.layers)
        live.lengths = live.lengths + 1
        columns = live.layers[0][0].shape[-2] + 1
        attention = torch.arange(columns, device=drawn.device) >= (columns - live.lengths)[:, None]
        logits = self._forward(
            input_ids=drawn[:, None],
            attention_mask=attention.long(),
            position_ids=(live.lengths - 1)[:, None],
            past_key_values=cache,
        )
        live.layers = [(layer.keys, layer.values) for layer in cache.layers]
        return logits

    def _collect(
        self,
        prompts: Sequence[tuple[int, ...]],
        samples: int,
        tokens: Tensor,
        logprobs: Tensor,
        length: Tensor,
    ) -> Rollout:
        ended = torch.isin(tokens.gather(1, (length - 1)[:, None])[:, 0], self.stop_ids).tolist()
        lengths, ids, values = length.tolist(), tokens.tolist(), logprobs.tolist()
        return Rollout(
            tuple(
                Sample(
                    prompt=i // samples,
                    prompt_ids=prompts[i // samples],
                    completion=tuple(ids[i][: lengths[i]]),
                    logprobs=tuple(values[i][: lengths[i]]),
                    ended=ended[i],
                )
                for i in range(len(ids))
            ),
            self.temperature,
        )


class _Live:
    """The rows in flight: their numbers, lengths, next logits and cache columns, all ending in the last column."""

    def __init__(
        self, rows: Tensor, lengths: Tensor, logits_BV: Tensor, layers: list[tuple[Tensor, Tensor]]
    ) -> None:
        self.rows = rows  # which of the N completions
        self.lengths = lengths  # tokens in the cache, padding not counted
        self.logits_BV = logits_BV
        self.layers = layers  # keys and values, (B, heads, T, head size)

    @classmethod
    def empty(cls, device: torch.device) -> _Live:
        none = torch.empty(0, dtype=torch.long, device=device)
        return cls(none, none, torch.empty(0, 0, device=device), [])

    def take(self, index: Tensor, rows: Tensor) -> _Live:
        """The rows of `index`, renumbered, without the columns that none of them uses."""
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        cut = [
            (
                keys[index][..., keys.shape[-2] - longest :, :],
                values[index][..., values.shape[-2] - longest :, :],
            )
            for keys, values in self.layers
        ]
        return _Live(rows, lengths, self.logits_BV[index], cut)

    def keep(self, mask: Tensor) -> _Live:
        """The rows where `mask` is True."""
        index = mask.nonzero()[:, 0]
        return self.take(index, self.rows[index])

    def join(self, other: _Live) -> _Live:
        """These rows and the other ones, padded on the left to the longer cache."""
        if not len(self.rows):
            return other
        columns = max(self.layers[0][0].shape[-2], other.layers[0][0].shape[-2])
        layers = [
            (
                torch.cat([_left_pad(keys, columns), _left_pad(other_keys, columns)]),
                torch.cat([_left_pad(values, columns), _left_pad(other_values, columns)]),
            )
            for (keys, values), (other_keys, other_values) in zip(self.layers, other.layers, strict=True)
        ]
        return _Live(
            torch.cat([self.rows, other.rows]),
            torch.cat([self.lengths, other.lengths]),
            torch.cat([self.logits_BV, other.logits_BV]),
            layers,
        )


def _left_pad(cache: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(cache, (0, 0, columns - cache.shape[-2], 0))
