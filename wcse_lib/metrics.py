"""What a set of samples is worth: coverage, majority votes, diversity, profiles; exact over all subsets of k samples.

Sequences run over problems unless said otherwise. Every number "at k" is the mean over all subsets of k of a problem's
n samples, so the order of samples cannot matter; n may differ between problems; k > n raises, never guesses.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, combinations, compress, zip_longest

import numpy as np
import pandas as pd
from scipy.special import gammaln

_NUMBER = re.compile(
    r"([+-]?)((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:/([0-9]+))?"
)
_SIGNS = str.maketrans({"×": "*", "⋅": "*", "·": "*", "÷": "/", "−": "-", "$": None})


def counts(verdicts: pd.DataFrame, by="problem_id", flag=None) -> tuple[pd.Series, pd.Series]:
    """(n_samples, n_correct), int64 series indexed by sorted `by`, from one row per sample with column `verdict`.

    Unverifiable is not correct: drop such rows first to leave them out. `flag` (bools over rows) counts other things
    (sound samples). Authors are pooled unless `by` is ["author", "problem_id"]. Raises ValueError on missing entries.
    """
    given, keys = (
        verdicts["verdict"] if flag is None else flag,
        [verdicts[key] for key in np.atleast_1d(by)],
    )
    if verdicts.empty or any(key.isna().any() for key in keys) or pd.isna(given).any():
        raise ValueError(
            f"counts needs rows that all have {by} and a verdict or flag; {len(verdicts)} rows given"
        )
    right = np.asarray(given == "correct" if flag is None else given, bool)
    new = np.any([np.asarray(key.array[1:] != key.array[:-1], bool) for key in keys], axis=0)
    starts = np.flatnonzero(
        np.r_[True, new]
    )  # of runs with one key: few when rows are sorted, which saves the hashing
    runs = pd.DataFrame(
        {
            "n": np.diff(starts, append=len(right)),
            "c": np.add.reduceat(right, starts, dtype=np.int64),
        }
    )
    runs = runs.groupby(
        [key.iloc[starts].reset_index(drop=True) for key in keys], observed=True
    ).sum()
    return runs["n"], runs["c"]


def coverage_at_k(n_samples, n_correct, k: int) -> float:
    """Chance that k of a problem's samples hold a correct one, mean over problems: 1 - C(n-c, k)/C(n, k).

    `n_samples`, `n_correct` [problems] whole numbers. k = 1 is pass@1; of a student's samples it is pass@k. Raises
    ValueError when k > any n, k < 1, c not in 0..n, no problems, unequal lengths, not whole. Chen et al. (2021).
    """
    return float(coverage_per_problem(n_samples, n_correct, k).mean())


def coverage_per_problem(n_samples, n_correct, k: int) -> np.ndarray:
    """coverage@k of each problem [problems]; see `coverage_at_k`."""
    n, c, place = _pairs(n_samples, n_correct, [k])
    return deque(_cover(n, c, k), maxlen=1).pop()[place]


def coverage_curve(n_samples, n_correct, ks=None) -> np.ndarray:
    """coverage@k for each k of `ks` [len(ks)], by default 1 ... smallest n, in one pass; see `coverage_at_k`."""
    ks = range(1, int(np.min(n_samples)) + 1) if ks is None else ks
    n, c, place = _pairs(n_samples, n_correct, ks)
    weights = np.bincount(place) / len(place)
    return np.array([weights @ covered for covered in _cover(n, c, max(ks))])[np.asarray(ks) - 1]


def majority_at_k(answers, correct, k: int, canonical: Callable | None = None) -> float:
    """maj@k: chance that the most frequent answer among k of a problem's samples is correct, mean over problems.

    `answers`: per problem its samples' answers (None: no answer, no vote); `correct`: their verdicts. Votes go to
    classes: answers of equal `canonical` form (default `canonical_answer`), and all that are judged correct. Ties are
    broken uniformly, in expectation; no votes count 0. Raises ValueError when k > n, k < 1, or lists do not match.
    """
    return float(majority_details(answers, correct, k, canonical)["accuracy"].mean())


def majority_details(answers, correct, k: int, canonical: Callable | None = None) -> pd.DataFrame:
    """Row per problem: `accuracy` of the vote, `tie_rate` (classes tie for the lead), `no_answer_rate` (no votes)."""
    profiles = []
    for forms, verdicts in zip(_forms(answers, canonical), _matched(answers, correct), strict=True):
        votes = Counter(forms)
        blank = votes.pop(None, 0)
        right = sum(votes.pop(form, 0) for form in set(compress(forms, verdicts)))
        profiles.append((len(forms), blank, right, *sorted(votes.values(), reverse=True)))
    _pairs([p[0] for p in profiles], [0] * len(profiles), [k])
    row = {
        p: i for i, p in enumerate(sorted(set(profiles), key=lambda p: (len(p), p)))
    }  # like problems only once
    distinct, block = list(row), max(1, 400_000 // (k + 1) ** 2)
    table = np.vstack([_vote(distinct[i : i + block], k) for i in range(0, len(distinct), block)])
    return pd.DataFrame(
        table[[row[p] for p in profiles]], columns=["accuracy", "tie_rate", "no_answer_rate"]
    )


def canonical_answer(answer: str) -> Fraction | str | None:
    """The class an answer votes for: an exact rational where it is one (1/2 = 0.5, 1,000 = 1000), else normalised text.
    None for no answer ("" or "[invalid]"). Nothing is rounded or evaluated: "50%" and "0.5" stay apart."""
    text = re.sub(r"\\left|\\right|\\[,;!:$]|\s", "", str(answer)).translate(_SIGNS)
    text = re.sub(r"\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2", text.rstrip(".")).casefold()
    number = (
        _NUMBER.fullmatch(text) if len(text) <= 200 else None
    )  # longer ones cost time and are no one's answer
    if number and int(number[3] or 1):
        return Fraction(number[1] + number[2].replace(",", "")) / int(number[3] or 1)
    return None if text in ("", "[invalid]") else text


def self_agreement(answers, canonical: Callable | None = None) -> np.ndarray:
    """Chance that two of a problem's samples give the same answer [problems]; None agrees with none; NaN if n < 2."""
    votes = (
        (len(forms), Counter(form for form in forms if form is not None))
        for forms in _forms(answers, canonical)
    )
    return np.array(
        [
            sum(m * (m - 1) for m in v.values()) / (n * (n - 1)) if n > 1 else np.nan
            for n, v in votes
        ]
    )


def diversity_at_k(
    kinds_per_problem, correct_per_problem, k: int, average: str = "solved"
) -> float:
    """Mean number of different correct solutions among k of a problem's samples (diversity@k).

    `kinds_per_problem`: per problem a key per sample (`text_key`, `normalised_key`, `equation_key`, `ngram_clusters`);
    `correct_per_problem`: the verdicts. `average`: over "all" problems, or over those "solved" by the k samples, as in
    the paper (mean over coverage@k; NaN for 0/0): k * pass@1 / coverage@k when no two correct ones are alike.
    """
    if average not in ("solved", "all"):
        raise ValueError(f"average must be 'solved' or 'all', not {average!r}")
    unique = diversity_per_problem(kinds_per_problem, correct_per_problem, k).mean()
    n, c = zip(*((len(verdicts), sum(verdicts)) for verdicts in correct_per_problem))
    covered = coverage_at_k(n, c, k) if average == "solved" else 1.0
    return float(unique / covered) if covered else float("nan")


def diversity_per_problem(kinds_per_problem, correct_per_problem, k: int) -> np.ndarray:
    """Expected number of different correct solutions [problems]: over kinds of size m, sum of 1 - C(n-m, k)/C(n, k)."""
    verdicts = _matched(kinds_per_problem, correct_per_problem)
    sizes = [
        Counter(compress(kinds, right)).values()
        for right, kinds in zip(verdicts, kinds_per_problem)
    ]
    n, owner = (
        np.array([len(kinds) for kinds in kinds_per_problem]),
        np.repeat(range(len(sizes)), [*map(len, sizes)]),
    )
    m = np.fromiter(chain.from_iterable(sizes), int, len(owner))
    expected = coverage_per_problem(
        np.r_[n, n[owner]], np.r_[0 * n, m], k
    )  # every n once more, so that it is checked
    return np.bincount(owner, expected[len(n) :], len(n))


def text_key(text: str) -> str:
    """Uniqueness by exact text, less white space at its ends."""
    return text.strip()


def normalised_key(text: str) -> str:
    """Uniqueness by words, numbers and operators: case, spacing, other punctuation are dropped."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.casefold().translate(_SIGNS))
    return " ".join(re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+|[-+*/^=<>%]", text))


def equation_key(text: str) -> str:
    """Uniqueness by the sequence of equations, as RFT (2308.01825): its <<a+b=c>> marks, else arithmetic "a+b=c" in the
    text, less spaces. A text without equations has its normalised words for a key, so that not all such are alike."""
    plain = re.sub(r"\\(?:times|cdot)", "*", text).translate(_SIGNS)
    runs = re.findall(r"<<([^>]*)>>", plain) or re.findall(
        r"(?:[-+*/^()%\d= \t]|[.,](?=\d))+", plain
    )
    found = [run for run in runs if all(re.search(r"\d", side) for side in run.partition("=")[::2])]
    return re.sub(r"[\s,]", "", "|".join(found)) or normalised_key(text)


def ngram_clusters(texts, n: int = 3, threshold: float = 0.8) -> list[int]:
    """Cluster label of each of one problem's texts, as keys that forgive small rewordings: texts are linked when the
    Jaccard overlap of their sets of word n-grams is `threshold` or more, directly or through others."""
    words = (normalised_key(text).split() for text in texts)
    grams = [{tuple(w[i : i + n]) for i in range(max(1, len(w) - n + 1))} for w in words]
    labels = list(range(len(grams)))
    for i, j in combinations(labels, 2):
        if labels[i] != labels[j] and len(grams[i] & grams[j]) >= threshold * len(
            grams[i] | grams[j]
        ):
            labels = [labels[i] if label == labels[j] else label for label in labels]
    return labels


def length_profile(n_tokens, finish_reason, counts=None) -> dict[str, float]:
    """Over samples: n_samples, mean, median, p90, p99 and max of `n_tokens`, shares truncated ("length") and failed.
    With `counts` an entry stands for so many samples."""
    n, reason = _whole("n_tokens", n_tokens), np.asarray(finish_reason)
    if n.shape != reason.shape or n.min() < 0:
        raise ValueError(
            "length_profile needs a known n_tokens (>= 0) and a finish_reason for each sample"
        )
    below = np.cumsum(np.bincount(n, counts)).astype(
        np.int64
    )  # samples of at most 0, 1, 2 ... tokens
    places, total = np.array([0.5, 0.9, 0.99, 1]) * (below[-1] - 1), int(below[-1])
    ends = (np.searchsorted(below, [np.floor(place), np.ceil(place)], "right") for place in places)
    quantiles = [np.quantile(pair, place % 1) for pair, place in zip(ends, places)]
    rates = [np.average(reason == x, weights=counts) for x in ("length", "error")]
    names = [
        "mean_tokens",
        "median_tokens",
        "p90_tokens",
        "p99_tokens",
        "max_tokens",
        "truncated_rate",
        "error_rate",
    ]
    values = np.average(n, weights=counts), *quantiles, *rates
    return {"n_samples": total} | dict(zip(names, map(float, values)))


def _whole(name: str, values) -> np.ndarray:
    array = np.asarray(values)
    whole = array.dtype.kind in "biuf" and (np.isfinite(array) & (np.floor(array) == array)).all()
    if array.ndim != 1 or not array.size or not whole:
        raise ValueError(
            f"{name} must be a non-empty array of whole numbers, not {str(array)[:60]}"
        )
    return array.astype(np.int64)


def _pairs(n_samples, n_correct, ks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, c = _whole("n_samples", n_samples), _whole("n_correct", n_correct)
    if len(n) != len(c):
        raise ValueError(
            f"n_samples has {len(n)} problems but n_correct {len(c)}: join them by problem_id first"
        )
    if (bad := (c < 0) | (c > n)).any():
        raise ValueError(
            f"n_correct must lie in 0..n_samples: problem {bad.argmax()} has {c[bad][0]} of {n[bad][0]}"
        )
    if bad := [k for k in ks if not isinstance(k, int | np.integer) or not 1 <= k <= n.min()]:
        raise ValueError(
            f"k = {bad[0]} must be whole and in 1..n, but problem {n.argmin()} has n = {n.min()} samples"
        )
    distinct, place = np.unique(
        n * (n.max() + 1) + c, return_inverse=True
    )  # many problems share few (n, c)
    return *np.divmod(distinct, n.max() + 1), place


def _cover(n: np.ndarray, c: np.ndarray, k: int) -> Iterator[np.ndarray]:
    log_miss = np.zeros(len(n))  # as a log, so that coverage is exact near 0 as well as near 1
    with np.errstate(divide="ignore"):
        for i in range(k):
            log_miss = log_miss + np.log1p(-np.minimum(c / (n - i), 1.0))
            yield -np.expm1(log_miss)


def _forms(answers, canonical: Callable | None) -> Iterator[list]:
    canonical, memo, codes = canonical or canonical_answer, {None: None}, {None: None}
    for sample in answers:
        for answer in (
            set(sample) - memo.keys()
        ):  # a small number stands for the form: quick to count
            memo[answer] = (
                None if answer != answer else codes.setdefault(canonical(answer), len(codes))
            )
        yield [memo[answer] for answer in sample]


def _matched(samples, correct) -> Iterator:
    if len(samples) != len(correct) or not len(samples):
        raise ValueError(
            f"{len(samples)} problems with samples, {len(correct)} with verdicts: need as many, and some"
        )
    for i, (sample, verdicts) in enumerate(zip(samples, correct)):
        if len(sample) != len(verdicts) or not set(verdicts) <= {True, False}:
            raise ValueError(
                f"problem {i}: {len(sample)} samples need as many verdicts, each True or False"
            )
        yield verdicts


def _vote(profiles: list[tuple], k: int) -> np.ndarray:
    """[profiles, 3]: accuracy, tie and no-answer rate of profiles (n, blanks, correct votes, each other class's votes).

    A subset of k is n coins that fall with one probability, given that k fall, so classes multiply as polynomials with
    binomial weights. For each leading count t, `ways[:, r, s]` weighs the draws of s from the other classes in which r
    of them reach t and none exceeds it; a tie of r + 1 is worth 1/(r + 1). All terms are positive: no cancellation."""
    n, blank, right, *others = np.array(list(zip_longest(*profiles, fillvalue=0)))
    log_factorial, p, drawn = (
        gammaln(np.arange(n.max() + 1) + 1.0),
        k / (n + 1),
        np.arange(k + 1)[:, None],
    )

    def weigh(m) -> np.ndarray:  # [k + 1, profiles]: chance that s = 0 ... k of m fall
        rest = np.maximum(m - drawn, 0)
        logs = log_factorial[m] - log_factorial[drawn] - log_factorial[rest]
        return np.where(m >= drawn, np.exp(logs + drawn * np.log(p) + rest * np.log1p(-p)), 0.0)

    right_weights, accuracy, clear = weigh(right), np.zeros(len(n)), np.zeros(len(n))
    for t in range(1, min(k, max(map(np.max, [right, *others]))) + 1):
        large = [m for m in others if m.max() >= t]
        ways = np.zeros((min(max(len(large), 1), k // t) + 1, k + 1, len(n)))
        ways[0] = weigh(blank + sum(np.where(m < t, m, 0) for m in others))
        for m in large:
            weights = np.where(m >= t, weigh(m), drawn == 0)
            before, ways = ways, ways * weights[0]
            for s in range(1, t):
                ways[:, s:] += weights[s] * before[:, : k + 1 - s]
            ways[1:, t:] += weights[t] * before[:-1, : k + 1 - t]
        accuracy += right_weights[t] * sum(ways[r, k - t] / (r + 1) for r in range(len(ways)))
        clear += right_weights[t] * ways[0, k - t] + (
            right_weights[:t] * ways[1, k : k - t : -1]
        ).sum(0)
    silent, every = weigh(blank)[k] * np.exp((n - blank) * np.log1p(-p)), weigh(n)[k]
    return np.clip(
        np.round(np.column_stack([accuracy, every - clear - silent, silent]) / every[:, None], 13),
        0,
        1,
    )


# What counts as the same solution, name -> key of a text: the one table for curation, analysis and pilots.
SAMENESS = {"text": text_key, "normalised": normalised_key, "equations": equation_key}
UNIQUE = {"none": None} | SAMENESS
