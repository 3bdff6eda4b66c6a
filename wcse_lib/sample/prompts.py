"""The one text a model is shown, as token ids under one rule of BOS: the same in sampling, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

from wcse_lib.sample.chat import QUESTION as PLAIN_QUESTION
from wcse_lib.sample.chat import chat_text, prints_today, template_text
from wcse_lib.sample.strangers import NO_CODE, opening
from wcse_lib.store import StudyError
from wcse_lib.study import Prompt, resolve

SHOTS = Path(__file__).parent / "shots"
QUESTION = "{question}"


def shots(prompt: Prompt) -> str:
    """The worked examples of a prompt, as text with one `{question}` where the question goes.

    `prompt.shots` names a bundled file (math_4shot, gsm8k_8shot) or a text file of the user's; where that has no
    `{question}`, the question follows after an empty line. Raises StudyError when it is neither, or has it twice.
    """
    if prompt.shots is None:
        return QUESTION
    bundled = SHOTS / f"{prompt.shots}.txt"
    path = bundled if bundled.is_file() else resolve(prompt.shots)
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(file.stem for file in SHOTS.glob("*.txt")))
        raise StudyError(
            f"prompt.shots = {prompt.shots!r}: no text file ({error}); bundled: {names}"
        ) from error
    if text.count(QUESTION) > 1:
        raise StudyError(
            f"prompt.shots: {path} has {QUESTION} {text.count(QUESTION)} times; once, at its end, is right"
        )
    return text if QUESTION in text else f"{text}\n\n{QUESTION}"


def prompt_text(question: str, prompt: Prompt) -> str:
    """The worked examples if there are any, and the question in its template.

    >>> prompt_text("1+1?", Prompt(template="{question} Think."))
    '1+1? Think.'
    """
    asked = prompt.template.replace(QUESTION, question)
    return shots(prompt).replace(QUESTION, asked)


def stops(prompt: Prompt, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Texts that end a sample of an arm or a student: the style's own, and `more` (`sampling.stop`).

    The style's own cuts a base model that goes on with a question of its own: the words before one in the examples.
    """
    before_question = shots(prompt).partition(QUESTION)[0]
    head = before_question.rpartition("\n\n")[2].strip()
    own = [f"\n{head}"] if prompt.style == "plain" and head else []
    return tuple(dict.fromkeys([*own, *more]))


def messages(question: str, prompt: Prompt) -> list[dict]:
    """The conversation that asks one question."""
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt_text(question, prompt)}]


def prompt_ids(tokenizer: Any, question: str, prompt: Prompt) -> list[int]:
    """Token ids of one prompt, through the tokenizer's chat template or as plain text: in sampling, training and tests.

    Raises ValueError when the chat template is missing or does not show all of the conversation as it is (see
    `chat_text`), and when the ids break the rule of BOS (see `check_bos`).
    """
    if prompt.style == "chat":
        text = chat_text(tokenizer, messages(question, prompt), prompt)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(prompt_text(question, prompt), add_special_tokens=True)["input_ids"]
        if leaves_bos_to_template(tokenizer) and ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
    check_bos(tokenizer, ids)
    return list(ids)


def check_shown(tokenizer: Any, problems: Iterable[tuple[str, str]], prompt: Prompt) -> None:
    """Render the question of every problem (id, question), without making ids of it: 20,000 take seconds.

    Raises ValueError as `chat_text` does, naming the problem where the fault is not every question's.
    """
    if prompt.style != "chat":
        return
    chat_text(tokenizer, messages(PLAIN_QUESTION, prompt), prompt)
    for problem_id, question in problems:
        try:
            chat_text(tokenizer, messages(question, prompt), prompt)
        except ValueError as error:
            raise ValueError(f"the prompt of problem {problem_id}: {error}") from error


def adds_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer puts its BOS before every text."""
    ids = tokenizer("", add_special_tokens=True)["input_ids"]
    return ids[:1] == [tokenizer.bos_token_id]


def leaves_bos_to_template(tokenizer: Any) -> bool:
    """Whether the chat template names a BOS, so that plain texts need it, too; none that is but another name of EOS."""
    is_named = "bos_token" in template_text(tokenizer)
    return is_named and tokenizer.bos_token_id not in (None, tokenizer.eos_token_id)


def check_bos(tokenizer: Any, ids: list[int]) -> None:
    """Raise ValueError where `bos_fault` finds a fault."""
    if fault := bos_fault(tokenizer, ids):
        raise ValueError(fault)


def bos_fault(tokenizer: Any, ids: list[int]) -> str:
    """What is wrong with a prompt's BOS, else an empty text: the one rule of sampling, training and tests.

    A prompt begins with BOS, once, where the tokenizer puts one before every text; else it may do without. Two at the
    start are wrong everywhere. Further inside BOS stands only where it marks turns (SmolLM2) or is EOS.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return ""
    n = list(ids).count(bos)
    n_leading = len(list(takewhile(lambda token_id: token_id == bos, ids)))
    marks_turns = bos == tokenizer.eos_token_id or tokenizer.bos_token in template_text(tokenizer)
    if n_leading > 1 or (n > n_leading and not marks_turns):
        remedy = "take the BOS out of question, prompt.template, chat template or the tokenizer's post-processor"
    elif not n_leading and adds_bos(tokenizer):
        remedy = "let the chat template begin with {{ bos_token }}, as this tokenizer begins every text with it"
    else:
        return ""
    return (
        f"a prompt must hold exactly one BOS ({tokenizer.bos_token!r}), at its start; this one has {n} BOS, "
        f"{n_leading} of them at its start: {remedy}"
    )


def prompt_hash(prompt: Prompt, chat_template: str | dict | None) -> str:
    """A short hash of everything that turns a question into a prompt; stands on every sample."""
    template = chat_template if prompt.style == "chat" else None
    text = prompt_text(QUESTION, prompt)
    parts = [prompt.style, text, prompt.system, prompt.thinking, template]
    if prints_today(str(template)):
        parts.append(prompt.date)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def load_tokenizer(model: str, may_fetch: bool = True) -> Any:
    """The tokenizer of a checkpoint folder or hub id. Raises StudyError where that needs code of a stranger's."""
    from transformers import AutoTokenizer

    with opening(model):
        return AutoTokenizer.from_pretrained(model, local_files_only=not may_fetch, **NO_CODE)
