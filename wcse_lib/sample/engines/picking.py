"""Tokens from logits: every sample draws from a random stream of its own."""

from __future__ import annotations

import numpy as np

from wcse_lib.sample.engines import Decoding


def pick(scores, decoding: Decoding, seeds: np.ndarray, position: np.ndarray | int):
    """One token per row: the likeliest at temperature 0, else drawn by the row's own stream at its position.

    Args: scores: logits [rows, vocabulary]; seeds [rows]; position: of the new token in its sample, one number or
    [rows]. Returns token ids [rows]. Temperature and top-p are transformers' own; the draw inverts the cumulative
    distribution in double precision.
    """
    import torch
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

    if decoding.temperature == 0:
        return scores.argmax(-1)
    scores = TemperatureLogitsWarper(float(decoding.temperature))(None, scores.float())

    # Among the top k only; in the vocabulary's order, as if the others had probability 0.
    kept_ids = None
    if 0 < decoding.top_k < scores.shape[1]:
        kept_ids = scores.topk(decoding.top_k).indices.sort().values
        scores = scores.gather(1, kept_ids)
    if decoding.top_p < 1:
        scores = TopPLogitsWarper(decoding.top_p)(None, scores)

    cumulative = torch.softmax(scores.double(), dim=-1).cumsum(-1)
    numbers = torch.from_numpy(uniform(seeds, position)).to(scores.device)
    target = numbers[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[1] - 1)
    if kept_ids is not None:
        place = kept_ids.gather(1, place)
    return place[:, 0]


def uniform(seeds: np.ndarray, position: np.ndarray | int) -> np.ndarray:
    """One number in [0, 1) per seed and position: SplitMix64's finaliser over both (Steele et al. 2014).

    >>> uniform(np.array([1, 2], np.uint64), 0).round(4)
    array([0.5666, 0.5912])
    """
    with np.errstate(over="ignore"):
        steps = np.asarray(position).astype(np.uint64) + np.uint64(1)
        z = seeds + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)
