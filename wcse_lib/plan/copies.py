"""Training problems that stand, nearly word for word, among held-out ones, and pairs alike enough to look at."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd

COPY = 0.5  # share of the shorter text's word n-grams that both texts have
SAME_BUT_NUMBERS = (
    0.8  # likewise with numbers masked, where texts of one form are common: a larger share
)
ALIKE = 0.5  # Jaccard index of masked word triples from which a pair is shown for review
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
    rf"(?P<number>\d+(?:[.,]\d+)*|\b{_NUMBER_WORD}(?:[ -]{_NUMBER_WORD})*\b)|[^\W\d_]+|[+*/=^<>]|-(?=\s*\d)|(?<=\s)-(?=\s)"
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
    plain, masked = _copies(problems, held_out, n, False), _copies(problems, held_out, n, True)
    found: dict[int, tuple[float, int, str]] = {}
    for share, pairs, reason in (
        (COPY, plain, "a copy of"),
        (SAME_BUT_NUMBERS, masked, "but for its numbers a copy of"),
    ):
        for (i, j), similarity in pairs.items():
            if similarity >= share and (
                i not in found or (found[i][2] == reason and similarity > found[i][0])
            ):
                found[i] = (similarity, j, reason)
    copies = _frame(
        problems, held_out, [(i, j, s, why) for i, (s, j, why) in sorted(found.items())]
    )
    alike = [
        (i, j, s, "alike")
        for i, j, s in _alike(problems["question"], held_out["question"])
        if i not in found
    ]
    near = _frame(problems, held_out, alike).sort_values(
        "similarity", ascending=False, kind="stable", ignore_index=True
    )
    return copies, near


def _copies(problems: pd.DataFrame, held_out: pd.DataFrame, n: int, masked: bool) -> Counter:
    """Share of the shorter text's n-grams that a pair (row, held-out row) has in common, for all pairs that have
    any."""
    a = [words(q, masked) for q in problems["question"]]
    b = [words(q, masked) for q in held_out["question"]]
    out: Counter = Counter()
    places = defaultdict(list)
    for j, text in enumerate(b):
        for gram in set(_grams(text, n)):
            places[gram].append(j)
    for i, text in enumerate(a):
        common = Counter(j for gram in set(_grams(text, n)) for j in places.get(gram, ()))
        for j, count in common.items():
            out[i, j] = count / min(len(set(_grams(text, n))), len(set(_grams(b[j], n))))
    if not masked:  # short texts that differ in numbers alone are often honest: they are shown as near-duplicates
        out.update(
            {(i, j): 1.0 for i, j in _contained(a, b, n)}
            | {(i, j): 1.0 for j, i in _contained(b, a, n)}
        )
    return out


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

    number: dict[tuple, int] = {}

    def matrix(texts: pd.Series) -> csr_matrix:
        rows = [
            {number.setdefault(g, len(number)) for g in _grams(w, min(3, len(w)))}
            for w in (words(t, True) for t in texts)
        ]
        ends = np.cumsum([0, *map(len, rows)])
        columns = np.fromiter((g for row in rows for g in row), np.int32, ends[-1])
        return csr_matrix(
            (np.ones(ends[-1], np.float32), columns, ends), shape=(len(rows), len(number))
        )

    a, b = matrix(problems), matrix(held_out)
    a.resize(a.shape[0], len(number))
    size_a, size_b = np.diff(a.indptr), np.diff(b.indptr)
    out = []
    for start in range(0, a.shape[0], 1000):  # in blocks, so that memory stays small
        common = (a[start : start + 1000] @ b.T).tocoo()
        rows = common.row + start
        jaccard = common.data / (size_a[rows] + size_b[common.col] - common.data)
        keep = jaccard >= ALIKE
        out += zip(rows[keep].tolist(), common.col[keep].tolist(), jaccard[keep].tolist())
    return out


def _grams(text: tuple, n: int) -> list[tuple]:
    return [text[i : i + n] for i in range(len(text) - n + 1)] if n else []


def _frame(
    problems: pd.DataFrame, held_out: pd.DataFrame, pairs: list[tuple[int, int, float, str]]
) -> pd.DataFrame:
    a, b = problems.iloc[[p[0] for p in pairs]], held_out.iloc[[p[1] for p in pairs]]
    rows = zip(a["problem_id"], a["question"], b["set"], b["problem_id"], b["question"], pairs)
    return pd.DataFrame(
        [(*row, similarity, why) for *row, (_, _, similarity, why) in rows], columns=PAIRS
    )
