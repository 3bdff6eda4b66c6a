"""How far a student's next tokens are from those of the model that scores it."""

from __future__ import annotations

import math
from typing import Any


def token_divergences(student: Any, scorer: Any, beta: float) -> Any:
    """The generalised Jensen–Shannon divergence at each token, in nats, [n_tokens]; only the student gets gradients.

    Args: student, scorer: logits [n_tokens, vocabulary]; beta: 1 is the reverse KL divergence KL(student ‖ scorer), 0
    the forward one, and between them beta · KL(scorer ‖ m) + (1 − beta) · KL(student ‖ m), m = beta · scorer +
    (1 − beta) · student (Agarwal et al. 2023, arXiv 2306.13649, section 3). Logits beyond the smaller vocabulary are
    padding of a matrix, which no token has, and left out.
    """
    import torch

    n_tokens = min(student.shape[-1], scorer.shape[-1])
    p = torch.log_softmax(student[..., :n_tokens].float(), -1)
    q = torch.log_softmax(scorer[..., :n_tokens].detach().float(), -1)
    if beta == 1:
        return _kl(p, q)
    if beta == 0:
        return _kl(q, p)
    mixed = torch.logaddexp(q + math.log(beta), p + math.log(1 - beta))
    return beta * _kl(q, mixed) + (1 - beta) * _kl(p, mixed)


def _kl(a: Any, b: Any) -> Any:
    """KL(a ‖ b) over the last axis of log probabilities."""
    return (a.exp() * (a - b)).sum(-1)
