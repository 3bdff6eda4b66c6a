"""What a model's chat template makes of a conversation: tried with marked words before it is trusted."""

from __future__ import annotations

import os
from datetime import datetime
from functools import lru_cache
from typing import Any

from wcse_lib.study import Prompt

Conversation = list[dict]  # messages with `role` and `content`
# What a template does to lines, capitals, or the characters of markup, JSON and Python, shows in these words.
PROBES = {
    "system": 'Speak as "Heron5" & <i>Onyx4</i> do,\nor as \\alpha.',
    "user": 'Is <b>Zebra7</b> < 8 & "Quince9"?\n\\frac{Walrus}{2}',
}
# Digits have no case that a template could change.
QUESTION, ANSWER = "8350164927", "7294610358"
SHOWN = 300  # characters of a text in a message
REMEDIES = {
    "system": "leave prompt.system out, or put it into prompt.template",
    "user": "write prompt.style: plain, or mend the template",
}


def template_text(tokenizer: Any) -> str:
    """A tokenizer's chat template; empty where it has none, the default one where it has several."""
    template = tokenizer.chat_template or ""
    return template.get("default", "") if isinstance(template, dict) else template


def prints_today(template: str) -> bool:
    """Whether a chat template asks for today's date or time."""
    return "strftime_now" in template


def chat_text(tokenizer: Any, conversation: Conversation, prompt: Prompt) -> str:
    """What the model is shown: the conversation in its tokenizer's chat template, opened for an answer.

    Contents are texts, or lists of one text part where the template shows everything only so. Raises ValueError where
    there is no template, and where it refuses the conversation, or leaves a part of it out or changes it.
    """
    template = template_text(tokenizer)
    if not template:
        raise ValueError(
            "prompt.style: chat, but this tokenizer has no chat template; write prompt.style: plain"
        )
    roles = tuple(message["role"] for message in conversation)
    own_words = Prompt(thinking=prompt.thinking, date=prompt.date)
    if _wants_parts(tokenizer, template, roles, own_words):
        return _shown(tokenizer, conversation, prompt, _in_parts(conversation))
    return _shown(tokenizer, conversation, prompt, conversation)


@lru_cache(maxsize=64)
def _wants_parts(tokenizer: Any, template: str, roles: tuple[str, ...], prompt: Prompt) -> bool:
    """Whether the template shows all of a conversation only where contents are lists of parts.

    Raises ValueError where neither form will do. (`template` is an argument for the cache: it can be replaced.)
    """
    probe = [{"role": role, "content": PROBES[role]} for role in roles]
    try:
        text, form = _shown(tokenizer, probe, prompt, probe), probe
    except ValueError as error:
        form = _in_parts(probe)
        try:
            text = _shown(tokenizer, probe, prompt, form)
        except ValueError:
            raise error from None
    if text != _shown(tokenizer, probe, prompt, form):
        raise ValueError(
            "the model's chat template makes another prompt of the same question every time; "
            f"{REMEDIES['user']}"
        )
    return form is not probe


def _in_parts(conversation: Conversation) -> Conversation:
    parts = []
    for message in conversation:
        part = {"type": "text", "text": message["content"]}
        parts.append(message | {"content": [part]})
    return parts


def _shown(tokenizer: Any, conversation: Conversation, prompt: Prompt, form: Conversation) -> str:
    """The rendering of a conversation in one form. Raises ValueError unless it shows every content as it is."""
    text = _rendered(tokenizer, form, prompt)
    folded = _folded(text)
    for message in conversation:
        role, content = message["role"], message["content"]
        if _folded(content) not in folded:
            raise ValueError(
                f"the model's chat template does not show what the {role} says as it is: {content[:SHOWN]!r} "
                f"becomes {text[:SHOWN]!r} (tried with the roles {' and '.join(PROBES)}, contents as text and as "
                f"parts); {REMEDIES[role]}"
            )
    return text


def _folded(text: str) -> str:
    """Many templates trim what they show."""
    return " ".join(text.split())


def _rendered(
    tokenizer: Any, conversation: Conversation, prompt: Prompt, opened: bool = True
) -> str:
    """A conversation in the chat template, `opened` for an answer.

    The template is given `prompt.thinking` and, instead of today, `prompt.date`: a study that goes on tomorrow must
    show the same prompts.
    """
    try:
        return tokenizer.apply_chat_template(
            conversation,
            enable_thinking=prompt.thinking,
            strftime_now=datetime.fromisoformat(prompt.date).strftime,
            add_generation_prompt=opened,
            tokenize=False,
        )
    except Exception as error:  # jinja's, raised by the template itself
        has_system = conversation[0]["role"] == "system"
        hint = f"; {REMEDIES['system']}" if has_system else ""
        raise ValueError(
            f"the model's chat template refuses this conversation: {error}{hint}"
        ) from error


# ---------------------------------------------------------------------- the end of a turn


def end_token(tokenizer: Any, style: str = "chat") -> int:
    """The id of the token that ends an assistant's turn, never of one that opens a turn.

    That is the first special token that the chat template sets after an answer (Gemma's <end_of_turn>, Llama's
    <|eot_id|>, Qwen's <|im_end|>); in `plain` prompts, and where there is none, EOS. Raises ValueError where there is
    no EOS either, or where EOS opens turns.
    """
    eos, openers = tokenizer.eos_token_id, _openers(tokenizer)
    if style == "chat":
        for token_id in _after_answer(tokenizer):
            if token_id not in openers:
                return token_id
    if eos is None:
        raise ValueError(
            "the tokenizer has no EOS and its chat template ends no turn: no student could learn to stop"
        )
    if eos in openers:
        raise ValueError(
            f"the tokenizer's EOS, {tokenizer.eos_token!r}, opens turns in its chat template: no student could learn "
            "to stop; let eos_token in its tokenizer_config.json be the token that ends them"
        )
    return eos


def _openers(tokenizer: Any) -> set[int]:
    """Special tokens that open a turn: those that ask for an answer, and a conversation's first (no BOS or EOS)."""
    question = [{"role": "user", "content": QUESTION}]
    closed = _ids(tokenizer, _rendered_or_nothing(tokenizer, question, opened=False))
    opened = _ids(tokenizer, _rendered_or_nothing(tokenizer, question, opened=True))
    n_same = len(os.path.commonprefix([closed, opened]))
    openers = set(opened[n_same:])
    first = next((i for i in closed if i != tokenizer.bos_token_id), None)
    if first != tokenizer.eos_token_id:
        openers.add(first)
    return openers & _special_ids(tokenizer)


def _after_answer(tokenizer: Any) -> list[int]:
    """Special tokens behind an answer, without what opens the next turn.

    Of two answers in one conversation what ends the second one also stands behind the first, or nowhere before.
    """
    turn = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    special = _special_ids(tokenizer)
    for n_answers in (2, 1):  # some templates take no more than one
        for conversation in (turn * n_answers, _in_parts(turn * n_answers)):
            text = _rendered_or_nothing(tokenizer, conversation, opened=False)
            before, *pieces = text.split(ANSWER)
            if len(pieces) != n_answers:
                continue
            # Behind the first answer only what stands before the next question.
            ends = [_ids(tokenizer, piece.partition(QUESTION)[0]) for piece in pieces]
            known = set(_ids(tokenizer, before))
            return [i for i in ends[-1] if i in special and (i in ends[0] or i not in known)]
    return []


def _rendered_or_nothing(tokenizer: Any, conversation: Conversation, opened: bool) -> str:
    try:
        return _rendered(tokenizer, conversation, Prompt(), opened)
    except ValueError:  # no template, or one that knows no such roles
        return ""


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens, without BOS where that is no other name of EOS."""
    special = set(tokenizer.all_special_ids)
    for token_id, token in tokenizer.added_tokens_decoder.items():
        if token.special:
            special.add(token_id)
    no_mark = {tokenizer.bos_token_id, tokenizer.unk_token_id} - {tokenizer.eos_token_id}
    return special - no_mark
