"""PPO with a KL penalty on one page: a tiny language model learns to say the word it is paid for.

    python examples/ppo_in_one_file.py

Read it from top to bottom. The equations come from `concordant.core`; all that `concordant.train` adds to this page is
a sampler with a cache, micro-batches, checkpoints and figures. A test holds the two to the same losses.
"""

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from concordant.core.advantages import gae, token_rewards
from concordant.core.kl import k1
from concordant.core.logprobs import token_logprobs
from concordant.core.losses import clipped_policy_loss, clipped_value_loss
from concordant.core.masked import masked_mean, whiten

EOS, PAD, PAID = 1, 0, 7
KL_COEF, CLIP, GAMMA, LAM, VF_COEF, EPOCHS = 0.01, 0.2, 1.0, 0.95, 0.5, 2


@torch.no_grad()
def sample(policy, prompts, limit, generator):
    """Complete prompts of one length token by token: ids (B, T), and which completion tokens count (B, C)."""
    ids, ended, counts = prompts, torch.zeros(len(prompts), dtype=torch.bool), []
    for _ in range(limit):
        probabilities = policy(ids).logits[:, -1].softmax(-1)
        token = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        counts.append(~ended)  # the end-of-sequence token itself counts, what comes after it does not
        ids = torch.cat([ids, torch.where(ended, PAD, token)[:, None]], dim=1)
        ended = ended | (token == EOS)
    return ids, torch.stack(counts, dim=1)


def look(model, ids, start, critic=None):
    """Log-probability of each completion token, and the critic's value before it."""
    out = model(ids, output_hidden_states=True)
    logprobs = token_logprobs(out.logits[:, start - 1 : -1], ids[:, start:])
    hidden = out.hidden_states[-1][:, start - 1 : -1]
    return logprobs, None if critic is None else critic(hidden)[..., 0]


def update(policy, reference, critic, optimizer, ids, start, mask, scores):
    """One PPO update from completions and their scores; returns the loss of each pass."""
    with torch.no_grad():
        old_logprobs, old_values = look(policy, ids, start, critic)
        ref_logprobs, _ = look(reference, ids, start)
        # Drift from the reference costs KL_COEF a nat, paid token by token; the score comes with the last token.
        rewards = token_rewards(scores, k1(old_logprobs, ref_logprobs), mask, KL_COEF)
        advantages, returns = gae(rewards, old_values, mask, GAMMA, LAM)
        advantages = whiten(advantages, mask)
    n, losses = mask.sum(), []
    for _ in range(EPOCHS):
        logprobs, values = look(policy, ids, start, critic)
        policy_loss, _ = clipped_policy_loss(
            logprobs, old_logprobs, advantages, mask, n, clip_low=CLIP, clip_high=CLIP
        )
        value_loss, _ = clipped_value_loss(values, old_values, returns, mask, n, clip=CLIP)
        loss = policy_loss + VF_COEF * value_loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, float(masked_mean(k1(old_logprobs, ref_logprobs), mask))


def make_critic(width):
    """A head on the policy's last hidden states that says 0 until it has learnt something."""
    critic = nn.Linear(width, 1)
    nn.init.zeros_(critic.weight)
    nn.init.zeros_(critic.bias)
    return critic


def main():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    policy = LlamaForCausalLM(config).eval()
    reference = LlamaForCausalLM(config).eval().requires_grad_(False)
    reference.load_state_dict(policy.state_dict())
    critic = make_critic(config.hidden_size)
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], lr=3e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    for number in range(1, 41):
        prompts = torch.randint(2, 32, (64, 4), generator=generator)
        ids, mask = sample(policy, prompts, limit=8, generator=generator)
        scores = ((ids[:, 4:] == PAID) & mask).sum(1) / mask.sum(1)
        losses, kl = update(policy, reference, critic, optimizer, ids, 4, mask, scores)
        if number % 5 == 0:
            print(
                f"update {number:3}  score {scores.mean():.2f}  KL per token {kl:.2f}  loss {losses[-1]:.3f}"
            )


if __name__ == "__main__":
    main()
