"""A model as judge: its rubric, how its output is read, and its judgements, resumable and at a cost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path

import pandas as pd

from wcse_lib import budget
from wcse_lib.sample import Decoding, check_lost_share, draw, opened
from wcse_lib.store import KEY, StudyError, read_samples, write_json
from wcse_lib.study import Machine, Price, Prompt, Run, Study, resolve, resolve_model
from wcse_lib.verdicts import as_judgements
from wcse_lib.verify import labelling
from wcse_lib.verify.samples import texts_of

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

_JUDGEMENT = re.compile(
    r"(?im)^[^\w\n]{0,9}judge?ment[^\w\n]{1,9}(sound|flawed)\b(?![^\w\n]{0,5}(?:or\b|/|\|))"
)


def rubric(gold_known: bool = True) -> str:
    """The template that asks a model for its judgement of a `case` (its {question}) of a correct solution, or, when no
    gold answer is to be used, of any solution."""
    task = "the reasoning of a solution, not its final answer, which is right: does it really get there?"
    last = ""
    if not gold_known:
        task = "a solution, which may be right or wrong, in its reasoning and in its final answer."
        last = ";\n5. its final answer is wrong, missing, or not what the problem asks for"
    return RUBRIC.replace("{task}", task).replace("{last}", last)


def judge_prompt(has_template: bool, gold_known: bool = True) -> Prompt:
    """How a judge is asked: by its chat template where it has one."""
    style = "chat" if has_template else "plain"
    return Prompt(style=style, template=rubric(gold_known))


def case(question: str, solution: str) -> str:
    """What a model is shown with the rubric."""
    return f"Problem:\n{question.strip()}\n\nSolution:\n{solution.strip()}"


def read_judgement(text: str, finish_reason: str, error: str = "") -> tuple[bool | None, str]:
    """(sound, reason) of a judge's output; None when it failed, was cut off, or no `Judgement:` line says either.

    >>> read_judgement("Step 1 follows.\\nJudgement: SOUND", "stop")
    (True, 'the judge said SOUND')
    """
    if finish_reason == "length":
        return None, "the judge was cut off at max_tokens"
    if finish_reason != "stop":
        return None, f"the judge failed: {error}"
    marks = _JUDGEMENT.findall(text)
    if not marks:
        end = " ".join(text.split())[-60:]
        return None, f"the judge said neither SOUND nor FLAWED, but ends: {end}"
    word = marks[-1].upper()
    return word == "SOUND", f"the judge said {word}"


def ask_model(
    run: Run, arm: str, keys: pd.DataFrame, machine: Machine, gold_known: bool
) -> pd.DataFrame:
    """The judge model's judgements (columns JUDGEMENTS) of samples; these are correct ones if gold is known.

    Where only `n_per_arm` correct samples are to be judged, as many are drawn. Equal solutions of a problem are judged
    once. The outputs lie in `judge/`, resumable; their cost in `judge.json`. Raises StudyError when more than
    `sampling.max_failed_share` of them failed or are empty.
    """
    judge, folder = run.study.verification.model_judge, run.path("03", arm, "judge")
    if judge.n_per_arm and gold_known:
        keys = labelling.draw(keys, judge.n_per_arm, run.study.seed)
    # an id for each case, so that a changed judge or rubric never meets old outputs
    asked = texts_of(run, arm, keys[KEY])
    settings = [judge.model, rubric(gold_known), judge.max_tokens, judge.temperature]
    texts = [case(row.question, row.text) for row in asked.itertuples()]
    ids = [_digest([*settings, text]) for text in texts]
    cases = pd.DataFrame({"problem_id": ids, "question": texts}).drop_duplicates("problem_id")

    answered = read_samples(folder, KEY, with_failed=False)["problem_id"]
    if not cases["problem_id"].isin(answered).all():
        _draw(run.study, folder, arm, cases, gold_known, machine)
    outputs = read_samples(folder)
    write_json(run.path("03", arm, "judge.json"), _cost(run.study, outputs))

    answers = outputs.set_index("problem_id").loc[ids]
    # A judgement that was cut counts as undecided, of which the rates tell.
    most = run.study.sampling.max_failed_share
    check_lost_share(answers, folder, most, truncated_count=False)
    results = [
        read_judgement(row.text, row.finish_reason, row.error) for row in answers.itertuples()
    ]
    return as_judgements(asked, "model", results)


def _digest(parts: list) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _draw(
    study: Study, folder: Path, arm: str, cases: pd.DataFrame, gold_known: bool, machine: Machine
) -> None:
    """Draw the judge's outputs that the folder does not hold yet, one for each case."""
    judge = study.verification.model_judge
    is_endpoint = judge.engine == "openai"
    price = _price(study) if is_endpoint else None
    with opened(folder, judge.model, machine, engine=judge.engine, price=price) as source:
        has_template = is_endpoint or bool(source.tokenizer.chat_template)
        draw(
            folder,
            arm,
            cases,
            1,
            source,
            prompt=judge_prompt(has_template, gold_known),
            decoding=Decoding(judge.temperature, max_tokens=judge.max_tokens),
            seed=study.seed,
            model=judge.model,
        )


def _price(study: Study) -> Price | None:
    """The endpoint's price of the study's date; none where the table has none, so that only tokens are counted."""
    judge, date = study.verification.model_judge, study.budget.price_date
    with contextlib.suppress(StudyError):
        return budget.read_price(resolve(study.budget.prices), judge.model, date)
    return None


def _cost(study: Study, outputs: pd.DataFrame) -> dict:
    """What the judge's outputs have cost, in tokens, FLOPs (a local model's) and USD (an endpoint's)."""
    judge = study.verification.model_judge
    n_tokens = int(outputs["n_tokens"].clip(lower=0).sum())
    n_prompt_tokens = int(outputs["n_prompt_tokens"].clip(lower=0).sum())
    n_parameters = flops = usd = None
    if judge.engine != "openai":
        n_parameters = budget.read_model(resolve_model(judge.model)).n_parameters
    if n_parameters and len(outputs):
        flops = budget.sampling_flops(n_parameters, n_tokens, n_prompt_tokens)
    if outputs["usd"].notna().any():
        usd = float(outputs["usd"].sum())
    return {
        "model": judge.model,
        "n_samples": len(outputs),
        "n_tokens": n_tokens,
        "n_prompt_tokens": n_prompt_tokens,
        "n_parameters": n_parameters,
        "flops": flops,
        "usd": usd,
    }
