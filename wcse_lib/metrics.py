"""What a set of samples is worth: coverage, majority votes, diversity, lengths; exact over all subsets of k samples.

Sequences run over problems unless said otherwise. Every number "at k" is the mean over all subsets of k of a problem's
n samples, so the order of samples cannot matter; n may differ between problems; k > n raises, never guesses.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import combinations, compress, zip_longest
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaln

NUMBER = re.compile(
    r"([+-]?)((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:/([0-9]+))?"
)
# A letter alone is elsewhere a variable.
QUANTITY = re.compile(
    rf"(?P<number>{NUMBER.pattern})\s+(?P<unit>(?:[A-Za-z]{{2}}|[mghslLNJWVACKT](?![A-Za-z]))[A-Za-z0-9 /*.^{{}}-]*)"
)
NO_UNIT = re.compile(
    r"\b(?:or|and|to|mod|base|pi|sqrt|times|[a-z]+illion|hundred|thousand|dozen)\b"
)
LONGEST = 200  # characters of a number; longer ones cost time and are no one's answer
QUANTILES = {"median_tokens": 0.5, "p90_tokens": 0.9, "p99_tokens": 0.99, "max_tokens": 1}
LOST = {"truncated_rate": "length", "error_rate": "error"}  # rate: finish_reason
SIGNS = str.maketrans({"×": "*", "⋅": "*", "·": "*", "÷": "/", "−": "-", "$": None})


def counts(verdicts: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(n_samples, n_correct), int64 series indexed by sorted problem_id, from one row per sample.

    Args: verdicts: columns problem_id, verdict (words, or flags that are True where it is correct). Unverifiable is not
    correct: drop such rows first to leave them out. Raises ValueError on missing entries.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    problems, values = verdicts["problem_id"], verdicts["verdict"]
    if verdicts.empty or problems.isna().any() or values.isna().any():
        raise ValueError(
            f"counts needs rows that all have problem_id and a verdict; {len(verdicts)} rows given"
        )
    is_correct = values if values.dtype == bool else values == "correct"
    # a problem's rows mostly stand together: adding up such runs first saves the hashing of every row
    is_categorical = isinstance(problems.dtype, pd.CategoricalDtype)
    ids = pa.array(problems.cat.codes if is_categorical else problems)
    is_new = pc.not_equal(ids[1:], ids[:-1])
    starts = np.append(0, pc.indices_nonzero(is_new).to_numpy() + np.uint64(1)).astype(np.int64)
    n = np.diff(starts, append=len(verdicts))
    # half as wide a sum takes half the time
    c = np.add.reduceat(is_correct.to_numpy(bool), starts, dtype=np.int32).astype(np.int64)
    first = problems.iloc[starts].reset_index(drop=True)
    first_ids = pa.array(first.cat.codes if is_categorical else first)
    runs = pd.DataFrame({"n": n, "c": c})
    # in order each problem is one run (None: there is only one)
    if pc.all(pc.greater(first_ids[1:], first_ids[:-1])).as_py() in (True, None):
        sums = runs.set_index(pd.Index(first))
    else:
        sums = runs.groupby(first, observed=True).sum()
    return sums["n"], sums["c"]


# ------------------------------------------------------------------------------------------------ coverage, diversity


def coverage_at_k(n_samples, n_correct, k: int) -> float:
    """Chance that k of a problem's samples hold a correct one, mean over problems: 1 - C(n-c, k)/C(n, k).

    `n_samples`, `n_correct` [problems] whole numbers. k = 1 is pass@1; of a student's samples it is pass@k. Raises
    ValueError when k > any n, k < 1, c not in 0..n, no problems, unequal lengths, not whole. Chen et al. (2021).

    >>> coverage_at_k([4, 4], [4, 0], k=2)
    0.5
    """
    return float(coverage_per_problem(n_samples, n_correct, k).mean())


def coverage_per_problem(n_samples, n_correct, k: int) -> np.ndarray:
    """coverage@k of each problem [problems]; see `coverage_at_k`."""
    n, c = _whole("n_samples", n_samples), _whole("n_correct", n_correct)
    if len(n) != len(c):
        raise ValueError(
            f"n_samples has {len(n)} problems but n_correct {len(c)}: join them by problem_id first"
        )
    is_wrong = (c < 0) | (c > n)
    if is_wrong.any():
        first = is_wrong.argmax()
        raise ValueError(
            f"n_correct must lie in 0..n_samples: problem {first} has {c[first]} of {n[first]}"
        )
    _check_k(k, n)
    # many problems share few (n, c)
    distinct, place = _distinct(n, c)
    n, c = distinct
    # as a sum of logs, so that coverage is exact near 0 as well as near 1
    log_miss = np.zeros(len(n))
    with np.errstate(divide="ignore"):
        for i in range(k):
            log_miss += np.log1p(-np.minimum(c / (n - i), 1.0))
    return -np.expm1(log_miss)[place]


def diversity_per_problem(n_samples, place, sizes, k: int, n_alike=1) -> np.ndarray:
    """Expected number of different correct solutions among k of each problem's samples [problems] (diversity@k).

    `n_samples` [problems]; for every kind of correct solution the `place` [kinds] of its problem and how many samples
    are of it, `sizes` [kinds]: the sum over a problem's kinds of 1 - C(n-m, k)/C(n, k). An entry may stand for
    `n_alike` [kinds] kinds of one size. Raises as `coverage_at_k`.
    """
    n = _whole("n_samples", n_samples)
    _check_k(k, n)
    if not len(sizes):
        return np.zeros(len(n))
    is_drawn = coverage_per_problem(n[place], sizes, k)
    return np.bincount(place, is_drawn * n_alike, len(n))


# ------------------------------------------------------------------------------------------------ votes


def majority_at_k(answers, correct, k: int) -> float:
    """maj@k: chance that the most frequent answer among k of a problem's samples is correct, mean over problems.

    `answers`: per problem its samples' answers (None: no answer, no vote); `correct`: their verdicts. Votes go to
    classes: answers of equal `canonical_answer`, a number without its unit with the one that has it, and all that are
    judged correct; for other spellings give `answers.class_name` of each. Ties are broken uniformly, in expectation; no
    votes count 0. Raises ValueError when k > n, k < 1, or lists do not match.

    >>> majority_at_k([["1/2", "0.5", "3"]], [[True, True, False]], k=3)
    1.0
    """
    return float(majority_details(answers, correct, k)["accuracy"].mean())


def majority_details(answers, correct, k: int) -> pd.DataFrame:
    """Row per problem: `accuracy` of the vote, `tie_rate` (classes tie for the lead), `no_answer_rate` (no votes)."""
    return count_votes(answers, correct).majority(k)


class Votes(NamedTuple):
    """The votes of each problem's samples, from `count_votes`."""

    # the different ones: samples, those without an answer, votes for what is correct, and for each other class
    profiles: list[tuple[int, ...]]
    places: np.ndarray  # of each problem its profile's place among them
    agreement: np.ndarray  # of each problem its `self_agreement`

    def majority(self, k: int) -> pd.DataFrame:
        """The `majority_details` of the vote among k samples. Raises as `majority_at_k`."""
        _check_k(k, np.array([self.profiles[place][0] for place in self.places]))
        # in blocks that keep memory small
        size = max(1, 400_000 // (k + 1) ** 2)
        blocks = []
        for start in range(0, len(self.profiles), size):
            blocks.append(_vote(self.profiles[start : start + size], k))
        rates = np.vstack(blocks)[self.places]
        return pd.DataFrame(rates, columns=["accuracy", "tie_rate", "no_answer_rate"])


def count_votes(answers, correct) -> Votes:
    """Count votes once, for every k and for the agreement. Args and classes are those of `majority_at_k`."""
    profiles, agreement = [], []
    _check_matched(answers, correct)
    for i, (votes, class_of) in enumerate(_counted(answers)):
        agreement.append(_agreement(votes, len(answers[i])))
        n_blank = votes.pop(None, 0)
        right = {class_of[answer] for answer in set(compress(answers[i], correct[i]))}
        n_right = sum(votes.pop(name, 0) for name in right)
        others = sorted(votes.values(), reverse=True)
        profiles.append((len(answers[i]), n_blank, n_right, *others))
    return _votes(profiles, agreement)


def joined_votes(parts: Iterable[Votes]) -> Votes:
    """The votes of the problems of several parts, one after the other."""
    profiles: list[tuple[int, ...]] = []
    agreement: list[float] = []
    for part in parts:
        profiles += [part.profiles[place] for place in part.places]
        agreement += part.agreement.tolist()
    return _votes(profiles, agreement)


def _votes(profiles: list[tuple[int, ...]], agreement: list[float]) -> Votes:
    """Problems' profiles, of which those that are alike are worked out only once."""
    distinct = sorted(set(profiles), key=lambda profile: (len(profile), profile))
    place_of = {profile: place for place, profile in enumerate(distinct)}
    places = np.array([place_of[profile] for profile in profiles], np.int64)
    return Votes(distinct, places, np.array(agreement))


def self_agreement(answers) -> np.ndarray:
    """Chance that two of a problem's samples give the same answer [problems]; None agrees with none; NaN if n < 2."""
    counted = zip(_counted(answers), answers)
    return np.array([_agreement(votes, len(sample)) for (votes, _), sample in counted])


def _agreement(votes: Mapping[int | None, int], n: int) -> float:
    """Chance that two of n samples give the same answer, of whose classes these are the votes."""
    n_pairs = n * (n - 1)
    n_alike = sum(m * (m - 1) for name, m in votes.items() if name is not None)
    return n_alike / n_pairs if n_pairs else np.nan


class Quantity(NamedTuple):
    """A number with its unit, as an answer."""

    value: Fraction
    unit: str


def canonical_answer(answer: str) -> Fraction | Quantity | str | None:
    r"""The class an answer votes for: an exact rational or a quantity where it is one, else its text; None for none.

    Nothing is rounded or evaluated: "50%" and "0.5" stay apart.

    >>> canonical_answer("0.50") == canonical_answer("1/2"), canonical_answer(r"5\text{ cm}")
    (True, Quantity(value=Fraction(5, 1), unit='cm'))
    """
    plain = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\[,;: ]|~", r" \1", str(answer))
    quantity = QUANTITY.fullmatch(plain.strip(" .$"))
    if quantity and not NO_UNIT.search(quantity.group("unit")):
        value = _number(quantity.group("number"))
        if value is not None:
            return Quantity(value, quantity.group("unit").casefold().replace(" ", "").rstrip("s."))
    text = re.sub(r"\\left|\\right|\\[,;!:$]|\s", "", str(answer)).translate(SIGNS)
    text = re.sub(r"\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2", text.rstrip(".")).casefold()
    value = _number(text)
    if value is not None:
        return value
    return None if text in ("", "[invalid]") else text


def _number(text: str) -> Fraction | None:
    number = NUMBER.fullmatch(text) if len(text) <= LONGEST else None
    if not number:
        return None
    sign, digits, denominator = number.groups()
    if denominator is not None and int(denominator) == 0:
        return None
    return Fraction(sign + digits.replace(",", "")) / int(denominator or 1)


def _counted(answers) -> Iterator[tuple[dict[int | None, int], dict]]:
    """Per problem the votes of its samples' classes, which are small numbers (None: no answer), and each answer's."""
    form_of = {None: None}
    for sample in answers:
        different = Counter(sample)
        for answer in different.keys() - form_of.keys():
            is_missing = answer != answer  # NaN
            form_of[answer] = None if is_missing else canonical_answer(answer)
        forms = {answer: form_of[answer] for answer in different}
        units = defaultdict(set)
        for form in forms.values():
            if isinstance(form, Quantity):
                units[form.value].add(form.unit)
        number_of = {None: None}
        class_of = {}
        votes: dict[int | None, int] = {}
        for answer, form in forms.items():
            # a number without its unit is the only quantity that it can be
            if isinstance(form, Quantity) and len(units[form.value]) == 1:
                form = form.value
            name = number_of.setdefault(form, len(number_of))
            class_of[answer] = name
            votes[name] = votes.get(name, 0) + different[answer]
        yield votes, class_of


def _check_matched(samples, correct) -> None:
    """Raise ValueError where samples lack verdicts."""
    if len(samples) != len(correct) or not len(samples):
        raise ValueError(
            f"{len(samples)} problems with samples, {len(correct)} with verdicts: need as many, and some"
        )
    for i, (sample, verdicts) in enumerate(zip(samples, correct)):
        if len(sample) != len(verdicts) or not set(verdicts) <= {True, False}:
            raise ValueError(
                f"problem {i}: {len(sample)} samples need as many verdicts, each True or False"
            )


def _vote(profiles: list[tuple], k: int) -> np.ndarray:
    """[profiles, 3]: accuracy, tie and no-answer rate of profiles (n, blanks, correct votes, each other class's votes).

    A subset of k is n coins that fall with one probability, given that k fall, so classes multiply as polynomials with
    binomial weights. All terms are positive: no cancellation.
    """
    n, blank, right, *others = np.array(list(zip_longest(*profiles, fillvalue=0)))
    weigh = _weigher(n, k)
    right_weights, other_weights = weigh(right), [weigh(votes) for votes in others]
    accuracy, clear = np.zeros((2, len(n)))
    most = max(votes.max() for votes in (right, *others))
    for t in range(1, min(k, most) + 1):
        # classes stand by size, so that with these profiles in front every class is large in the first ones only
        n_large = sum((votes >= t).astype(np.int64) for votes in others) + np.zeros_like(n)
        order = np.argsort(-n_large, kind="stable")
        # classes below t can never reach it, so that they count together
        small = sum(np.where(votes < t, votes, 0) for votes in others)
        ways = _ways(weigh(blank + small)[:, order], other_weights, order, n_large[order], t)
        own = right_weights[: t + 1, order]
        # the correct class leads with t votes; a tie of r + 1 is worth 1/(r + 1)
        shares = 0
        for r, drawn in enumerate(ways):
            shares = shares + drawn[k - t] / (r + 1)
        accuracy[order] += own[t] * shares
        # one class leads alone: the correct one, or another one with the correct one below
        of_others = ways[1, k : k - t : -1]
        alone = own[t] * ways[0, k - t]
        clear[order] += alone + (own[:t] * of_others).sum(0)
    no_vote_falls = (n - blank) * np.log1p(-k / (n + 1))
    silent = weigh(blank)[k] * np.exp(no_vote_falls)
    every = weigh(n)[k]
    chances = np.column_stack([accuracy, every - clear - silent, silent])
    return np.clip(np.round(chances / every[:, None], 13), 0, 1)


def _weigher(n: np.ndarray, k: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of class sizes m [profiles]: the chances [k + 1, profiles] that 0 ... k of m coins fall."""
    log_factorial = gammaln(np.arange(n.max() + 1) + 1.0)
    p = k / (n + 1)
    log_p, log_not_p = np.log(p), np.log1p(-p)
    fallen = np.arange(k + 1)[:, None]

    def weigh(m) -> np.ndarray:
        rest = np.maximum(m - fallen, 0)
        log_choices = log_factorial[m] - log_factorial[fallen] - log_factorial[rest]
        log_chances = log_choices + fallen * log_p + rest * log_not_p
        return np.where(m >= fallen, np.exp(log_chances), 0.0)

    return weigh


def _ways(
    rest: np.ndarray, others: list[np.ndarray], order: np.ndarray, n_large: np.ndarray, t: int
) -> np.ndarray:
    """`ways[:, r, s]` with the profiles last: the weight of the draws of s from blanks and other classes in which r
    classes reach t votes and none exceeds it.

    Args: rest: weights [k + 1, profiles] of all that cannot reach t; others: those of each other class, whose profiles
    `order` sorts by how many of their first classes can, `n_large`.
    """
    k = len(rest) - 1
    # beside the correct class with t votes, or in place of it
    n_ties = min(max(n_large[0], 1), max(k // t - 1, 1))
    ways = np.zeros((n_ties + 1, *rest.shape))
    ways[0] = rest
    for place in range(n_large[0]):
        here = order[: np.searchsorted(-n_large, -place)]
        weights = others[place][: t + 1, here]
        of_these = ways[..., : len(here)]
        before = of_these.copy()
        of_these *= weights[0]
        for s in range(1, t):
            of_these[0, s:] += weights[s] * before[0, : k + 1 - s]
            # a class with t votes takes t draws
            of_these[1:, t + s :] += weights[s] * before[1:, t : k + 1 - s]
        of_these[1:, t:] += weights[t] * before[:-1, : k + 1 - t]
    return ways


# ------------------------------------------------------------------------------------------------ same solutions


def text_key(text: str) -> str:
    """Sameness by exact text, less white space at its ends."""
    return text.strip()


def normalised_key(text: str) -> str:
    """Sameness by words, numbers and operators: case, spacing, other punctuation are dropped."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.casefold().translate(SIGNS))
    return " ".join(re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+|[-+*/^=<>%]", text))


def equation_key(text: str) -> str:
    """Sameness by the sequence of equations, as RFT (2308.01825): its <<a+b=c>> marks, else arithmetic "a+b=c" in the
    text, less spaces. A text without equations has its normalised words for a key, so that not all such are alike."""
    plain = re.sub(r"\\(?:times|cdot)", "*", text).translate(SIGNS)
    marked = re.findall(r"<<([^>]*)>>", plain)
    runs = marked or re.findall(r"(?:[-+*/^()%\d= \t]|[.,](?=\d))+", plain)
    equations = []
    for run in runs:
        left, _, right = run.partition("=")
        if re.search(r"\d", left) and re.search(r"\d", right):
            equations.append(run)
    return re.sub(r"[\s,]", "", "|".join(equations)) or normalised_key(text)


# What counts as the same solution, name -> key of a text: the one table for curation, analysis and pilots.
SAMENESS = {"text": text_key, "normalised": normalised_key, "equations": equation_key}


def ngram_clusters(texts, n: int = 3, threshold: float = 0.8) -> list[int]:
    """Cluster label of each of one problem's texts, as keys that forgive small rewordings: texts are linked when the
    Jaccard overlap of their sets of word n-grams is `threshold` or more, directly or through others."""
    grams = []
    for text in texts:
        words = normalised_key(text).split()
        n_grams = max(1, len(words) - n + 1)
        grams.append({tuple(words[i : i + n]) for i in range(n_grams)})
    labels = list(range(len(grams)))
    for i, j in combinations(labels, 2):
        shared, either = grams[i] & grams[j], grams[i] | grams[j]
        if len(shared) >= threshold * len(either):
            joined, kept = labels[j], labels[i]
            labels = [kept if label == joined else label for label in labels]
    return labels


# ------------------------------------------------------------------------------------------------ lengths


def length_profile(n_tokens, finish_reason, counts=None) -> dict[str, float]:
    """Over samples: n_samples, mean, median, p90, p99 and max of `n_tokens`, shares truncated ("length") and failed.
    With `counts` an entry stands for so many samples."""
    n, reason = _whole("n_tokens", n_tokens), np.asarray(finish_reason)
    if n.shape != reason.shape or n.min() < 0:
        raise ValueError(
            "length_profile needs a known n_tokens (>= 0) and a finish_reason for each sample"
        )
    # how many samples have at most 0, 1, 2 ... tokens
    n_below = np.cumsum(np.bincount(n, counts)).astype(np.int64)
    profile = {"n_samples": int(n_below[-1])}
    profile["mean_tokens"] = float(np.average(n, weights=counts))
    for name, share in QUANTILES.items():
        profile[name] = _quantile(n_below, share)
    for name, why in LOST.items():
        profile[name] = float(np.average(reason == why, weights=counts))
    return profile


def _quantile(n_below: np.ndarray, share: float) -> float:
    """Quantile of whole numbers, of which `n_below[x]` are at most x, as numpy's of the numbers one by one."""
    place = share * (n_below[-1] - 1)
    ends = [np.floor(place), np.ceil(place)]
    neighbours = np.searchsorted(n_below, ends, "right")
    return float(np.quantile(neighbours, place % 1))


# ------------------------------------------------------------------------------------------------ checks


def _whole(name: str, values) -> np.ndarray:
    # NumPy would ask a series for attributes, for which pandas hashes its whole index
    array = values.to_numpy() if isinstance(values, pd.Series) else np.asarray(values)
    is_row = array.ndim == 1 and array.size and array.dtype.kind in "biuf"
    if not is_row or not np.isfinite(array).all() or (np.floor(array) != array).any():
        raise ValueError(
            f"{name} must be a non-empty array of whole numbers, not {str(array)[:60]}"
        )
    return array.astype(np.int64)


def _distinct(n: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different pairs of whole numbers from 0 on, [2, pairs], and the place of each pair among them."""
    base = c.max() + 1
    codes = n * base + c
    if codes.max() < 10 * len(codes):  # then counting is faster than sorting
        found = np.flatnonzero(np.bincount(codes))
        place_of = np.zeros(found[-1] + 1, np.int64)
        place_of[found] = np.arange(len(found))
        place = place_of[codes]
    else:
        found, place = np.unique(codes, return_inverse=True)
    return np.stack(np.divmod(found, base)), place


def _check_k(k: int, n: np.ndarray) -> None:
    if not isinstance(k, int | np.integer) or not 1 <= k <= n.min():
        raise ValueError(
            f"k = {k} must be whole and in 1..n, but problem {n.argmin()} has n = {n.min()} samples"
        )
