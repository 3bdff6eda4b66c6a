"""On-policy arms, before anything is paid: what they are, and whether student and scorer have the same tokens."""

from __future__ import annotations

from pathlib import Path

from wcse_lib.sample import load_tokenizer
from wcse_lib.store import StudyError
from wcse_lib.study import Study, resolve_model

Vocabulary = dict[str, int]  # token -> its id


def check_shared_tokens(study: Study, may_fetch: bool = True) -> None:
    """Raise StudyError where a student and the model that scores what it writes have other tokens.

    A model whose tokenizer is not on this machine is passed over where nothing may be fetched.
    """
    for name, spec in study.on_policy_arms.items():
        scorer = study.arms[spec.of].model
        of_scorer = _vocabulary(scorer, may_fetch)
        for base, student in study.students.items():
            if of_scorer is None or name not in study.taught_by(base):
                continue
            own = _vocabulary(student.model, may_fetch)
            if own is not None and own != of_scorer:
                raise StudyError(
                    f"students.{base}.arms: {name} compares {student.model} and {scorer} token by token, and their "
                    f"tokenizers differ ({_difference(own, of_scorer)}); leave {name} out of students.{base}.arms, or "
                    "take a student and an arm of one family"
                )


def on_policy_sentences(study: Study) -> list[str]:
    """What every on-policy arm does, and what its students may spend."""
    return [
        f"{name} writes no samples: {spec.of}'s model scores what students write, and each may spend what "
        f"{spec.of}'s samples and the training on them cost it."
        for name, spec in study.on_policy_arms.items()
    ]


def _vocabulary(model: str, may_fetch: bool) -> Vocabulary | None:
    """A model's tokens; None where they are not here, and nothing may be fetched."""
    folder = resolve_model(model)
    try:
        return load_tokenizer(folder, may_fetch).get_vocab()
    except (OSError, ValueError):
        if may_fetch or Path(folder).is_dir():
            raise
        return None


def _difference(own: Vocabulary, of_scorer: Vocabulary) -> str:
    """How many tokens each has, and the first token that means something else."""
    counts = f"{len(own):,} against {len(of_scorer):,} tokens"
    by_id = {number: token for token, number in of_scorer.items()}
    for token, number in sorted(own.items(), key=lambda item: item[1]):
        if by_id.get(number) != token:
            return f"{counts}; token {number} is {token!r} and {by_id.get(number)!r}"
    return counts
