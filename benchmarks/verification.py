"""Verdicts per second and accuracy of `wcse_lib.answers` against a plain loop over math-verify, on the same samples.

Thirty samples for each of n problems (half MATH, half GSM8K golds): right answers in several spellings, near misses
(a changed digit, sign, bracket, or a list) that repeat as the samples of one model do, each after a real GSM8K or MATH
solution text. Labels are known by construction; time is processor time, children included, so that a busy machine does
not matter. Usage: `python benchmarks/verification.py [problems] [seed] [data folder]`.
"""

import json
import random
import re
import resource
import sys
import time
from fractions import Fraction
from pathlib import Path

from wcse_lib.answers import VERIFIER, Checker, extract

N_SAMPLES = 30
DATA = Path(__file__).parents[1].parent / "shared" / "data"


def load(data: Path, n: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """n gold answers, half from MATH and half from GSM8K, and solution texts without their final answers."""
    math = [
        json.loads(line)["solution"]
        for line in (data / "math_test_half.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    gsm8k = [
        json.loads(line)["answer"]
        for line in (data / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    golds = [*map(extract, rng.sample(math, n - n // 2)), *map(extract, rng.sample(gsm8k, n // 2))]
    return golds, [
        re.split(r"\\boxed|####", text)[0].strip(" $\n")
        for text in rng.sample(math, 500) + rng.sample(gsm8k, 500)
    ]


def right_spellings(gold: str) -> list[str]:
    """Spellings that mean the same as gold."""
    found = [
        gold,
        gold,
        gold.replace("\\frac", "\\dfrac"),
        f" {gold} ",
        gold.replace("\\left", "").replace("\\right", ""),
    ]
    if re.fullmatch(r"-?\d+", gold):
        found += [
            f"{gold}.0",
            f"{int(gold):,}",
            f"\\frac{{{2 * int(gold)}}}{{2}}",
            f"x = {gold}",
            f"{gold} \\text{{ units}}",
        ]
    if m := re.fullmatch(r"\\d?frac\{(\d+)\}\{(\d+)\}", gold):
        found += [
            f"{m.group(1)}/{m.group(2)}",
            f"\\frac{{{3 * int(m.group(1))}}}{{{3 * int(m.group(2))}}}",
        ]
        ratio = Fraction(int(m.group(1)), int(m.group(2)))
        found += [str(float(ratio))] if 10_000 % ratio.denominator == 0 else []
    return found


def near_misses(gold: str, rng: random.Random) -> list[str]:
    """Answers that look like gold and differ from it."""
    found = [
        f"{gold}, 1",
        "7.77",
        "\\text{none}",
        *([f"-{gold}"] if re.fullmatch(r"[\d.]*[1-9]", gold) else []),
    ]
    for m in list(re.finditer(r"\d", gold))[:4]:
        found.append(
            gold[: m.start()] + str((int(m.group()) + rng.randint(1, 8)) % 9 + 1) + gold[m.end() :]
        )
    if "(" in gold and "," in gold:
        found.append(gold.replace("(", "["))
    return [miss for miss in found if miss not in right_spellings(gold)]


def samples(
    problems: list[str], works: list[str], rng: random.Random
) -> tuple[list[str], list[str], list[bool]]:
    """(texts, golds, labels) of thirty samples for each gold in `problems`."""
    texts, golds, labels = [], [], []
    for gold in problems:
        skill, wrong = rng.betavariate(0.8, 0.8), near_misses(gold, rng)
        for _ in range(N_SAMPLES):
            right = rng.random() < skill
            answer = (
                rng.choice(right_spellings(gold))
                if right
                else wrong[min(int(rng.expovariate(0.7)), len(wrong) - 1)]
            )
            texts.append(f"{rng.choice(works)}.\n\nSo the answer is $\\boxed{{{answer}}}$.")
            golds.append(gold)
            labels.append(right)
    return texts, golds, labels


def plain_loop(texts: list[str], golds: list[str]) -> list[bool]:
    """What most projects do: parse gold and sample with math-verify's defaults, each time."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    return [verify(parse(f"\\boxed{{{gold}}}"), parse(text)) for text, gold in zip(texts, golds)]


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main(n_problems: int = 60, seed: int = 1, data: Path = DATA) -> float:
    """Prints both rates and accuracies; returns the ratio of the rates (ours / math-verify's)."""
    rng = random.Random(seed)
    texts, golds, labels = samples(*load(data, n_problems, rng), rng)
    plain_loop(texts[:5], golds[:5])  # imports are not timed
    begin = processor_seconds()
    theirs = plain_loop(texts, golds)
    middle = processor_seconds()
    with Checker() as checker:
        verdicts = [verdict for _, verdict, _ in checker.check_many(texts, golds)]
    end = processor_seconds()
    print(f"{n_problems} problems x {N_SAMPLES} samples, seed {seed}")
    ours = [verdict == "correct" for verdict in verdicts]
    for name, found, seconds in (
        ("math-verify loop", theirs, middle - begin),
        (VERIFIER, ours, end - middle),
    ):
        accepts = sum(f and not label for f, label in zip(found, labels))
        rejects = sum(label and not f for f, label in zip(found, labels))
        print(
            f"{name:18s} {len(texts) / seconds:8,.0f} verdicts per processor second, accuracy "
            f"{1 - (accepts + rejects) / len(texts):.4f}, wrong accepts {accepts}, wrong rejects {rejects}"
        )
    print(
        f"unverifiable: {verdicts.count('unverifiable')}; ratio of rates {(middle - begin) / (end - middle):.0f}x"
    )
    return (middle - begin) / (end - middle)


if __name__ == "__main__":
    main(*(convert(value) for convert, value in zip((int, int, Path), sys.argv[1:])))
