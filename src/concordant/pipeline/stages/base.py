"""The base model of a run that was given none: the embedded tiny Llama, trained from scratch on a world's corpus."""

from __future__ import annotations

from concordant.data.batches import Example
from concordant.data.template import Template
from concordant.models.load import save_model
from concordant.models.tiny import tiny_llama, train_tokenizer
from concordant.pipeline.context import Context
from concordant.pipeline.parts.demonstrations import demonstration_row
from concordant.pipeline.parts.fitting import fit_stage
from concordant.pipeline.parts.lengths import fit_examples
from concordant.train.fit import always
from concordant.train.objectives.sft import sft_objective


def run(context: Context) -> dict[str, float]:
    """Train tokenizer and model on the answers of the corpus: the world's questions are not worth learning."""
    assert context.recipe.pretrain is not None
    corpus = context.material.corpus()
    texts = [m.content for demo in corpus for m in demo.prompt.messages]
    tokenizer = train_tokenizer([*texts, *(demo.completion.text for demo in corpus)])
    context.template = Template(tokenizer)
    examples = [
        Example((demonstration_row(context.template, demo, context.recipe.model.embedded.context),))
        for demo in corpus
    ]
    model = tiny_llama(tokenizer, context.recipe.model.embedded, context.seed("weights"))
    model.to(context.machine.device)
    examples = fit_examples(context, examples, context.limit(model), what="chats of the corpus")
    objective = always(sft_objective(model))
    last = fit_stage(context, model, examples, objective, context.recipe.pretrain, title="pretraining")
    save_model(model, tokenizer, context.folder.model)
    return {"loss": last["loss"], "parameters": sum(p.numel() for p in model.parameters())}
