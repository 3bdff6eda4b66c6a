"""Verdicts and judgements for a frame of samples, one row each, joined by key and never by position."""

from __future__ import annotations

import pandas as pd

from wcse_lib import answers, judges
from wcse_lib.records import KEY

VERDICT_COLUMNS = [*KEY, "extracted", "verdict", "reason", "verifier"]
JUDGEMENT_COLUMNS = [*KEY, "sound", "judge", "reason"]


def verdict_rows(samples: pd.DataFrame, problems: pd.DataFrame, style: str, workers: int = 1) -> pd.DataFrame:
    """One verdict per sample, in the samples' order.

    Args: samples: KEY columns, `text`, `finish_reason`; problems: `problem_id`, `answer`; style: as in answers.extract.
    A truncated sample is incorrect (it has no final answer), a failed one unverifiable. Raises KeyError when a sample's
    problem is unknown.
    """
    gold = problems.set_index("problem_id")["answer"].loc[samples["problem_id"]].to_numpy()
    extracted, verdict, reason = [None] * len(samples), ["incorrect"] * len(samples), ["truncated"] * len(samples)
    finish = samples["finish_reason"].to_numpy()
    usable = [i for i, f in enumerate(finish) if f == "stop"]
    texts = samples["text"].to_numpy()
    with answers.Checker(style=style, workers=workers) as checker:
        for i, result in zip(usable, checker.check_many([texts[i] for i in usable], [gold[i] for i in usable])):
            extracted[i], verdict[i], reason[i] = result
    for i in (i for i, f in enumerate(finish) if f == "error"):
        verdict[i], reason[i] = "unverifiable", "the sample failed"
    frame = samples[KEY].reset_index(drop=True)
    return frame.assign(
        extracted=pd.array(extracted, "string"), verdict=verdict, reason=reason, verifier=answers.VERIFIER
    )


def judgement_rows(samples: pd.DataFrame, verdicts: pd.DataFrame, problems: pd.DataFrame, judge: str) -> pd.DataFrame:
    """The judgement of every correct sample's reasoning by `exact` (nano problems) or `arithmetic` (a lower bound)."""
    correct = samples.merge(verdicts.loc[verdicts["verdict"] == "correct", KEY], on=KEY)
    question = problems.set_index("problem_id")["question"].loc[correct["problem_id"]].to_numpy()
    if judge == "exact":
        results = [judges.exact(q, text) for q, text in zip(question, correct["text"])]
    else:
        results = [judges.arithmetic(text) for text in correct["text"]]
    frame = correct[KEY].assign(judge=judge)
    frame["sound"] = pd.array([sound for sound, _ in results], "boolean")
    frame["reason"] = [reason for _, reason in results]
    return frame[JUDGEMENT_COLUMNS]
