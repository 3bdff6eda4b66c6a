"""The planted fault: which examples take the answers of other problems."""

from __future__ import annotations

import numpy as np


def givers(problems: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Whose text each example takes, [n] places: a random share of the examples exchange theirs, all others keep it.

    Args: problems: [n] codes of the examples' problems; share: from 0 to 1, rounded to whole examples.
    Nobody's text is taken twice, and none of the chosen ones takes a text of its own problem. Raises ValueError where
    more than half of the chosen ones are of one problem, so that there is no such exchange.

    >>> problems = np.array([0, 0, 1, 2])
    >>> problems[givers(problems, 1.0, np.random.default_rng(0))] != problems
    array([ True,  True,  True,  True])
    """
    n = len(problems)
    taken = np.arange(n)
    chosen = rng.permutation(n)[: round(share * n)]
    taken[chosen] = chosen[_exchanged(problems[chosen], rng)]
    return taken


def _exchanged(problems: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the places [n] in which no place keeps its own problem; see `givers`.

    An order at random leaves about as many places with their own problem as a problem has examples. Each of these
    changes with a place that neither has this problem nor was given it; there is one while no problem has more than
    half of the places.
    """
    if len(problems) and 2 * np.bincount(problems).max() > len(problems):
        raise ValueError(
            "more than half of the examples whose answers are to be permuted are of one problem"
        )
    order = rng.permutation(len(problems))
    for place in np.flatnonzero(problems[order] == problems):
        own = problems[place]
        if problems[order[place]] != own:
            continue  # an earlier change has mended it
        others = np.flatnonzero((problems != own) & (problems[order] != own))
        other = rng.choice(others)
        order[[place, other]] = order[[other, place]]
    return order
