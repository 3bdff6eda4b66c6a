"""Training problems that stand, nearly word for word, among held-out ones, and pairs alike enough to look at."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd

COPY = 0.5  # share of the shorter text's word n-grams that both texts have
# Likewise with numbers masked, where texts of one form are common: a larger share.
SAME_BUT_NUMBERS = 0.8
ALIKE = 0.5  # Jaccard index of masked word triples from which a pair is shown for review
BLOCK = 1000  # problems compared at a time, so that memory stays small
SHORTEST = 5  # words: shorter texts are copies only of texts that equal them
PAIRS = [
    "problem_id",
    "question",
    "set",
    "held_out_id",
    "held_out_question",
    "similarity",
    "reason",
]
_NUMBER_WORD = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    "|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million)"
)
_WORD = re.compile(
    rf"(?P<number>\d+(?:[.,]\d+)*|\b{_NUMBER_WORD}(?:[ -]{_NUMBER_WORD})*\b)"
    r"|[^\W\d_]+|[+*/=^<>]|-(?=\s*\d)|(?<=\s)-(?=\s)"
)
_TYPESETTING = re.compile(r"\\(?:left|right|displaystyle|quad|qquad|,|!|;|:|\\)(?![a-z])|[$\u200b]")


def words(text: str, masked: bool = False) -> tuple[str, ...]:
    """A problem's words, numbers and operators: case, spacing, punctuation and LaTeX's delimiters folded away.

    With `masked`, numbers in figures or words become `0`.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2212", "-")
    text = re.sub(r"\\[dt]frac", r"\\frac", _TYPESETTING.sub(" ", text))
    return tuple("0" if masked and m["number"] else m[0] for m in _WORD.finditer(text))


def compare(
    problems: pd.DataFrame, held_out: pd.DataFrame, n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copies of held-out problems among training problems, and near-duplicates for review.

    Args: problems: `problem_id`, `question`; held_out: these and `set`; n: words in a row. A problem is a copy when it
    shares COPY of the shorter text's n-grams with a held-out problem, or SAME_BUT_NUMBERS of them once numbers are
    masked; where the shorter text has fewer than n words, when the longer one contains it whole (below SHORTEST words:
    equals it). Returns (copies, near_duplicates), frames with PAIRS: each copy once, with its closest held-out problem;
    of other pairs, all whose masked word triples have a Jaccard index of at least ALIKE, the most alike first.
    """
    closest: dict[int, tuple[float, int, str]] = {}
    for share, masked, reason in (
        (COPY, False, "a copy of"),
        (SAME_BUT_NUMBERS, True, "but for its numbers a copy of"),
    ):
        for (row, other), similarity in _shared(problems, held_out, n, masked).items():
            if similarity < share:
                continue
            known = closest.get(row)
            # a copy word for word stays one, whatever is alike once numbers are masked
            if known is None or (known[2] == reason and similarity > known[0]):
                closest[row] = (similarity, other, reason)
    copies = [(row, *closest[row]) for row in sorted(closest)]
    alike = [
        (row, similarity, other, "alike")
        for row, other, similarity in _alike(problems["question"], held_out["question"])
        if row not in closest
    ]
    near = pairs_of(problems, held_out, alike)
    near = near.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)
    return pairs_of(problems, held_out, copies), near


def _shared(problems: pd.DataFrame, held_out: pd.DataFrame, n: int, masked: bool) -> dict:
    """Share of the shorter text's n-grams that a pair (row, held-out row) has in common, for all pairs that have
    any."""
    texts = [words(question, masked) for question in problems["question"]]
    others = [words(question, masked) for question in held_out["question"]]
    grams = [set(_grams(text, n)) for text in texts]
    other_grams = [set(_grams(text, n)) for text in others]
    places = defaultdict(list)
    for other, found in enumerate(other_grams):
        for gram in found:
            places[gram].append(other)
    shares = {}
    for row, found in enumerate(grams):
        common: Counter = Counter()
        for gram in found:
            common.update(places.get(gram, ()))
        for other, count in common.items():
            shares[row, other] = count / min(len(found), len(other_grams[other]))
    if not masked:
        # short texts that differ in numbers alone are often honest: they are shown as near-duplicates
        for row, other in _contained(texts, others, n):
            shares[row, other] = 1.0
        for other, row in _contained(others, texts, n):
            shares[row, other] = 1.0
    return shares


def _contained(texts: list[tuple], short: list[tuple], n: int) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) such that short[j] has fewer than n words and stands whole in texts[i]."""
    places = defaultdict(list)
    for j, text in enumerate(short):
        if 0 < len(text) < n:
            places[text].append(j)
    lengths = {len(text) for text in places}
    for i, text in enumerate(texts):
        for length in lengths:
            if length >= SHORTEST or length == len(text):
                yield from (
                    (i, j) for gram in set(_grams(text, length)) for j in places.get(gram, ())
                )


def _alike(problems: pd.Series, held_out: pd.Series) -> list[tuple[int, int, float]]:
    """Pairs (row, held-out row, Jaccard index of masked word triples) of at least ALIKE."""
    import numpy as np
    from scipy.sparse import csr_matrix

    numbers: dict[tuple, int] = {}

    def matrix(texts: pd.Series) -> csr_matrix:
        """A row per text, a column per word triple that some text has."""
        columns, ends = [], [0]
        for text in texts:
            masked = words(text, True)
            triples = _grams(masked, min(3, len(masked)))
            columns += {numbers.setdefault(triple, len(numbers)) for triple in triples}
            ends.append(len(columns))
        ones = np.ones(len(columns), np.float32)
        shape = (len(texts), len(numbers))
        return csr_matrix((ones, np.array(columns, np.int32), ends), shape=shape)

    left, right = matrix(problems), matrix(held_out)
    left.resize(left.shape[0], len(numbers))
    n_left, n_right = np.diff(left.indptr), np.diff(right.indptr)
    pairs = []
    for start in range(0, left.shape[0], BLOCK):
        common = (left[start : start + BLOCK] @ right.T).tocoo()
        rows = common.row + start
        union = n_left[rows] + n_right[common.col] - common.data
        jaccard = common.data / union
        keep = jaccard >= ALIKE
        pairs += zip(rows[keep].tolist(), common.col[keep].tolist(), jaccard[keep].tolist())
    return pairs


def _grams(text: tuple, n: int) -> list[tuple]:
    return [text[i : i + n] for i in range(len(text) - n + 1)] if n else []


def pairs_of(
    problems: pd.DataFrame, held_out: pd.DataFrame, pairs: list[tuple[int, float, int, str]]
) -> pd.DataFrame:
    """PAIRS of (row, similarity, held-out row, reason)."""
    rows = []
    for row, similarity, other, reason in pairs:
        problem, held = problems.iloc[row], held_out.iloc[other]
        rows.append(
            {
                "problem_id": problem["problem_id"],
                "question": problem["question"],
                "set": held["set"],
                "held_out_id": held["problem_id"],
                "held_out_question": held["question"],
                "similarity": similarity,
                "reason": reason,
            }
        )
    return pd.DataFrame(rows, columns=PAIRS)
