"""How scores explain preferences: the losses of a reward model.

Legend: M comparisons, B prompts, K completions of a prompt, best first. d is score(chosen) -
score(rejected). Only differences of scores matter, so each loss stays as it is when all scores of a
prompt are shifted together, unless they are centred. Every loss is a sum divided by a `denominator`
that the caller counts over the whole optimiser batch: the sum of the weights, or the number of prompts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from concordant.core.masked import kept, masked_sum, require_same_shape


def bradley_terry_loss(
    chosen_M: Tensor,
    rejected_M: Tensor,
    denominator: Tensor | float,
    *,
    p_chosen: Tensor | None = None,
    margin: Tensor | None = None,
    weight: Tensor | None = None,
    centering: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of the preferences, sum w l / denominator; P(chosen wins) = sigmoid(d).

    - l = -log sigmoid(d) by default (Bradley & Terry 1952);
    - l = -log sigmoid(d - margin) with margins >= 0 (Llama 2, arXiv:2307.09288, eq. 2);
    - l = -p log sigmoid(d) - (1 - p) log sigmoid(-d) with soft labels p = `p_chosen`, where a tie is
      0.5 and the gradient by d is sigmoid(d) - p.

    `centering` c adds c (score(chosen) + score(rejected))^2 to l (arXiv:2312.09244).
    A comparison of weight 0 does not count. All of shape (M,).

    Raises ValueError for soft labels together with margins: they say two things about one strength.
    """
    if p_chosen is not None and margin is not None:
        raise ValueError("give p_chosen or margin, not both: each states how strong a preference is")
    require_same_shape(
        chosen_M=chosen_M, rejected_M=rejected_M, p_chosen=p_chosen, margin=margin, weight=weight
    )
    chosen_M, rejected_M = _weighted(chosen_M, weight), _weighted(rejected_M, weight)
    difference_M = chosen_M - rejected_M
    if p_chosen is not None:
        p_M = p_chosen.float()
        loss_M = -p_M * logsigmoid(difference_M) - (1 - p_M) * logsigmoid(-difference_M)
    else:
        loss_M = -logsigmoid(difference_M if margin is None else difference_M - margin.float())
    if centering:
        loss_M = loss_M + centering * (chosen_M + rejected_M).square()
    return _total(loss_M, weight) / denominator


def davidson_probabilities(delta: Tensor, nu: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of win, tie and loss at a difference `delta` of scores, each of its shape.

    P(win) = e^(delta/2) / Z, P(tie) = nu / Z, P(loss) = e^(-delta/2) / Z (Davidson 1970).
    nu >= 0 says how common ties are; with nu = 0 this is the Bradley-Terry model.
    """
    win, tie, loss = _davidson_logprobs(delta, nu).exp().unbind(-1)
    return win, tie, loss


def davidson_loss(
    chosen_M: Tensor,
    rejected_M: Tensor,
    tie_M: Tensor,
    nu: Tensor | float,
    denominator: Tensor | float,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of wins and ties, sum w l / denominator, under Davidson's model.

    l = -log P(tie) where `tie_M` (bool) is True, else -log P(chosen wins). A learned nu is
    exp(eta) of a free parameter eta.
    """
    require_same_shape(chosen_M=chosen_M, rejected_M=rejected_M, tie_M=tie_M, weight=weight)
    difference_M = _weighted(chosen_M, weight) - _weighted(rejected_M, weight)
    win_M, tie_logprob_M, _ = _davidson_logprobs(difference_M, nu).unbind(-1)
    return _total(-torch.where(tie_M, tie_logprob_M, win_M), weight) / denominator


def plackett_luce_loss(scores_BK: Tensor, mask_BK: Tensor, denominator: Tensor | float) -> Tensor:
    """Negative log-likelihood of rankings: the best is drawn from all, the next from the rest, and so on.

    -sum_{k<K} [s_k - logsumexp(s_k .. s_K)] / denominator (Plackett 1975; Luce 1959). `scores_BK`
    stand best first; `mask_BK` is False where a prompt has fewer completions. With K = 2 this is
    the Bradley-Terry loss. A prompt counts once, however many completions it has
    (InstructGPT, arXiv:2203.02155, section 3.5).
    """
    require_same_shape(scores_BK=scores_BK, mask_BK=mask_BK)
    scores_BK = scores_BK.float()
    size = scores_BK.shape[1]
    not_before_KK = torch.ones(size, size, dtype=torch.bool, device=scores_BK.device).triu()
    # The lowest finite number, not -inf: logsumexp over -inf alone has a NaN gradient.
    lowest = torch.finfo(torch.float32).min
    rest_BKK = torch.where(not_before_KK & mask_BK[:, None, :], scores_BK[:, None, :], lowest)
    return masked_sum(rest_BKK.logsumexp(-1) - scores_BK, mask_BK) / denominator


def _davidson_logprobs(delta: Tensor, nu: Tensor | float) -> Tensor:
    """Log-probabilities of win, tie and loss in a new last dimension."""
    half = 0.5 * delta.float()
    log_nu = torch.as_tensor(nu, dtype=torch.float32, device=half.device).log().expand_as(half)
    return torch.log_softmax(torch.stack((half, log_nu, -half), -1), -1)


def _weighted(scores_M: Tensor, weight_M: Tensor | None) -> Tensor:
    """Scores in fp32, 0 where the weight is 0: what does not count cannot leak."""
    return scores_M.float() if weight_M is None else kept(scores_M, weight_M != 0)


def _total(loss_M: Tensor, weight_M: Tensor | None) -> Tensor:
    """Weighted sum of the losses."""
    return loss_M.sum() if weight_M is None else masked_sum(loss_M * weight_M, weight_M != 0)
