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
    path = SHOTS / f"{prompt.shots}.txt"
    path = path if path.is_file() else resolve(prompt.shots)
    try:
        text = path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(p.stem for p in SHOTS.glob("*.txt")))
        raise StudyError(
            f"prompt.shots = {prompt.shots!r}: no text file ({error}); bundled: {known}"
        ) from error
    if text.count(QUESTION) > 1:
        raise StudyError(
            f"prompt.shots: {path} has {QUESTION} {text.count(QUESTION)} times; once, at its end, is right"
        )
    return text if QUESTION in text else f"{text}\n\n{QUESTION}"


def prompt_text(question: str, prompt: Prompt) -> str:
    """What is asked: the worked examples if there are any, and the question in its template."""
    return shots(prompt).replace(QUESTION, prompt.template.replace(QUESTION, question))


def stops(prompt: Prompt) -> tuple[str, ...]:
    """Where a base model that goes on with a question of its own is cut: the words before a question, in the examples."""
    head = shots(prompt).partition(QUESTION)[0].rpartition("\n\n")[2].strip()
    return (f"\n{head}",) if prompt.style == "plain" and head else ()


def messages(question: str, prompt: Prompt) -> list[dict]:
    """The conversation that asks one question."""
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt_text(question, prompt)}]


def prompt_ids(tokenizer: Any, question: str, prompt: Prompt) -> list[int]:
    """Token ids of one prompt, through the tokenizer's chat template or as plain text.

    Templates that know `enable_thinking` are told `prompt.thinking`. Raises ValueError when the tokenizer has no chat
    template, when that refuses the conversation (some know no system message), and when the ids do not start with exactly
    one BOS although the tokenizer has one that it adds.
    """
    if prompt.style == "chat":
        if not tokenizer.chat_template:
            raise ValueError(
                "prompt.style: chat, but this tokenizer has no chat template; write prompt.style: plain"
            )
        how = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        try:
            ids = tokenizer.apply_chat_template(
                messages(question, prompt), enable_thinking=prompt.thinking, **how
            )
        except Exception as error:  # jinja's, raised by the template itself
            hint = (
                "; leave prompt.system out, or put it into prompt.template" if prompt.system else ""
            )
            raise ValueError(
                f"the model's chat template refuses this conversation: {error}{hint}"
            ) from error
    else:
        ids, bos = (
            tokenizer(prompt_text(question, prompt), add_special_tokens=True)["input_ids"],
            tokenizer.bos_token_id,
        )
        if bos not in (None, tokenizer.eos_token_id, *ids[:1]) and "bos_token" in (
            tokenizer.chat_template or ""
        ):
            ids = [bos, *ids]  # some tokenizers leave their BOS to the chat template
    check_bos(tokenizer, ids)
    return list(ids)


def check_bos(tokenizer: Any, ids: list[int]) -> None:
    """Raise ValueError unless the ids hold exactly one BOS, at the start, where the tokenizer or its template adds one.

    Where neither does, BOS may be another name of the marker that opens every turn (SmolLM2): then only a doubled start is wrong.
    """
    bos = tokenizer.bos_token_id
    if bos is None or bos == tokenizer.eos_token_id:
        return
    n = list(ids).count(bos)
    wants = tokenizer("", add_special_tokens=True)["input_ids"][:1] == [bos] or "bos_token" in (
        tokenizer.chat_template or ""
    )
    if (n != 1 or ids[0] != bos) if wants else list(ids[:2]) == [bos, bos]:
        raise ValueError(
            f"a prompt must hold exactly one BOS ({tokenizer.bos_token!r}), at its start; this one has {n}: "
            "take the BOS out of the template, or out of the tokenizer's own post-processing"
        )


def prompt_hash(prompt: Prompt, chat_template: str | None) -> str:
    """A short hash of everything that turns a question into a prompt; stands on every sample."""
    text = prompt_text(QUESTION, prompt)
    data = [
        prompt.style,
        text,
        prompt.system,
        prompt.thinking,
        chat_template if prompt.style == "chat" else None,
    ]
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]


def without_thinking(text: str) -> str:
    """A sample without its `<think>` part; empty when that was never closed."""
    return (
        text.rpartition("</think>")[2].lstrip()
        if "</think>" in text
        else text.partition("<think>")[0].strip()
    )


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a checkpoint folder or hub id."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
