"""Judgements: whether the reasoning of a correct sample is sound, by a named judge, and how often it is not.

Four judges, each named on its rows: `exact` (nano problems, certain), `arithmetic` (only wrong equations, so its rate
is a lower bound), `human` (see labelling.py), `model` (a rubric prompt, its error rates estimated and corrected for).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.nano.world import check
from wcse_lib.verdicts import decided

SAID = ["n", "n_false", "n_undecided", "caught", "flawed", "passed", "sound"]
COLUMNS = ["author", "judge", "n", "n_false", "value", "low", "high", "n_undecided", "reading"]
READINGS = {
    "exact": "certain",
    "arithmetic": "a lower bound: only wrong sums",
    "model": "uncorrected for its own errors",
}
MAX_CHARS, MAX_EQUATIONS, MAX_TOKENS, MAX_DIGITS, MAX_BITS = 100_000, 5_000, 120, 40, 1_000


def exact(question: str, text: str) -> tuple[bool | None, str]:
    """Judge a nano sample exactly: (sound, reason). Raises ValueError when `question` is no nano problem."""
    result = check(question, text)
    return result.sound, result.reason


_MARK = re.compile(r"<<([^<>\n]{0,400})>>")
_EQUALS = re.compile(r"(?<![<>!=:≠≈~])=+(?![<>≈~])")
_TOKEN = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|\*\*|[-+*/^()%]")
_CLAUSE = re.compile(
    r"(?:^|(?<=[\d)%]))(?:\.\s|,\s(?!\d{3}\b))"
)  # a clause ends within a run of numbers and signs
_CHARS = "0123456789.,+-*/^()% \t"
_SWAP = str.maketrans(
    dict.fromkeys("×✕∗·⋅", "*") | dict.fromkeys("÷∕⁄", "/") | dict.fromkeys("−–—‒", "-")
)
_REWRITE = [  # to plain signs; bullets, currency and equal units (`3 km + 4 km = 7 km`) go
    (re.compile(r"^\s*[-*+•]\s+"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-z])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"=\s{0,3}\\(?:boxed|fbox)\{([\d.,$%/ ]{1,40})\}"), r"= \1. "),
    (re.compile(r"(?<![\d)])(?<![\d)] )\*\*(?=[\d$(])|(?<=[\d%)])\*\*(?!\s?[\d($])"), ""),  # bold
    (re.compile(r"\\[dt]?frac\{(\d{1,20})\}\{(\d{1,20})\}"), r" (\1/\2)"),
    (re.compile(r"\\?[$£€]|\\(?=%)|\\[!()\[\]]|&(?= ?=)"), ""),
    (re.compile(r"(?<=[\d)%])\s{0,3}[xX]\s{0,3}(?=[\d(.])"), "*"),
    (
        re.compile(
            r"([\d.,]{1,20} ?\b([A-Za-z]{2,20})(?: ?[-+] ?[\d.,]{1,20} ?\2){1,20})(?= ?= ?[\d.,]{1,20} ?\2)"
        ),
        lambda m: m[1].replace(m[2], ""),
    ),
]
_ABOUT = re.compile(
    r"(?i)\b(?:round|approx|nearest|remain|(?:about|nearly|almost|around|whole|left ?over)\b)|[≈~]"
)
_CONVERT = {
    "cent|¢|%": 100,
    "hour|minute": 60,
    "day": 24,
    "week": 7,
    "year|foot|feet": 12,
    "kilo|milli|thousand": 1000,
}
_OPEN_LEFT = re.compile(  # words that draw the number after them into a larger expression, or make it a label
    r"(?i)\b(?:x|times|plus|minus|over|less|more|from|than|(?:divid|multipli)ed by|(?:day|week|month|year|round)s?)$"
    r"|\b(?:half|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?|percent) of$|[%\d]\s*(?:of|and)$"
    r"|\b(?:step|number)s?$|\\[a-z]+$|(?<!total )(?<!equal )(?<!equals )(?<!up )(?<!comes )\bto$"
)
_OPEN_RIGHT = re.compile(  # words and signs that make the number before them part of a larger one
    r"(?i)(?:dozen|hundred|thousand|[mbtr]+illion|half|halves|(?:\\text\{ ?)?r(?:\s?\d+|emainder)?|of|percent)\b"
    r"|[b-z]\b(?![&'’])|(?:hours?|minutes?|days?|weeks?|feet|foot|pounds?|dollars?),? (?:and )?\d"
    r"|and (?:an?|one|\d+)\b|\.?(?:[_:^{²³]|\\(?!quad|text|end)[a-z])"
)


def arithmetic(text: str) -> tuple[bool | None, str]:
    """Check every purely numeric equation of a text; a wrong one in a correct sample makes it a false positive.

    Returns (False, the first wrong step), (True, how many were right) or (None, "no equation to check"). It sees wrong
    sums, not wrong ideas, so its rate is a *lower bound* on the false-positive rate. Read: `a op b = c`, chains, GSM8K
    marks `<<…=…>>`, percents, currency, thousands commas, fractions, × ÷ x and LaTeX's signs, all exactly (Fraction);
    a side with words is not read. In doubt it passes: a result may be rounded or cut at its last decimal (10/3 = 3.33,
    which may go on as 10/3), and to an integer where the line says so or a quotient counts things (11/5 = 2 trays);
    units may change by their usual factor; 5*2 = 10+3 = 13 is fair. Time is linear in the first 100,000 characters.
    """
    n, rounded = 0, {}
    for line in text[:MAX_CHARS].translate(_SWAP).split("\n"):
        if "=" not in line:
            continue
        about, factors = (
            bool(_ABOUT.search(line)),
            [f for words, f in _CONVERT.items() if re.search(words, line)],
        )
        for pattern, new in _REWRITE:
            line = pattern.sub(new, line)
        for part in [*_MARK.findall(line), _MARK.sub("", line)]:
            for left, right, counts, runs in _equations(part):
                if n >= MAX_EQUATIONS:
                    return True, f"{n} equations right, the rest not read"
                holds = _holds(
                    left, right, rounded, about or (counts and "/" in left), runs, factors
                )
                n += holds is not None
                if holds is False:
                    step = f"{''.join(left)[:60]} = {''.join(right)[:60]}"
                    return False, f"wrong step: {step}, not {float(_value(left)):.9g}"
    return (True, f"{n} equations right") if n else (None, "no equation to check")


def _equations(part: str) -> Iterator[tuple[list[str], list[str], bool, bool]]:
    """Left and right tokens of each readable `=`, whether the right counts things, and whether the chain goes on."""
    sides, linked = _EQUALS.split(part), False
    for i, (before, after) in enumerate(zip(sides, sides[1:])):
        before, after = before[-400:], after[:400]
        start, end = len(before.rstrip(_CHARS)), len(after) - len(after.lstrip(_CHARS))
        run, words = before[start:], before[:start]
        for clause in list(_CLAUSE.finditer(run))[-1:]:
            run, words = run[clause.end() :], ""
        end = min([end, *(m.start() for m in re.finditer(r"[.,](?!\d)", after[:end]))])
        left, right, rest = _tokens(run), _tokens(after[:end]), after[end:]
        while left[:1] == ["("] and left.count("(") > left.count(")"):
            left = left[1:]
        while right[-1:] == ["("] or (right[-1:] == [")"] and right.count(")") > right.count("(")):
            right = right[:-1]
        right = (
            right[:-1] if right[-1:] == ["/"] and re.match(r"[A-Za-z]{2}", rest) else right
        )  # 10 / hour
        whole, linked = (
            linked and "".join(left + right).replace(",", "").isdigit(),
            False,
        )  # 20 = 21 in 5*4 = 20 = 21
        works = [any(t in "+-*/^**(" for t in side[1:]) for side in (left, right)]
        if (
            not left
            or not right
            or not (any(works) or whole)
            or (not works[0] and (words or "%" in right))
        ):
            continue
        glued = words and not run[:1].isspace() and re.search(r"[\w\\{}'\"^.!|]$|\d:$", words)
        if glued or _OPEN_LEFT.search(words) or left[0] in "+*/^**%)" or (left[0] == "-" and words):
            continue
        algebra = not after[end - 1].isspace() and re.match(
            r"[A-Za-z]" if works[1] else r"[A-Za-z]\b", rest
        )  # 15+2ab
        if not algebra and not _OPEN_RIGHT.match(rest):
            linked = True
            yield left, right, bool(re.match(r"[A-Za-z]{2}", rest)), i + 2 < len(sides)


def _tokens(run: str) -> list[str]:
    """The run's tokens; [] when something is left over, numbers follow each other (3 1/2) or start with 0 (0930)."""
    tokens = _TOKEN.findall(run)
    odd = len("".join(tokens)) != len("".join(run.split())) or re.search(
        r"[\d%]\s+[.(]?\d|(?<![\d.,])0\d", run
    )
    return [] if odd else tokens


def _holds(left, right, rounded: dict, about: bool, runs: bool, factors: list[int]) -> bool | None:
    """Whether an equation holds in one of its fair readings; `None` when it cannot be evaluated."""
    if None in (pair := (_value(left), _value(right))) or pair[0] == pair[1]:
        return None if None in pair else True
    grouped = re.sub(
        r"/ ([\d.,]+) / ([\d.,]+)", r"/ ( \1 / \2 )", " ".join(left)
    ).split()  # 25 / 1/3 as 25 / (1/3)
    values = {
        _value(left),
        _value(left, rounded),
        _value(left, percent=1),
        _value(left, relative=True),
    }
    values = (values | {_value(grouped)}) - {None}
    for side in (
        [right, right[:1]] if runs and len(right) > 1 and right[0][-1].isdigit() else [right]
    ):
        targets = {_value(side), _value(side, rounded), _value(side, percent=1)} - {None}
        for value in values:
            for target in targets:
                if _close(value, target, side, about):
                    if value != target and len(side) == 1:
                        rounded[side[0]] = value
                    return True
                if target and value and any(value / target in (f, Fraction(1, f)) for f in factors):
                    return True
    return False


def _close(value: Fraction, target: Fraction, side: list[str], about: bool) -> bool:
    """Equal, up to floating-point dust or, for one number alone, up to its last decimal (rounded or cut)."""
    decimals = (
        len(side[0].partition(".")[2]) if len(side) <= 2 and side[-1] in (side[0], "%") else 0
    )
    shown = abs(_value(side[:1]) or 0) if side[-1] == "%" else 0
    unit = Fraction(1, 10**decimals * (100 if abs(target) < shown else 1))
    gap, cut = abs(value - target), about or (decimals > 0 and abs(target) < abs(value))
    return gap <= abs(value) / 10**9 or (gap < unit if cut else decimals > 0 and gap <= unit / 2)


_APPLY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(
    tokens: list[str], rounded: dict | None = None, percent=100, relative=False
) -> Fraction | None:
    """Value of an expression, `None` when malformed or too large; `rounded` maps literals to what they stand for."""
    if len(tokens) > MAX_TOKENS or any(len(t) > MAX_DIGITS for t in tokens):
        return None
    code = "".join(
        {"^": "**", "%": "/P"}.get(t, t) if t in "**-+/^()%" else f"'{t}'" for t in tokens
    )
    code = re.sub(r"(?<=[')P])\(|(?<=[)P])(?=')", lambda m: "*" + m[0], code)  # 2(3+4)

    def walk(node) -> Fraction:
        if isinstance(node, ast.Constant):
            third = rounded is not None and re.search(
                r"\.(?:3{2,}|6+[67])$", node.value
            )  # 66.67 as 200/3
            value = (rounded or {}).get(node.value) or Fraction(node.value.replace(",", ""))
            return value.limit_denominator(3) if third else value
        if isinstance(node, ast.Name):
            return Fraction(percent)
        if isinstance(node, ast.UnaryOp):
            return walk(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        a, b = walk(node.left), walk(node.right)
        if isinstance(node.op, ast.Pow):
            if (
                b.denominator != 1
                or max(a.numerator.bit_length(), a.denominator.bit_length()) * abs(b) > MAX_BITS
            ):
                raise ValueError("a power that is too large or not whole")
            return a ** int(b)
        if (
            relative
            and isinstance(node.op, ast.Add | ast.Sub)
            and type(getattr(node.right, "right", 0)) is ast.Name
        ):
            b *= a  # 100 - 20% as 100 less a fifth of it
        return _APPLY[type(node.op)](a, b)

    try:
        value = walk(ast.parse(code, mode="eval").body)
        return value if abs(value) < 10**300 else None
    except (
        SyntaxError,
        ValueError,
        KeyError,
        AttributeError,
        ZeroDivisionError,
        RecursionError,
        MemoryError,
    ):
        return None


RUBRIC = """Check {task}

Rubric. A solution is FLAWED when at least one of these holds, and otherwise SOUND:
1. a calculation is wrong (a fair rounding is not);
2. a step does not follow from the problem or from earlier steps, or it uses a number that is not there;
3. a quantity is misread (units, rates, per cents, who or what is counted), even if luck puts it right later;
4. two mistakes cancel, or the answer is guessed or appears without being derived{last}.
Clumsy wording, skipped trivial steps and superfluous but true statements are no flaws.

{question}

Go through the solution step by step and say of each step whether it follows. Then end with one line that says
either "Judgement: SOUND" or "Judgement: FLAWED", without the quotes."""


def rubric(gold_known: bool = True) -> str:
    """The template that asks a model for its judgement of a `case` (its {question}) of a correct solution, or, when no
    gold answer is to be used, of any solution."""
    task = "the reasoning of a solution, not its final answer, which is right: does it really get there?"
    task = (
        task
        if gold_known
        else "a solution, which may be right or wrong, in its reasoning and in its final answer."
    )
    last = (
        ""
        if gold_known
        else ";\n5. its final answer is wrong, missing, or not what the problem asks for"
    )
    return RUBRIC.replace("{task}", task).replace("{last}", last)


def case(question: str, solution: str) -> str:
    """What a model is shown with the rubric."""
    return f"Problem:\n{question.strip()}\n\nSolution:\n{solution.strip()}"


def read_judgement(text: str, finish_reason: str, error: str = "") -> tuple[bool | None, str]:
    """(sound, reason) of a judge's output; `None` when it failed, was cut off or says neither."""
    if finish_reason != "stop":
        return (
            None,
            "the judge was cut off at max_tokens"
            if finish_reason == "length"
            else f"the judge failed: {error}",
        )
    sound = parse_judgement(text)
    if sound is None:
        return (
            None,
            f"the judge said neither SOUND nor FLAWED, but ends: {' '.join(text.split())[-60:]}",
        )
    return sound, f"the judge said {'SOUND' if sound else 'FLAWED'}"


def parse_judgement(text: str) -> bool | None:
    """Read a judge's output: True for sound, False for flawed, `None` when its last `Judgement:` line says neither."""
    marks = re.findall(
        r"(?im)^[^\w\n]{0,9}judge?ment[^\w\n]{1,9}(sound|flawed)\b(?![^\w\n]{0,5}(?:or\b|/|\|))",
        text,
    )
    return marks[-1].lower() == "sound" if marks else None


def corrected_rate(flagged, sensitivity, specificity, seed=0) -> intervals.Estimate:
    """False-positive rate behind an imperfect judge with its 95 % interval, Rogan & Gladen 1978.

    Args: pairs of counts [problems], all of the same problems: `flagged` = (judged flawed, all samples), `sensitivity`
    = (flagged, all) of truly flawed calibration samples, `specificity` = (passed, all) of truly sound ones. value =
    (flagged rate + specificity - 1) / (sensitivity + specificity - 1), kept in [0, 1], NaN when the judge is no better
    than chance on the calibration sample. The interval holds percentiles of draws of all three rates over problems, so
    it carries the calibration sample's uncertainty; a draw without information is uniform. Raises ValueError on
    impossible counts.
    """
    counts = {"flagged": flagged, "sensitivity": sensitivity, "specificity": specificity}
    for name, (k, m) in counts.items():
        if not (np.sum(m) > 0 and (np.less_equal(0, k) & np.less_equal(k, m)).all()):
            raise ValueError(
                f"{name} must be counts with 0 <= k <= m and some m > 0, got {np.sum(k)} of {np.sum(m)}"
            )
    q, se, sp = (np.sum(k) / np.sum(m) for k, m in counts.values())
    value = min(max((q + sp - 1) / (se + sp - 1), 0.0), 1.0) if se + sp > 1 else float("nan")
    q, se, sp = intervals.rate_draws(counts.values(), seed=seed).T
    informed = se + sp - 1 > 0
    draws = np.where(
        informed,
        (q + sp - 1) / np.where(informed, se + sp - 1, 1),
        np.random.default_rng([seed, 1]).random(len(q)),
    )
    low, high = np.quantile(np.clip(draws, 0, 1), [0.025, 0.975])
    return intervals.Estimate(
        value, float(np.fmin(low, value)), float(np.fmax(high, value))
    )  # a cut value may lie at the end


def by_problem(judgements: pd.DataFrame) -> pd.DataFrame:
    """Judgements added up by author, judge and problem: `n` decided, `n_false`, `n_undecided`, a `reason` of one of these.

    Args: rows of author, problem_id, sample_index, sound (bool or None), judge, reason. Raises ValueError on a repeated
    judgement.
    """
    keys, undecided = ["author", "problem_id", "sample_index", "judge"], judgements["sound"].isna()
    if judgements.duplicated(keys).any():
        raise ValueError(
            f"repeated judgement {judgements.loc[judgements.duplicated(keys), keys].values[0].tolist()}"
        )
    flags = {
        "n": decided(judgements),
        "n_false": judgements["sound"].isin([False]),
        "n_undecided": undecided,
    }
    groups = judgements.assign(**flags, reason=judgements["reason"].where(undecided)).groupby(
        ["author", "judge", "problem_id"], sort=False
    )
    return groups[[*flags]].sum().astype(int).assign(reason=groups["reason"].first()).reset_index()


def false_positive_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """False-positive rate by author and judge from rows of `by_problem`, with intervals over problems, as samples of one
    problem share their faults. Returns COLUMNS, where `reading` says how to take the rate."""
    rows = []
    for (author, judge), part in sums.groupby(["author", "judge"], sort=True):
        n, n_false, n_undecided = map(int, part[["n", "n_false", "n_undecided"]].sum())
        reading = (
            READINGS.get(judge, "as this judge says")
            if n
            else f"nothing decided; {part['reason'].dropna().iloc[0]}"
        )
        rate = intervals.ratio(part["n_false"], part["n"], seed=seed, clusters=part["problem_id"])
        rows.append((author, judge, n, n_false, *rate, n_undecided, reading))
    return pd.DataFrame(rows, columns=COLUMNS)


def calibration(judgements: pd.DataFrame) -> pd.DataFrame:
    """What the model said, as `by_problem`, once beside the exact judge and once beside people: of the samples that both
    decided, those that truly are `flawed` and `caught` by the model, `sound` and `passed`."""
    key, out = ["author", "problem_id", "sample_index"], []
    for judge in ("exact", "human"):
        truth = judgements.loc[judgements["judge"] == judge, [*key, "sound"]]
        both = judgements[judgements["judge"] == "model"].merge(
            truth, on=key, how="left", suffixes=("", "_truly")
        )
        (passed, flagged), (sound, flawed) = (
            [both[c].isin([x]) for x in (True, False)] for c in ("sound", "sound_truly")
        )
        known = passed | flagged
        said = dict(
            zip(
                SAID,
                (
                    known,
                    flagged,
                    ~known,
                    flawed & flagged,
                    flawed & known,
                    sound & passed,
                    sound & known,
                ),
            )
        )
        sums = both[key[:2]].assign(**said).groupby(key[:2])[SAID].sum().astype(int)
        out.append(sums.reset_index().assign(judge=f"model, corrected by {judge}"))
    return pd.concat(out, ignore_index=True)


def corrected_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """The model judge's rate corrected for its errors on those samples that people, or the exact judge, decided too.

    Args: rows of `calibration`. Columns: as of `false_positive_table`, the judge being "model, corrected by
    human". The interval carries both errors; the rate is NaN where no sample shows how often the model misses a flaw,
    or how often it finds a false one, and there is none where nobody else decided any of the model's samples.
    """
    rows = []
    for (author, judge), part in sums.groupby(["author", "judge"], sort=True):
        part = part.groupby("problem_id")[SAID].sum()
        n, n_false, n_undecided, caught, flawed, passed, sound = map(int, part.sum())
        if flawed + sound:
            pairs = [
                (part[k], part[m])
                for k, m in (("n_false", "n"), ("caught", "flawed"), ("passed", "sound"))
            ]
            rate = corrected_rate(*pairs, seed) if flawed and sound else (float("nan"),) * 3
            reading = f"the model flags {caught} of {flawed} flawed ones, passes {passed} of {sound} sound ones"
            rows.append((author, judge, n, n_false, *rate, n_undecided, reading))
    return pd.DataFrame(rows, columns=COLUMNS)
