"""Which comparison will be the headline, and for how many the others are corrected: said before anything is drawn."""

from __future__ import annotations

from math import comb

from wcse_lib.study import Study


def n_comparisons(study: Study) -> int:
    """How many comparisons of arms the answer makes: each pair at each budget."""
    return comb(len(study.arms), 2) * len(study.budget.samples)


def headline_sentences(study: Study) -> list[str]:
    """What 06 will answer: the primary comparison, or all as one family; and how often it may be looked at."""
    if not study.students:
        return [
            "This study has no students: it will be answered by the arms' coverage, sound coverage, examples and false"
            " positives at equal budget, and cannot tell which data train better."
        ]
    sentences = [_headline(study)]
    seeds, looks = study.training.seeds, study.training.looks
    n_seeds = f"{len(seeds)} training seeds" if len(seeds) > 1 else "one training seed"
    allowed = "once" if looks == 1 else f"{looks} times, and p is multiplied by {looks}"
    sentences.append(
        f"It rests on {n_seeds}. While seeds are added it may be looked at {allowed} (training.looks); a later look"
        " shows nothing new."
    )
    return sentences


def _headline(study: Study) -> str:
    primary, n_pairs = study.primary, n_comparisons(study)
    if n_pairs == 0:
        return "This study has one arm: there is nothing to compare."
    if primary is None:
        return (
            "No comparison is named as primary: each pair of arms at each budget, on average over all students, is one"
            f" of {n_pairs} that are corrected together (Holm)."
        )
    whose = f"student {primary.base}" if primary.base else "the mean over all students"
    others = "there are no others"
    n_others = n_pairs if primary.base else n_pairs - 1
    if n_others:
        others = f"{n_others} others are secondary, and corrected among themselves (Holm)"
    return (
        f"The headline is {primary.arms[0]} against {primary.arms[1]} at the budget “{primary.budget}”, of {whose}:"
        f" named before anything is drawn, it is tested by itself; {others}."
    )
