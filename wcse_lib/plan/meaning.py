"""Training problems that say in other words what a held-out one says: found by vectors that a model makes of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.budget import read_price
from wcse_lib.plan.copies import pairs_of
from wcse_lib.sample import Vectors, vectors_of
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Meaning, MeaningFacts, Price, Run, Study, resolve

MOST_COSINES = 10_000_000  # held in memory at a time
NEXT = 3  # cosines that the largest one is measured against
LEAST = NEXT + 1  # problems of a set: the nearest, and the next ones
DRAWS = 5  # of the sets that the threshold comes from; one draw alone leaves it to luck
SHOWN = 50  # nearest pairs that stay, for people to look at
COPY, NEAR = "in meaning a copy of", "near in meaning"


class ByMeaning:
    """Compares problems by a model's vectors; what came of it is in `facts` afterwards.

    Args: make: gives the vectors of texts, as `vectors_of` does.
    """

    def __init__(self, meaning: Meaning, make: Callable[[list[str]], Vectors], price: Price | None):
        self.meaning, self.make, self.price = meaning, make, price
        self.facts: MeaningFacts | None = None

    def compare(
        self, problems: pd.DataFrame, held_out: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(copies, nearest pairs that stay), frames with PAIRS, the largest margin first; `similarity` is a cosine.

        Args: problems: `problem_id`, `question`; held_out: these and `set`. A problem whose margin (see `nearest`) in
        some set is above the threshold is a copy. Raises StudyError for a set that is too small to compare with.
        """
        for name, n in held_out["set"].value_counts(sort=False).items():
            if n < LEAST:
                raise StudyError(
                    f"dataset.meaning: {name} has {n} problems, and at least {LEAST} are needed to tell a paraphrase "
                    "from what is merely alike; leave dataset.meaning out, or give a larger set"
                )
        vectors = self.make([*problems["question"], *held_out["question"]])
        rows, held = vectors.rows[: len(problems)], vectors.rows[len(problems) :]
        sets = [np.flatnonzero(held_out["set"] == name) for name in held_out["set"].unique()]
        found = [nearest(rows, held[places]) for places in sets]
        threshold, n_compared = self.meaning.threshold, 0
        if threshold is None:
            sizes = [len(places) for places in sets]
            threshold, n_compared = threshold_of(rows, sizes, self.meaning.false_share)

        # of every problem, the set in which its margin is largest
        margins = np.stack([of_set.margins for of_set in found])
        best, own = margins.argmax(axis=0), np.arange(len(rows))
        cosines = np.stack([of_set.cosines for of_set in found])[best, own]
        others = np.stack([places[of_set.places] for places, of_set in zip(sets, found)])[best, own]
        margins = margins[best, own]
        order = np.argsort(-margins, kind="stable")
        n_copies = int((margins > threshold).sum())

        def pairs(places: np.ndarray, reason: str) -> pd.DataFrame:
            listed = [(i, float(cosines[i]), int(others[i]), reason) for i in places.tolist()]
            return pairs_of(problems, held_out, listed)

        self.facts = MeaningFacts(
            made_by=vectors.made_by,
            n_dimensions=vectors.rows.shape[1],
            threshold=round(threshold, 6),
            n_compared=n_compared,
            n_removed=n_copies,
            n_tokens=vectors.n_tokens,
            usd=self._usd(vectors.n_tokens),
        )
        shown = order[n_copies : n_copies + SHOWN]
        return pairs(order[:n_copies], COPY), pairs(shown, NEAR)

    def _usd(self, n_tokens: int) -> float | None:
        if self.price is None or self.price.input is None:
            return None
        return n_tokens * self.price.input / 1e6


class Counted:
    """Stands for ByMeaning in a dry run, which makes no vectors: what would be compared, in problems and bytes."""

    def __init__(self) -> None:
        self.n_problems = self.n_bytes = 0

    def compare(
        self, problems: pd.DataFrame, held_out: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        questions = [*problems["question"], *held_out["question"]]
        self.n_problems = len(questions)
        self.n_bytes = sum(len(question.encode()) for question in questions)
        none = pairs_of(problems, held_out, [])
        return none, none


def open_meaning(study: Study, machine: Machine, is_dry: bool) -> ByMeaning | Counted | None:
    """How a study's problems are compared by meaning; None where they are not."""
    meaning = study.dataset.meaning
    if meaning is None:
        return None
    if is_dry:
        return Counted()
    price = price_of(study)

    def make(texts: list[str]) -> Vectors:
        try:
            return vectors_of(texts, meaning.model, meaning.engine, machine, price)
        except (ValueError, OSError) as error:
            raise StudyError(f"dataset.meaning.model {meaning.model}: {error}") from error

    return ByMeaning(meaning, make, price)


def price_of(study: Study) -> Price | None:
    """What an endpoint's vectors cost by the study's price table; None where nobody bills or the table has no row."""
    meaning = study.dataset.meaning
    if meaning.engine == "openai":
        with contextlib.suppress(StudyError):
            return read_price(resolve(study.budget.prices), meaning.model, study.budget.price_date)
    return None


class Nearest(NamedTuple):
    """Of every row the largest cosine, its margin, and the place of the other one that has it."""

    cosines: np.ndarray
    margins: np.ndarray
    places: np.ndarray


def nearest(rows: np.ndarray, others: np.ndarray) -> Nearest:
    """The nearest of the others to every row, by vectors of length 1.

    A margin is the largest cosine minus the mean of the NEXT largest ones: a paraphrase is much nearer than the next
    problems are, however like each other all problems of a set may be (margins of cosines find translations, too:
    arXiv 1811.01136). Args: others: more than NEXT.
    """
    found = Nearest(*(np.empty(len(rows), kind) for kind in (np.float32, np.float32, np.int64)))
    columns = others.astype(np.float32).T
    n_at_once = max(1, MOST_COSINES // max(1, len(others)))
    for start in range(0, len(rows), n_at_once):
        part = slice(start, start + n_at_once)
        block = rows[part].astype(np.float32) @ columns
        own = np.arange(len(block))
        places = block.argmax(axis=1)
        cosines = block[own, places]
        largest = np.partition(block, -NEXT - 1, axis=1)[:, -NEXT - 1 :]
        next_ones = (largest.sum(axis=1) - cosines) / NEXT
        found.places[part], found.cosines[part] = places, cosines
        found.margins[part] = cosines - next_ones
    return found


def threshold_of(rows: np.ndarray, sizes: list[int], share: float) -> tuple[float, int]:
    """The margin that at most this share of honest problems exceed, and how many problems it comes from.

    Args: rows: vectors of the training problems; sizes: of the held-out sets. Sets as large as these are drawn from the
    training problems, half of them at most, and the others, which are different problems, are compared with them: DRAWS
    times. Raises StudyError where none are left for that.
    """
    part = min(1.0, len(rows) / 2 / sum(sizes))
    drawn = [max(LEAST, int(size * part)) for size in sizes]
    ends = np.cumsum(drawn)
    n_others = len(rows) - int(ends[-1])
    if n_others < 1:
        raise StudyError(
            f"dataset.meaning.threshold: needed with {len(rows)} training problems, whose likeness to each other could "
            "set it if they were more"
        )
    source = np.random.default_rng(0)
    margins = []
    for _ in range(DRAWS):
        *sets, others = np.split(source.permutation(len(rows)), ends)
        of_sets = [nearest(rows[others], rows[of_set]).margins for of_set in sets]
        margins.append(np.max(of_sets, axis=0))
    return quantile_above(np.concatenate(margins), share), n_others


def quantile_above(values: np.ndarray, share: float) -> float:
    """The value that one more draw of the same kind exceeds with a chance of at most `share`; the largest, where there
    are too few for that.

    >>> quantile_above(np.arange(1, 100), 0.05)
    95.0
    """
    place = math.ceil((len(values) + 1) * (1 - share))
    return float(np.sort(values)[min(place, len(values)) - 1])


def meaning_sentences(run: Run) -> list[str]:
    """What decontamination by meaning has done, and how far its threshold can be trusted."""
    facts, meaning = run.plan.meaning, run.study.dataset.meaning
    if facts is None:
        return []
    text = (
        f"by meaning {facts.n_removed:,} training problems were left out: by the vectors of {meaning.model} the "
        f"margin of a held-out problem is above {facts.threshold:.4f}"
    )
    if facts.usd is not None:
        text += f" ({facts.n_tokens:,} tokens, {facts.usd:,.4g} USD)"
    elif meaning.engine == "openai":
        text += f" ({facts.n_tokens:,} tokens; the price table has no row for it)"
    percent = f"{100 * meaning.false_share:.3g} %"
    n_needed = math.ceil(1 / meaning.false_share) - 1
    if facts.n_compared == 0:
        text += "; the threshold is your own"
    elif facts.n_compared < n_needed:
        text += (
            f"; {facts.n_compared:,} training problems are too few to promise that at most {percent} of the honest "
            f"ones leave ({n_needed:,} would do): look at dropped.parquet"
        )
    else:
        text += f", as it is for {percent} of {facts.n_compared:,} training problems with as many others of them"
    return [text]
