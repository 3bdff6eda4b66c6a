"""Decides, exactly where possible and always in bounded time, whether an extracted answer equals gold.

Guards, in order; the first that can decide does, and says so: identity after normalisation; exact integers and
rationals (never floats); structured types (lists, tuples, sets, intervals, matrices, bases, times, ratios, units);
values to 240 digits, at several points when there are variables; for the rest (sums, integrals, ...) math-verify, in a
process that can be killed, whose "equal" counts only if sympy confirms it. `POLICY_TABLE` states all choices on which
reasonable people differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from pathlib import Path

from wcse_lib.answers.expressions import (
    Unread,
    degrees,
    equal,
    points,
    proportional,
    real,
    restart,
    symbols,
)
from wcse_lib.answers.extraction import MAX_ANSWER, STYLES, extract
from wcse_lib.answers.notation import Answer, as_interval, key, normalise, read

VERIFIER = (
    "wcse-answers/3"  # stands on every verdict row; raise the number whenever a verdict can change
)

POLICY_TABLE = r"""
| where people differ | default | `Policy` field |
| --- | --- | --- |
| a unit or noun on one side only (`5 cm`, `5`) | dropped; two different ones never equal | `units="drop"`, `"strict"` |
| `10%` | equals `0.1` and `10` (the latter as gold must be > 1) | `percent="either"`, `"value"`, `"sign"` |
| `1,5` and `1.5` | equal if the other side is one decimal; `1,234` is 1234 | `decimal_comma=True` |
| order of a bare list (`1, 2`) | any; `(1,2)` is ordered, `\{1,2\}` a set | `lists="unordered"`, `"ordered"` |
| rounded decimals (`0.333`, `1/3`) | never equal, however many digits | `rounded_digits=None`, or from how many on |
| `k=1` and `1`; `p=7, q=2`, `(p,q)=(7,2)`, `(7,2)` | equal; an equation such as `2x=6` equals only equations | - |
| `-2 <= x <= 7`, `x \in [-2,7]`, `[-2,7]` | equal, `x<3` and `y<3` not; "or" joins, "and" intersects; `(1,2)` is a point or an open interval, as the other is | - |
| base subscripts (`52_8`) | must be the same on both sides; base ten may be left out | - |
| moduli | `3 \pmod 7` equals `3` (as a unit does) and `10 \pmod 7`; two different moduli never equal | with `units` |
| degrees | `90^\circ` equals `90` (a unit) and `\pi/2` (its value) | - |
| ratios and times | `4:6` equals `2:3` and `2/3` (`3:1` not `3`); times of day must be the same, "pm" is a unit; `5:12` and `10:24`: nothing can be said | - |
| letters | variables keep their case, words do not; a choice may carry its text (`(C) 12`, `C`) | - |
| variables | equal where both are real; equations up to a constant factor; `\log` in every base | - |
"""


@dataclass(frozen=True)
class Policy:
    """Choices on which reasonable people differ; see `POLICY_TABLE`. Raises ValueError on a value it does not name."""

    units: str = "drop"
    percent: str = "either"
    decimal_comma: bool = True
    lists: str = "unordered"
    rounded_digits: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "units": ("drop", "strict"),
            "percent": ("either", "value", "sign"),
            "decimal_comma": (True, False),
            "lists": ("unordered", "ordered"),
            "rounded_digits": (None, *range(1, 31)),
        }
        for field, values in choices.items():
            if (value := getattr(self, field)) not in values or type(value) not in map(
                type, values
            ):
                raise ValueError(f"Policy.{field} is {value!r}; choose one of {values}")


DEFAULT = Policy()

# ---------------------------------------------------------------- equality


def _same(p: Answer, g: Answer, policy: Policy) -> str:
    """Label of the equality of prediction and gold, or "". Raises Unread when undecided."""
    kinds = {p.kind, g.kind}
    if kinds in ({"eq"}, {"rel"}) and (p.tag != g.tag or not p.tag or kinds == {"rel"}):
        alike = (
            p.items[0] is not None and g.items[0] is not None and (p.kind == "eq" or p.tag == g.tag)
        )
        return (
            p.kind
            if alike and proportional(p.items[0], g.items[0], positive=p.kind == "rel")
            else ""
        )
    if (
        "eq" in kinds
    ):  # a name on the left may be missing; an equation without one equals only equations
        p, g = (x.items[1] if x.kind == "eq" else x for x in (p, g))
        return _same(p, g, policy) if p and g else ""
    if (
        kinds <= {"interval", "union", "set"} and "" != p.unit != g.unit != ""
    ):  # the variables that they bound
        return ""
    if kinds & {"interval", "union"}:
        p, g = as_interval(p), as_interval(g)
        compare = _in_order if p.kind == "interval" else _any_order
        return (
            p.kind
            if p.kind == g.kind and p.tag == g.tag and compare(p.items, g.items, policy)
            else ""
        )
    if "time" in kinds and kinds <= {"time", "ratio", "expr"}:
        return _times(p, g, policy)
    if kinds == {"ratio", "expr"}:
        number = (p if p.kind == "expr" else g).items[0]
        p, g = (_quotient(*x.items) if x.kind == "ratio" else x for x in (p, g))
        whole = (
            isinstance(number, Fraction) and number.denominator == 1
        )  # 2:3 is 2/3, but 3:1 is not 3
        return _same(p, g, policy) if p and g and not whole else ""
    if kinds == {"matrix", "tuple"}:
        rows, vector = (p.items, g.items) if p.kind == "matrix" else (g.items, p.items)
        cells = [cell for row in rows for cell in row]
        return (
            "vector"
            if len(cells) in (len(rows), len(rows[0])) and _in_order(cells, vector, policy)
            else ""
        )
    if kinds == {"assign", "list"} and any(
        one.kind == "eq" for one in (*p.items, *g.items)
    ):  # by name, not by place
        p, g = (
            [Answer("eq", (None, one), name) for one, name in zip(x.items, x.tag)]
            if x.tag
            else x.items
            for x in (p, g)
        )
        return "list" if _any_order(p, g, policy) else ""
    if kinds in ({"assign", "tuple"}, {"assign", "list"}, {"list", "tuple"}, {"tuple"}):
        return "tuple" if _in_order(p.items, g.items, policy) else ""
    if kinds == {"set"}:
        covered = (
            a in y.items
            or any((a.kind == "set") == (b.kind == "set") and _same(a, b, policy) for b in y.items)
            for x, y in ((p, g), (g, p))
            for a in x.items
        )
        return "set" if all(covered) else ""
    if kinds <= {"list", "set"}:
        compare = _in_order if policy.lists == "ordered" and kinds == {"list"} else _any_order
        return "list" if compare(p.items, g.items, policy) else ""
    if kinds in ({"set", "expr"}, {"list", "expr"}, {"set", "tuple"}):
        p, g = (
            x.items[0] if x.kind in ("set", "list") and len(x.items) == 1 else x for x in (p, g)
        )
        return _same(p, g, policy) if p.kind == g.kind else ""
    if len(kinds) > 1:
        return ""
    if p.kind == "expr":
        return _scalars(p, g, policy)
    if p.kind == "matrix":
        rows = list(zip(p.items, g.items)) if len(p.items) == len(g.items) else [((), (None,))]
        return "matrix" if all(_in_order(*pair, policy) for pair in rows) else ""
    if p.kind == "ratio":
        pairs = [[_quotient(x.items[0], one) for one in x.items[1:]] for x in (p, g)]
        return "ratio" if None not in pairs[0] + pairs[1] and _in_order(*pairs, policy) else ""
    return (
        p.kind if p.tag == g.tag and _in_order(p.items, g.items, policy) else ""
    )  # text, base, chain, assign


def _times(p: Answer, g: Answer, policy: Policy) -> str:
    """Times of day; 15:10 may be a ratio, and what agrees only as a ratio is neither equal nor unequal."""
    label, kinds = "", {p.kind, g.kind}
    if kinds == {"time"}:
        said = p.tag[3] or g.tag[3]  # without "am" or "pm" 1:20 is not 13:20
        alike = p.tag[2] == g.tag[2] or (policy.units == "drop" and "" in (p.tag[2], g.tag[2]))
        label = (
            "time" if p.tag[:2] == g.tag[:2] and (alike if said else p.tag[4] == g.tag[4]) else ""
        )
    if label or not all(x.items for x in (p, g)):
        return label
    label = _same(*(replace(x, kind="ratio") if x.kind == "time" else x for x in (p, g)), policy)
    if label and kinds == {"time"}:
        raise Unread("times or ratios")
    return label


def _quotient(*parts: Answer) -> Answer | None:
    """a:b as the number a/b."""
    whole = len(parts) == 2 and all(one.kind == "expr" for one in parts)
    return Answer("expr", (("/", parts[0].items[0], parts[1].items[0]),)) if whole else None


def _in_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    return len(p) == len(g) and all(_same(a, b, policy) for a, b in zip(p, g))


def _any_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    left = list(g)
    for one in p if len(p) == len(g) else ():
        found = (
            left.index(one)
            if one in left
            else next((i for i, other in enumerate(left) if _same(one, other, policy)), None)
        )
        if found is None:
            return False
        left.pop(found)
    return len(p) == len(g)


def _scalars(p: Answer, g: Answer, policy: Policy) -> str:
    """Two numbers or expressions under the conventions for units, percent signs, degrees and rounding."""
    a, b, units = p.items[0], g.items[0], {p.unit, g.unit}
    units = {"deg"} if "deg" in units and units & {"fahrenheit", "celsiu"} else units
    if "%" in units and len(units) == 2:
        bare = policy.percent != "value" and (
            policy.percent == "sign" or g.unit or symbols(b) or abs(real(b)) > 1
        )
        value = [("/", node, Fraction(100)) if x.unit else node for node, x in ((a, p), (b, g))]
        if units != {"%", ""}:
            return ""
        return (equal(a, b) if bare else "") or (equal(*value) if policy.percent != "sign" else "")
    if (
        len(units) == 1
        and (modulus := re.fullmatch(r"mod ([1-9]\d*)", p.unit))
        and not symbols(("-", a, b))
    ):
        gap = ("/", ("-", a, b), Fraction(int(modulus.group(1))))
        return "congruent" if equal(gap, Fraction(round(real(gap)))) else ""
    label = equal(a, b) if len(units) == 1 or ("" in units and policy.units == "drop") else ""
    if not label and units == {"deg", ""}:
        label = equal(*(degrees(node) if x.unit else node for node, x in ((a, p), (b, g))))
    decimal = (
        re.fullmatch(r"-?0*(\d*)\.(\d+)", str(p.tag))
        if policy.rounded_digits and not label
        else None
    )
    if (
        decimal
        and not symbols(b)
        and len("".join(decimal.groups()).lstrip("0")) >= policy.rounded_digits
    ):
        label = (
            "rounded decimal"
            if abs(real(("-", a, b))) * 2 * 10 ** len(decimal.group(2)) <= 1
            else ""
        )
    return label


def _readings(text: str, other: Answer, policy: Policy) -> Iterator[Answer]:
    """The reading of a text, and those that the other side suggests: `1,234` as a list, `1,5` as a decimal."""
    yield (answer := read(text))
    if answer.kind == "text" and re.fullmatch("[a-z]{3}", text):
        yield Answer("expr", (reduce(lambda a, b: ("*", a, b), text),))  # `xyz` may be a product
    if other.kind in ("list", "set", "tuple") and not re.search(r",0\d", text):
        yield read(text, joined=False)
    elif (
        square := re.fullmatch(r"(-?[\d.,]+) ?m ?\^ ?\{?([23])\}?", text)
    ) and other.kind == "expr":
        if not symbols(other.items[0]):  # beside a number `5 m^2` is an area, beside `m` a term
            yield read(f"{square.group(1)} “m”^{square.group(2)}")
    elif policy.decimal_comma and re.fullmatch(r"-?(?:\d+,\d{1,2}|\d+,\d{4,}|0,\d+)", text):
        if (
            other.kind == "expr"
            and isinstance(other.items[0], Fraction)
            and other.items[0].denominator > 1
        ):
            yield read(text.replace(",", "."))


_CHOICE = re.compile(
    r"(?:(?i:option|choice|answer)\s+)?(?:\(([a-j])\)|\(?([A-J])(?:\)?|[).:]\s+((?!and\b|or\b|[,;&+*/^=<>])(?:(?!\b[A-J]\b).)*)))"
)


def _decide(prediction: str, gold: str, policy: Policy) -> tuple[bool | None | str, str]:
    """Everything short of math-verify: (True, False, None for unverifiable or "ask", reason)."""
    if not isinstance(gold, str):
        return None, "gold cannot be parsed: missing"
    for side, text in (("gold cannot be parsed:", gold), ("undecided: prediction", prediction)):
        if len(text) > MAX_ANSWER:
            return None, f"{side} longer than {MAX_ANSWER} characters"
    p_text, g_text = normalise(prediction), normalise(gold)
    if p_text.lower() in ("", "[invalid]"):
        return False, "no final answer"
    if not re.search(r"\w|\\", g_text):
        return None, "gold cannot be parsed: empty"
    if key(p_text) == key(g_text):
        return True, "equal: identical"
    letters = [_CHOICE.fullmatch(re.sub("[“”]", "", text)) for text in (p_text, g_text)]
    if all(letters) and not all(m.group(3) for m in letters):  # `(C) 12` and `C`
        same = len({(m.group(1) or m.group(2)).upper() for m in letters}) == 1
        return same, "equal: choice" if same else "unequal: choice"
    g, doubt = None, (None, "gold cannot be parsed")
    restart()
    try:
        g = read(g_text)
        doubt = False, "prediction cannot be parsed"
        p = read(p_text)
        doubt = None, "undecided"
        pairs = ((q, h) for h in _readings(g_text, p, policy) for q in _readings(p_text, g, policy))
        label = next(filter(None, (_same(*pair, policy) for pair in pairs)), "")
        return bool(label), f"equal: {label}" if label else f"unequal: {p.kind} and {g.kind}"
    except (Unread, RecursionError, ArithmeticError, ValueError, LookupError, TypeError) as error:
        if getattr(error, "ask", False) and (g is None or g.kind != "text"):
            return "ask", ""
        return doubt[
            0
        ], f"{doubt[1]}: {error if isinstance(error, Unread) else type(error).__name__}"


# ---------------------------------------------------------------- math-verify, in a process that can be killed


def _math_verify(prediction: str, gold: str) -> tuple[bool | None, str]:
    """math-verify's verdict; "equal" is believed only if sympy confirms it and no number or variable was dropped."""
    import sympy
    from math_verify import LatexExtractionConfig, parse, verify

    def names(text: str) -> set[str]:
        n_derivatives = len(re.findall(r"'|\\(?:prime|partial)(?![a-z])|\bd[a-z]?\}?\{d", text))
        text = re.sub(r"\\[A-Za-z]+", " ", text)
        letters = set(re.findall(r"\d|(?<![A-Za-z])[A-Za-z](?![A-Za-z])", text)) - {"d", "e", "i"}
        return (
            letters | {f"{n_derivatives} derivatives"} if n_derivatives else letters
        )  # sympy's would be 0

    def zero(a, b) -> bool:
        gap = sympy.simplify((a - b).doit())
        if gap == 0:
            return True
        for at in points([s.name for s in (a - b).free_symbols])[:4]:
            point = {
                s: sympy.Rational(*at[s.name].as_integer_ratio()) for s in (a - b).free_symbols
            }
            if (
                abs(sympy.N(gap.subs(point), 60))
                > abs(sympy.N(b.subs(point).doit(), 60)) * sympy.Float(10) ** -40
            ):
                return False
        return True

    def confirmed(a, b) -> bool:
        a, b = a.doit(), b.doit()
        if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
            return a.shape == b.shape and all(map(zero, a.flat(), b.flat()))
        if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
            return a == b or (
                not (a - b).has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan) and zero(a, b)
            )
        return (
            type(a) is type(b)
            and len(a.args) == len(b.args) > 0
            and all(map(confirmed, a.args, b.args))
        )

    tex = [LatexExtractionConfig()]
    g, p = (
        (parse(f"${text}$", tex, "no_fallback", parsing_timeout=None) or [None])[0]
        for text in (gold, prediction)
    )
    if g is None or p is None:
        return (
            (None, "gold cannot be parsed") if g is None else (False, "prediction cannot be parsed")
        )
    if not verify(g, p, timeout_seconds=None) and not (
        isinstance(g, sympy.Expr) and confirmed(p, g)
    ):
        return False, "unequal: math-verify"
    if not all(
        names(text) <= names(sympy.srepr(x).replace("'", " "))
        for text, x in ((gold, g), (prediction, p))
    ):
        return None, "undecided: math-verify read only a part"
    sure = confirmed(p, g)
    return (
        sure or None,
        "equal: math-verify, confirmed" if sure else "undecided: math-verify, not confirmed",
    )


def _serve(limit: float, ask: Callable[[str, str], tuple]) -> None:
    """The worker's loop: a JSON pair a line in, a verdict a line out. Dies when a pair takes more processor time."""
    import logging
    import resource

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # stray prints must not look like verdicts
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warm = None
    with contextlib.suppress(Exception):
        warm = ask("x", "x")
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        signal.setitimer(
            signal.ITIMER_PROF, limit if warm else 4 * limit
        )  # the first pair may have packages to import
        try:
            verdict = warm = ask(*json.loads(line))
        except Exception as error:
            verdict = (None, f"undecided: {type(error).__name__} in {_name(ask)}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=out, flush=True)


def _name(ask: Callable) -> str:
    return ask.__name__.strip("_").replace("_", "-")


class _Worker:
    """One process that runs `ask` (a module's function); started at its first question, killed and replaced on time-out."""

    def __init__(self, limit_seconds: float, ask: Callable[[str, str], tuple]) -> None:
        self.limit, self.ask_function, self.name, self.process = (
            limit_seconds,
            ask,
            _name(ask),
            None,
        )

    def start(self) -> bytes | None:
        path = os.pathsep.join(
            filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")))
        )
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                f"from wcse_lib.answers.equal import _serve; from {self.ask_function.__module__} import "
                f"{self.ask_function.__name__} as ask; _serve({self.limit}, ask)",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return self.line(120.0)

    def ask(self, prediction: str, gold: str) -> tuple[bool | None, str]:
        line = None
        try:
            if self.process is None and not self.start():
                return None, f"undecided: {self.name} did not start"
            self.process.stdin.write(json.dumps([prediction, gold]).encode() + b"\n")
            self.process.stdin.flush()
            line = self.line(4 * self.limit)
            if line:
                return tuple(json.loads(line))
            timeout = line is None or self.process.wait(9) == -signal.SIGPROF
            return None, "timeout" if timeout else f"undecided: {self.name} died"
        except OSError as error:
            line = None
            return None, f"undecided: {self.name} cannot run ({error})"
        finally:
            if not line:  # also after an interrupt: a late answer must not meet the next question
                self.kill()

    def line(self, seconds: float) -> bytes | None:
        """The next line, b"" when the process has died, None when the time is up."""
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        return self.process.stdout.readline() if poll.poll(seconds * 1000) else None

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(OSError), self.process:
                self.process.kill()
            self.process = None


class Checker(contextlib.AbstractContextManager):
    """Verdicts on many samples: a memo on (prediction, gold) and a lazy pool of killable math-verify processes.

    At most `workers` processes; a pair gets `limit_seconds` of processor time there (four times that on the clock),
    and after `patience_seconds` lost on time-outs no more is asked, so that hostile samples cannot stall a stage. Pairs
    that the guards decide start none. With another `ask` (a module's function of two texts, as `_math_verify`) there
    are no guards: it decides. For any thread, Jupyter, and after a fork; a context manager. Raises ValueError on
    impossible settings.
    """

    def __init__(
        self,
        style: str = "auto",
        policy: Policy = DEFAULT,
        workers: int = 2,
        limit_seconds: float = 3.0,
        patience_seconds: float = 60.0,
        ask: Callable[[str, str], tuple] = _math_verify,
    ) -> None:
        if style not in STYLES or workers < 1 or limit_seconds <= 0:
            raise ValueError(
                f"Checker: style {style!r} must be one of {', '.join(STYLES)}, workers {workers} and "
                f"limit_seconds {limit_seconds} positive"
            )
        self.style, self.policy, self.workers, self.ask = style, policy, workers, ask
        self.limit_seconds, self.patience_seconds = limit_seconds, patience_seconds
        self._memo: dict[tuple[str, str], tuple[bool | None, str]] = {}
        self._renew()

    def _renew(self) -> None:
        self._owner, self._pool = os.getpid(), queue.SimpleQueue()
        for _ in range(self.workers):
            self._pool.put(_Worker(self.limit_seconds, self.ask))

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes once they are idle; the checker can be used again afterwards."""
        for _ in range(self.workers if self._owner == os.getpid() else 0):
            self._pool.get().kill()
        self._renew()

    def _guarded(self, pair: tuple[str, str]) -> tuple[bool | None | str, str]:
        known = self._memo.get(pair) or (
            _decide(*pair, self.policy) if self.ask is _math_verify else ("ask", "")
        )
        return self._remember(pair, known) if known[0] != "ask" else known

    def _remember(
        self, pair: tuple[str, str], verdict: tuple[bool | None, str]
    ) -> tuple[bool | None, str]:
        if len(self._memo) > 100_000:
            self._memo.clear()  # memory stays flat over any number of samples
        self._memo[pair] = verdict
        return verdict

    def compare(self, prediction: str | None, gold: str) -> tuple[bool | None, str]:
        """(True, False or None for unverifiable; reason) for an extracted answer."""
        pair = (prediction or "", gold)
        verdict = self._guarded(pair)
        if verdict[0] != "ask":
            return verdict
        if self._owner != os.getpid():
            self._renew()  # after a fork: the parent's pipes are not ours
        if self.patience_seconds <= 0:
            return self._remember(pair, (None, "timeout: too many before"))
        worker = self._pool.get()
        try:
            verdict = worker.ask(*pair)
        finally:
            self._pool.put(worker)
        self.patience_seconds -= self.limit_seconds if verdict[1] == "timeout" else 0
        return self._remember(pair, verdict)

    def check(self, text: str, gold: str) -> tuple[str | None, str, str]:
        """(extracted answer or None, "correct" | "incorrect" | "unverifiable", reason) of one sample."""
        return self.check_many([text], [gold])[0]

    def check_many(
        self,
        texts: Sequence[str],
        golds: Sequence[str],
        progress: Callable[[int], object] | None = None,
    ) -> list[tuple[str | None, str, str]]:
        """`check` of each text and its gold, in order; `progress(1)` after each. Raises ValueError if not in pairs."""
        if len(texts) != len(golds):
            raise ValueError(
                f"{len(texts)} texts but {len(golds)} golds; give one gold for each text"
            )
        pairs = [(extract(text, self.style), gold) for text, gold in zip(texts, golds)]
        asked = [
            pair
            for pair in dict.fromkeys(pairs)
            if self._guarded((pair[0] or "", pair[1]))[0] == "ask"
        ]
        rows = []
        with ThreadPoolExecutor(self.workers) if asked else contextlib.nullcontext() as threads:
            slow = {pair: threads.submit(self.compare, *pair) for pair in asked}
            for pair in pairs:
                equal, reason = (
                    slow[pair].result() if pair in slow else self._guarded((pair[0] or "", pair[1]))
                )
                rows.append(
                    (
                        pair[0],
                        {True: "correct", False: "incorrect", None: "unverifiable"}[equal],
                        reason,
                    )
                )
                if progress:
                    progress(1)
        return rows


@lru_cache(4)
def _shared(policy: Policy) -> Checker:
    return Checker(policy=policy, workers=1, patience_seconds=float("inf"))


def equivalent(prediction: str, gold: str, *, policy: Policy = DEFAULT) -> bool | None:
    """Whether an extracted answer equals gold; None when nothing can be said (time-out, gold that cannot be parsed).

    Bounded in time on any text, from any thread; `POLICY_TABLE` states the conventions.
    """
    verdict = _decide(prediction, gold, policy)[0]
    return _shared(policy).compare(prediction, gold)[0] if verdict == "ask" else verdict
