"""Judges: which of them judge a study's samples, and the two that need neither a model nor people.

Four judges, each named on its rows: `exact` (nano problems, certain), `arithmetic` (only wrong equations, so its rate
is a lower bound), `human` (see labelling.py), `model` (see model_judge.py; its rate is corrected for its errors).
"""

from __future__ import annotations

import pandas as pd

from wcse_lib.nano import check
from wcse_lib.store import KEY
from wcse_lib.study import Study
from wcse_lib.verdicts import as_judgements
from wcse_lib.verify.arithmetic import judge_arithmetic

FREE = ("exact", "arithmetic")  # judges that cost nothing


def free_judges(study: Study) -> list[str]:
    """Those of FREE that can judge: exact for nano, arithmetic where answers are mostly numbers."""
    judges = []
    if study.dataset.name == "nano":
        judges.append("exact")
    if study.verification.by in ("answer", "task"):
        judges.append("arithmetic")
    return judges


def judges_of(study: Study) -> list[str]:
    """The study's own judge, then every other that can be had; none where none is wanted, or there is none."""
    others = free_judges(study)
    if study.verification.model_judge is not None:
        others.append("model")
    own = study.verification.judge
    if own == "auto":
        own = others[0] if others else "none"
    if own == "none":
        return []
    return list(dict.fromkeys([own, *others, "human"]))


def own_judge(study: Study) -> str | None:
    """The judge that speaks for the study's samples: its judgements stand on the judged rows."""
    return next(iter(judges_of(study)), None)


def judge_of_all(study: Study) -> str | None:
    """The study's own judge where a recipe filters by it, so that it judges incorrect samples too."""
    recipes = [study.curation, *study.recipes.values()]
    is_filter = any(recipe.filter == "judge" for recipe in recipes)
    return own_judge(study) if is_filter else None


def free_judge(study: Study) -> str | None:
    """The judge that speaks for students: the study's own where it costs nothing, else the first that does not."""
    own, free = own_judge(study), free_judges(study)
    if own is None or own in free:
        return own
    return free[0] if free else None


def exact(question: str, text: str) -> tuple[bool | None, str]:
    """Judge a nano sample exactly: (sound, reason). Raises ValueError when `question` is no nano problem."""
    result = check(question, text)
    return result.sound, result.reason


def judgement_rows(
    samples: pd.DataFrame,
    verdicts: pd.DataFrame,
    problems: pd.DataFrame,
    judge: str,
    every: bool = False,
) -> pd.DataFrame:
    """The reasoning of every correct sample (or `every` one) judged by `exact` (nano problems) or `arithmetic`.

    Args: samples: KEY columns, `text`; verdicts: KEY columns, `verdict`; problems: `problem_id`, `question`.
    """
    if not every:
        correct = verdicts.loc[verdicts["verdict"] == "correct", KEY]
        samples = samples.merge(correct, on=KEY)
    if judge == "exact":
        questions = problems.set_index("problem_id")["question"].loc[samples["problem_id"]]
        results = [exact(question, text) for question, text in zip(questions, samples["text"])]
    else:
        results = [judge_arithmetic(text) for text in samples["text"]]
    return as_judgements(samples, judge, results)
