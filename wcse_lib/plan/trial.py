"""Every local model is shown the study's prompts before anything is paid: all as text, doubtful ones as token ids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wcse_lib.answers import opened_thought
from wcse_lib.sample import (
    Positions,
    check_shown,
    end_token,
    load_tokenizer,
    prints_today,
    prompt_ids,
    prompt_text,
    read_positions,
    template_text,
)
from wcse_lib.store import StudyError, visible
from wcse_lib.study import DrawnArm, Prompt, Run, Study, TriedPrompts, resolve_model
from wcse_lib.verify import case, judge_prompt

Splits = dict[str, pd.DataFrame]
JUDGE = "verification.model_judge"
NOT_HERE = "its prompts could not be tried: its tokenizer is not on this machine"
# Where a dry run cannot read the problems.
NO_PROBLEMS = pd.DataFrame([{"problem_id": "an example", "question": "1 + 1 = ?", "reference": ""}])


@dataclass(frozen=True)
class Asked:
    """What a model is asked: `problem_id`, `question` and, in `after`, a text that may follow it (training rows).

    `n_new` is the most tokens that follow a prompt, as `key` of the params file says, and `most` the most in all.
    """

    problems: pd.DataFrame
    n_new: int
    key: str
    most: float = math.inf

    @property
    def first_question(self) -> str:
        return self.problems["question"].iloc[0]


@dataclass(frozen=True)
class Author:
    """A local model of the study, by its key in the params file; `prompt` is None of a judge, whose rubric it is."""

    key: str
    model: str
    prompt: Prompt | None
    asked: list[Asked]
    is_trained: bool = False

    @property
    def first_question(self) -> str:
        return self.asked[0].first_question


def authors(study: Study, splits: Splits) -> list[Author]:
    """The models that are run here: drawn arms, students and a judge. Mixes and adaptive arms draw by other arms'."""
    train = _problems(splits, "train")
    n_sample, prompt = study.sampling.max_tokens, study.prompt
    sampled = Asked(train.assign(after=""), n_sample, "sampling.max_tokens")
    found = []
    for name, arm in study.arms.items():
        if isinstance(arm, DrawnArm) and arm.engine == "local":
            found.append(Author(f"arms.{name}", arm.model, prompt, [sampled]))
    own_prompt = study.prompt_of_students
    for name, student in study.students.items():
        key, asked = f"students.{name}", _of_students(study, splits)
        found.append(Author(key, student.model, own_prompt, asked, is_trained=True))
        if own_prompt != prompt:  # its untouched base is tested with the arms' prompt
            found.append(Author(f"{key}.base", student.model, prompt, asked[:1]))
    judge = study.verification.model_judge
    if judge and judge.engine == "local":
        cases = [case(question, "") for question in train["question"]]
        n_new = n_sample + judge.max_tokens
        asked = Asked(train.assign(question=cases, after=""), n_new, f"{JUDGE}.max_tokens")
        found.append(Author(JUDGE, judge.model, None, [asked]))
    return found


def _of_students(study: Study, splits: Splits) -> list[Asked]:
    """Tests, and training rows: samples and reference solutions of training problems."""
    tested = [_problems(splits, split) for split in ("held_out", "validation")]
    tests = _or_example(pd.concat(tested, ignore_index=True)).assign(after="")
    train = _problems(splits, "train")
    after = train["reference"] if study.controls.reference else ""
    n_sample = study.sampling.max_tokens + 1  # its end token is trained, too
    return [
        Asked(tests, study.evaluation.max_tokens, "evaluation.max_tokens"),
        Asked(
            train.assign(after=after),
            n_sample,
            "training.max_tokens",
            most=study.training.max_tokens,
        ),
    ]


def _problems(splits: Splits, split: str) -> pd.DataFrame:
    return splits.get(split, NO_PROBLEMS)[list(NO_PROBLEMS)]


def _or_example(problems: pd.DataFrame) -> pd.DataFrame:
    """An example where there are none, of which a dry run tells elsewhere."""
    return NO_PROBLEMS if problems.empty else problems


def try_author(author: Author, may_fetch: bool = True) -> TriedPrompts:
    """Show a model its prompts, and say what it sees.

    Raises StudyError naming the author where its tokenizer cannot be read, its chat template spoils any question,
    `prompt_ids` or `end_token` refuses, or a prompt with what may follow it is longer than the model's positions. Only
    a model that is not on this machine is merely noted.
    """
    model = resolve_model(author.model)
    try:
        tokenizer = load_tokenizer(model, may_fetch)
    except StudyError as error:
        raise StudyError(f"{author.key}: {error}") from None
    except Exception as error:  # of many classes
        if not Path(model).is_dir():
            return TriedPrompts(model=author.model, notes=[NOT_HERE])
        why = " ".join(str(error).split())[:200]
        raise StudyError(
            f"{author.key}: the tokenizer in {model} cannot be read ({why}); save it there by save_pretrained"
        ) from error
    prompt = author.prompt or judge_prompt(has_template=bool(tokenizer.chat_template))
    positions = read_positions(model, may_fetch)
    try:
        for asked in author.asked:
            problems = zip(asked.problems["problem_id"], asked.problems["question"], strict=True)
            check_shown(tokenizer, problems, prompt)
        first = prompt_ids(tokenizer, author.first_question, prompt)
        longest = [_longest(asked, tokenizer, prompt, positions) for asked in author.asked]
        end = _end(tokenizer, prompt, author.first_question) if author.is_trained else None
    except ValueError as error:
        raise StudyError(f"{author.key} ({author.model}): {error}") from error
    n_longest, problem_id = max(longest)
    return TriedPrompts(
        model=author.model,
        text=tokenizer.decode(first),
        ids=first,
        n_longest=n_longest,
        longest=problem_id,
        n_positions=positions and positions.n,
        end=end,
        notes=_notes(tokenizer, prompt, first),
    )


def _longest(
    asked: Asked, tokenizer: Any, prompt: Prompt, positions: Positions | None
) -> tuple[int, str]:
    """Tokens and problem of the longest prompt of those that are tried. Raises ValueError where one is too long."""
    problems, n_first = asked.problems, len(prompt_ids(tokenizer, asked.first_question, prompt))
    room = math.inf
    if positions and asked.most > positions.n:
        room = positions.n - asked.n_new - n_first
    tried = []
    for problem in _doubtful(problems, room, tokenizer.bos_token).itertuples():
        n_prompt = len(prompt_ids(tokenizer, problem.question, prompt))
        n_after = len(tokenizer(problem.after, add_special_tokens=False)["input_ids"]) + 1
        n_all = min(n_prompt + max(asked.n_new, n_after), asked.most)
        tried.append((n_all, n_prompt, problem.problem_id))
    n_all, n_prompt, problem_id = max(tried)
    if positions and n_all > positions.n:
        raise ValueError(
            f"the prompt of problem {problem_id} ({n_prompt} tokens) and what may follow it ({asked.key}) are {n_all} "
            f"tokens, more than the model's {positions.n} positions ({positions.key} in its config.json); lower "
            f"{asked.key} by {n_all - positions.n} or more, shorten the prompts, or take a model that holds more"
        )
    return n_prompt, problem_id


def _doubtful(problems: pd.DataFrame, room: float, bos: str | None) -> pd.DataFrame:
    """The first problem, the longest one, and all that could be refused.

    A token is at least a byte, so that a text of no more bytes than `room` cannot be too long.
    """
    texts = problems["question"] + problems["after"]
    sizes = texts.map(lambda text: len(text.encode(errors="replace")))
    is_tried = (sizes > room) | (sizes == sizes.max())
    if bos:
        is_tried |= problems["question"].str.contains(bos, regex=False)
    is_tried.iloc[0] = True
    return problems[is_tried]


def _end(tokenizer: Any, prompt: Prompt, question: str) -> str:
    """What a student's answer ends with. Its tokenizer takes this for its EOS, which must not change the prompts.

    Raises ValueError where it does.
    """
    before = prompt_ids(tokenizer, question, prompt)
    end = tokenizer.convert_ids_to_tokens(end_token(tokenizer, prompt.style))
    tokenizer.eos_token = end
    if prompt_ids(tokenizer, question, prompt) != before:
        raise ValueError(
            f"its chat template writes eos_token into prompts, but ends answers with {end!r}: once students stop there "
            "05 would show them other prompts than 04; write the token itself into the template"
        )
    return end


def _notes(tokenizer: Any, prompt: Prompt, first: list[int]) -> list[str]:
    """What a person should know of these prompts."""
    notes, bos = [], tokenizer.bos_token
    if bos is not None and first[:1] != [tokenizer.bos_token_id]:
        notes.append(
            f"its tokenizer has a BOS, {bos!r}, and puts none before these prompts; that is right where the model was "
            "trained so (SmolLM2, GPT-2); where it was not (Gemma, Llama), mend the tokenizer's post-processor"
        )
    if prompt.style == "chat" and prints_today(template_text(tokenizer)):
        notes.append(
            f"its chat template prints today's date; in this study today is {prompt.date} (prompt.date)"
        )
    return notes


def opened_thoughts(
    study: Study, question: str, prompts: dict[str, TriedPrompts]
) -> dict[str, str]:
    """The tag that ends the prompts of an arm or student and opens a thought, by its key such as arms.wc.

    What an endpoint adds to a prompt is not known here, and neither is the template of a model that is not here.
    """
    is_plain = study.prompt.style == "plain"
    tags = {}
    for key, tried in prompts.items():
        text = prompt_text(question, study.prompt) if is_plain else tried.text
        tag = opened_thought(text)
        if tag and key != JUDGE:
            tags[key] = tag
    return tags


# ---------------------------------------------------------------------- for people


def shown_prompts(run: Run) -> str:
    """Of every local model the first prompt as text and token ids, the longest one's length, and what to know."""
    texts = []
    for key, tried in run.plan.prompts.items():
        lines = [f"--- {key} ({tried.model})"]
        if tried.ids:
            limit = f" of {tried.n_positions} positions" if tried.n_positions else ""
            end = f"; answers end with {tried.end!r}" if tried.end else ""
            lines += [tried.text, f"{len(tried.ids)} token ids: {tried.ids}"]
            lines.append(
                f"longest prompt: {tried.n_longest} tokens{limit} (problem {tried.longest}){end}"
            )
        lines += [f"note: {note}" for note in tried.notes]
        texts.append("\n".join(lines))
    return visible("\n\n".join(texts)) or "No model is run here: nothing to show."


def prompt_notes(prompts: dict[str, TriedPrompts]) -> list[str]:
    """What a person should know of the models' prompts, a sentence each."""
    sentences = []
    for key, tried in prompts.items():
        sentences += [f"{key} ({tried.model}): {note}" for note in tried.notes]
    return sentences
