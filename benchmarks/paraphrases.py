"""How many paraphrases of held-out problems are found, by words and by meaning, and how many honest problems leave?

    python benchmarks/paraphrases.py [--model FOLDER] [--problems 150] [--train 7473] [--held-out 1319] [--math]

Held out are GSM8K's 1,319 test problems. Planted are paraphrases of some of them: `rules` (other names and words, the
question first, small numbers in words: 150 problems), `numbers` (these, and each number is another one) and `written`
(60 by a writer, in `paraphrases.jsonl`, where next to nothing but the numbers stayed). GSM8K's training problems are
the honest ones; a few of them are siblings of test problems, so not all that leaves leaves falsely.

The first part of the output is the kit's decontamination by words, the second that by meaning. MATH's test half, even
rows against odd ones, shows a set whose problems resemble each other. `--held-out` and `--train` take fewer problems,
for slow models: of fewer held-out problems those that are paraphrased stay.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.plan.copies import compare
from wcse_lib.plan.meaning import Nearest, nearest, quantile_above, threshold_of
from wcse_lib.sample import vectors_of
from wcse_lib.study import Machine

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
NAMES = (
    "Priya Omar Lena Kofi Ines Ravi Hanna Tomas Giulia Amir Nadia Otto Zoe Leo Mila Petra".split()
)
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
WORDS = {
    r"how many": "what number of",
    r"how much": "what amount of",
    r"buys": "purchases",
    r"bought": "purchased",
    r"buy": "purchase",
    r"gives": "hands",
    r"gave": "handed",
    r"each": "every single",
    r"every day": "daily",
    r"per day": "a day",
    r"a week": "in seven days",
    r"twice": "two times",
    r"half": "fifty percent of",
    r"total": "overall sum",
    r"in all": "altogether",
    r"altogether": "all together",
    r"left": "remaining",
    r"remaining": "still there",
    r"cost": "be priced at",
    r"costs": "is priced at",
    r"wants to": "would like to",
    r"needs to": "has to",
    r"needs": "requires",
    r"has": "owns",
    r"have": "own",
    r"had": "owned",
    r"makes": "produces",
    r"make": "produce",
    r"made": "produced",
    r"friends": "pals",
    r"friend": "pal",
    r"children": "kids",
    r"kids": "youngsters",
    r"money": "cash",
    r"store": "shop",
    r"house": "home",
    r"car": "automobile",
    r"cars": "automobiles",
    r"then": "after that",
    r"also": "in addition",
    r"but": "however",
    r"because": "since",
    r"if": "supposing that",
    r"more than": "above",
    r"less than": "below",
    r"sells": "is selling",
    r"sold": "was selling",
    r"spends": "pays out",
    r"spend": "pay out",
    r"works": "is employed",
    r"eats": "consumes",
    r"ate": "consumed",
    r"goes": "heads",
    r"went": "headed",
    r"gets": "receives",
    r"got": "received",
    r"school": "academy",
    r"people": "persons",
    r"students": "pupils",
    r"dollars": "bucks",
    r"does": "will",
    r"was": "used to be",
    r"there are": "one finds",
    r"there were": "one found",
    r"decides": "chooses",
    r"takes": "needs",
    r"starts": "begins",
    r"started": "began",
    r"finish": "complete",
    r"bigger": "larger",
    r"big": "large",
    r"small": "little",
}
_NAME = re.compile(r"(?<![.?!] )(?<!^)\b[A-Z][a-z]{2,}\b")


def questions(file: str, key: str = "question") -> list[str]:
    return [json.loads(line)[key] for line in (DATA / file).read_text().splitlines()]


def by_rules(text: str, source: random.Random) -> str:
    """Other names, other words, numbers in words or figures, and the question first."""
    text = " ".join(text.split())
    names = dict.fromkeys(_NAME.findall(text))
    others = source.sample(NAMES, len(NAMES))
    for name, other in zip(names, others):
        text = re.sub(rf"\b{name}\b", other, text)
    for word, other in WORDS.items():
        text = re.sub(rf"\b{word}\b", f"\x00{other}\x00", text)  # no word is replaced twice
        text = re.sub(rf"\b{word.capitalize()}\b", f"\x00{other.capitalize()}\x00", text)
    text = text.replace("\x00", "")
    text = re.sub(r"(?<![\d.,$])\d{1,2}(?![\d.,%]|/\d)", _in_words, text)
    *story, question = re.split(r"(?<=[.?!])\s+", text.strip())
    return f"{question} Here is what is known. {' '.join(story)}" if story else question


def _in_words(match: re.Match) -> str:
    n = int(match[0])
    return ONES[n] if n < len(ONES) else match[0]


def with_other_numbers(text: str, source: random.Random) -> str:
    def other(match: re.Match) -> str:
        n = int(match[0].replace(",", ""))
        return f"{source.choice([m for m in range(2, max(12, 2 * n)) if m != n]):,}"

    return re.sub(r"\d+(?:,\d{3})*", other, text)


def planted(held_out: list[str], n: int) -> dict[str, tuple[list[int], list[str]]]:
    """By kind: which held-out problems are paraphrased, and the paraphrases."""
    source = random.Random(0)
    rows = sorted(source.sample(range(len(held_out)), n))
    rules = [by_rules(held_out[row], source) for row in rows]
    numbers = [by_rules(with_other_numbers(held_out[row], source), source) for row in rows]
    written = [json.loads(line) for line in (HERE / "paraphrases.jsonl").read_text().splitlines()]
    return {
        "rules": (rows, rules),
        "numbers": (rows, numbers),
        "written": ([one["row"] for one in written], [one["question"] for one in written]),
    }


def fewer(held_out: list[str], kinds: dict, n: int) -> tuple[list[str], dict]:
    """n of the held-out problems, those that are paraphrased among them, and the kinds with their new places."""
    needed = {row for rows, _ in kinds.values() for row in rows}
    others = [row for row in range(len(held_out)) if row not in needed]
    kept = sorted(needed | set(random.Random(0).sample(others, max(0, n - len(needed)))))
    place = {row: new for new, row in enumerate(kept)}
    moved = {kind: ([place[row] for row in rows], texts) for kind, (rows, texts) in kinds.items()}
    return [held_out[row] for row in kept], moved


def frame(texts: list[str], prefix: str) -> pd.DataFrame:
    ids = [f"{prefix}{place}" for place in range(len(texts))]
    return pd.DataFrame({"problem_id": ids, "question": texts, "set": "held_out"})


def by_words(texts: list[str], held_out: list[str]) -> tuple[float, float]:
    """Shares that are left out, and that are left out or listed for people."""
    copies, near = compare(frame(texts, "t"), frame(held_out, "h"), 13)
    out = set(copies["problem_id"])
    return len(out) / len(texts), len(out | set(near["problem_id"])) / len(texts)


def show(kind: str, *shares: float) -> None:
    print(f"  {kind:<28}" + "".join(f"{100 * share:8.1f} %" for share in shares))


def words_alone(train: list[str], held_out: list[str], kinds: dict) -> None:
    print("by words (13-grams): left out, and left out or listed")
    for kind, (_, texts) in kinds.items():
        show(kind, *by_words(texts, held_out))
    show("GSM8K's training problems", *by_words(train, held_out))


def meaning(model: str, share: float, train: list[str], held_out: list[str], kinds: dict) -> None:
    def vectors(texts: list[str]) -> np.ndarray:
        return vectors_of(texts, model, "local", Machine()).rows

    held, rows = vectors(held_out), vectors(train)
    honest = nearest(rows, held)
    print(
        f"by meaning ({model}, {rows.shape[1]} numbers): left out by the margin at the kit's threshold, and"
    )
    print(
        "  by margin and cosine at the one above which this share of these very training problems is"
    )
    thresholds = [
        threshold_of(rows, [len(held)], share)[0],
        quantile_above(honest.margins, share),
        quantile_above(honest.cosines, share),
    ]
    print(f"  {'thresholds':<28}" + "".join(f"{value:10.3f}" for value in thresholds))

    def left_out(found: Nearest) -> list[float]:
        values = [found.margins, found.margins, found.cosines]
        return [float(np.mean(of > least)) for of, least in zip(values, thresholds)]

    for kind, (right, texts) in kinds.items():
        found = nearest(vectors(texts), held)
        show(kind, *left_out(found))
        show("  nearest is the right one", np.mean(found.places == np.array(right)))
    show("GSM8K's training problems", *left_out(honest))


def like_each_other(model: str, share: float) -> None:
    math = questions("math_test_half.jsonl", "problem")
    even, odd = (
        vectors_of(part, model, "local", Machine()).rows for part in (math[::2], math[1::2])
    )
    least, _ = threshold_of(even, [len(odd)], share)
    show(f"MATH, halves (at {least:.3f})", np.mean(nearest(even, odd).margins > least))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--train", type=int, default=7473, help="honest problems, for slow models")
    parser.add_argument("--held-out", type=int, default=1319, help="likewise")
    parser.add_argument("--math", action="store_true", help="MATH's halves, too")
    parser.add_argument("--false-share", type=float, default=0.01)
    arguments = parser.parse_args()
    train, held_out = questions("gsm8k_train.jsonl"), questions("gsm8k_test.jsonl")
    train = random.Random(0).sample(train, arguments.train)
    kinds = planted(held_out, arguments.problems)
    if arguments.held_out < len(held_out):
        held_out, kinds = fewer(held_out, kinds, arguments.held_out)
    for kind, (rows, texts) in kinds.items():
        print(f"{kind}: {held_out[rows[0]]}\n  -> {texts[0]}")
    words_alone(train, held_out, kinds)
    for model in arguments.model:
        meaning(model, arguments.false_share, train, held_out, kinds)
        if arguments.math:
            like_each_other(model, arguments.false_share)


if __name__ == "__main__":
    main()
