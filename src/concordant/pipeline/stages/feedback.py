"""Candidates from the fine-tuned model, and labelers who rank them; or the votes that came with the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.data.types import Prompt
from concordant.feedback.answering.imports import import_judgements, import_preferences
from concordant.feedback.answering.labelers import collect
from concordant.feedback.reading.summary import summarise
from concordant.feedback.store import Store
from concordant.files import write_json
from concordant.models.load import load_policy
from concordant.pipeline.context import Context, Totals
from concordant.pipeline.folder import read_json
from concordant.pipeline.parts.judging import labelers_of
from concordant.pipeline.parts.sampling import completion_of, sampler_of, with_ids

CHUNK = 512  # prompts sampled and stored together; an interrupted stage goes on with the next chunk


def run(context: Context) -> dict[str, Any]:
    """Fill the run's feedback store."""
    with Store.open(context.store, durability=context.recipe.feedback.durability) as store:
        pairs, judged = context.material.preferences(), context.material.judgements()
        if pairs or judged:
            with context.timed("store"):
                import_preferences(store, pairs, labeler="imported")
                import_judgements(store, judged, labeler="imported")
        else:
            sample_candidates(context, store)
            if "simulated" in context.recipe.feedback.source:
                ask_labelers(context, store)
        return summarise(store)


def sample_candidates(context: Context, store: Store) -> None:
    """Sample completions of the prompts and make a ranking task of each prompt's."""
    settings = context.recipe.feedback
    path = context.model_path(context.start)
    model = load_policy(path).to(context.machine.device)
    sampler = sampler_of(context, model, completion=settings.completion, temperature=settings.temperature)
    prompts = _repeated(context.material.to_compare(), settings.prompts, context.material.world is not None)
    asked = with_ids(context, prompts, model, settings.completion)
    chunks = [asked[i : i + CHUNK] for i in range(0, len(asked), CHUNK)]
    sampled = context.folder.path / "sampled.json"
    known = read_json(sampled) or {}
    if known:
        context.totals = Totals.of(known)
    with context.reporter.activity("sampling candidates", len(asked), "prompts") as progress:
        for number, chunk in enumerate(chunks):
            if number < known.get("chunks", 0):
                continue
            seed = context.seed("candidates", number)
            with context.timed("sample") as timer:
                rollout = sampler.sample([ids for _, ids in chunk], samples=settings.completions, seed=seed)
                timer.tokens = rollout.tokens
            with context.timed("store"):
                producer = {"stage": context.start, "temperature": settings.temperature, "seed": seed}
                rows = [
                    (chunk[s.prompt][0], completion_of(context, s), producer | {"row": s.prompt}, s.ended)
                    for s in rollout.samples
                ]
                ids = store.add_completions(rows)
                k = settings.completions
                groups = [ids[i : i + k] for i in range(0, len(ids), k)]
                kind = "pairwise" if k == 2 else "ranking"
                more = {"most": settings.most_votes} if settings.most_votes > settings.votes else {}
                policy = {"selector": "random", **more}
                store.create_tasks(kind, groups, need=settings.votes, policy=policy, rubric=context.rubric)
            write_json(sampled, {"chunks": number + 1, **context.totals.facts()})
            progress.to(min(len(asked), (number + 1) * CHUNK))
            context.stop.check()


def ask_labelers(context: Context, store: Store) -> None:
    """Let the recipe's labelers vote on every open task; they lease and submit as people do."""
    labelers = labelers_of(context)
    total = len(store.unfinished())
    with context.timed("label"), context.reporter.activity("labeling", total, "tasks") as progress:

        def told(done: int, _planned: int) -> None:
            progress.to(done)
            context.stop.check()

        collect(store, labelers, seed=context.seed("assignment"), progress=told)


def _repeated(prompts: Sequence[Prompt], n: int, endless: bool) -> list[Prompt]:
    """`n` prompts, the first ones: of a world that has no more all as often as it takes, of files each once."""
    return [prompts[i % len(prompts)] for i in range(n if endless else min(n, len(prompts)))]
