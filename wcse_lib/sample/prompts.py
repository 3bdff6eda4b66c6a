"""The one text a model is shown, as token ids with exactly one BOS: the same in sampling, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
        text = path.read_text(encoding="utf-8").rstrip()
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


def stops(prompt: Prompt) -> tuple[str, ...]:
    """Where a base model that goes on with a question of its own is cut: the words before one in the examples."""
    before_question = shots(prompt).partition(QUESTION)[0]
    head = before_question.rpartition("\n\n")[2].strip()
    return (f"\n{head}",) if prompt.style == "plain" and head else ()


def messages(question: str, prompt: Prompt) -> list[dict]:
    """The conversation that asks one question."""
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt_text(question, prompt)}]


def prompt_ids(tokenizer: Any, question: str, prompt: Prompt) -> list[int]:
    """Token ids of one prompt, through the tokenizer's chat template or as plain text.

    Templates that know `enable_thinking` are given `prompt.thinking`. Raises ValueError when the tokenizer has no chat
    template, when that refuses the conversation (some know no system message), and when the ids do not start with
    exactly one BOS although the tokenizer has one that it adds.
    """
    if prompt.style == "chat":
        ids = _chat_ids(tokenizer, question, prompt)
    else:
        ids = tokenizer(prompt_text(question, prompt), add_special_tokens=True)["input_ids"]
        bos = tokenizer.bos_token_id
        has_bos = bos in (None, tokenizer.eos_token_id, *ids[:1])
        if not has_bos and _template_adds_bos(tokenizer):
            ids = [bos, *ids]
    check_bos(tokenizer, ids)
    return list(ids)


def _chat_ids(tokenizer: Any, question: str, prompt: Prompt) -> list[int]:
    if not tokenizer.chat_template:
        raise ValueError(
            "prompt.style: chat, but this tokenizer has no chat template; write prompt.style: plain"
        )
    try:
        return tokenizer.apply_chat_template(
            messages(question, prompt),
            enable_thinking=prompt.thinking,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except Exception as error:  # jinja's, raised by the template itself
        hint = "; leave prompt.system out, or put it into prompt.template" if prompt.system else ""
        raise ValueError(
            f"the model's chat template refuses this conversation: {error}{hint}"
        ) from error


def _template_adds_bos(tokenizer: Any) -> bool:
    """Some tokenizers leave their BOS to the chat template."""
    return "bos_token" in (tokenizer.chat_template or "")


def check_bos(tokenizer: Any, ids: list[int]) -> None:
    """Raise ValueError unless the ids hold exactly one BOS, at the start, where the tokenizer or its template adds one.

    Where neither does, BOS may be another name of the marker that opens every turn (SmolLM2): then only a doubled start
    is wrong.
    """
    bos = tokenizer.bos_token_id
    if bos is None or bos == tokenizer.eos_token_id:
        return
    ids = list(ids)
    n = ids.count(bos)
    tokenizer_adds_bos = tokenizer("", add_special_tokens=True)["input_ids"][:1] == [bos]
    if tokenizer_adds_bos or _template_adds_bos(tokenizer):
        is_wrong = n != 1 or ids[0] != bos
    else:
        is_wrong = ids[:2] == [bos, bos]
    if is_wrong:
        raise ValueError(
            f"a prompt must hold exactly one BOS ({tokenizer.bos_token!r}), at its start; this one has {n}: "
            "take the BOS out of the template, or out of the tokenizer's own post-processing"
        )


def prompt_hash(prompt: Prompt, chat_template: str | None) -> str:
    """A short hash of everything that turns a question into a prompt; stands on every sample."""
    template = chat_template if prompt.style == "chat" else None
    text = prompt_text(QUESTION, prompt)
    parts = [prompt.style, text, prompt.system, prompt.thinking, template]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a checkpoint folder or hub id."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
