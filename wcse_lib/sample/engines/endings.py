"""How a sample ended, read from any server's word for it: one table, in which case and separators do not count."""

from __future__ import annotations

import re
from enum import StrEnum


class Ending(StrEnum):
    """What a finish reason means."""

    STOP = "stop"  # the model came to an end
    LENGTH = "length"  # it was cut
    FILTERED = "a content filter or a refusal"
    TOOL = "a call of a tool"
    FAILED = "a failure of the server"
    MISSING = "no finish reason"
    UNKNOWN = "a finish reason that is not known here"


# The first row whose pattern is found in a reason's lower-case words decides. Gathered from the APIs of OpenAI,
# Anthropic, Google, Mistral, Cohere, Bedrock, AI21, watsonx, Aleph Alpha, DeepSeek, Zhipu, xAI and Yandex, and from
# vLLM, SGLang, TGI, llama.cpp, Ollama and LM Studio. So MAX_TOKENS, model_length and maxTokensReached are one.
WORDS = {
    Ending.MISSING: r"^(null|none|undefined)?$",
    Ending.FILTERED: (
        r"filter|safety|unsafe|recitation|refus|block|prohibit|guardrail|toxic|sensitive|moderat|spii"
        r"|policy|blacklist|censor|copyright|armor|\bharm|violation|jailbreak|\bpii|^language$"
    ),
    Ending.TOOL: r"tool|function",
    Ending.FAILED: (
        r"error|fail|abort|cancel|time ?out|time ?limit|overload|unavailable|resource|malformed|invalid"
        r"|interrupt|load|network|preempt|disconnect|unspecified|crash|kill|shutdown|user ?stop|quota"
        r"|not ?finished|unfinished|unsuccess|abnormal|pause|progress|pending|queued"
    ),
    Ending.LENGTH: r"length|out of tokens|\bmax|limit|trunc|exceed|window|incomplete|\bcut|too ?long|budget|context",
    Ending.STOP: r"stop|\beos|\beot|\bend|complet|finish|\bdone|normal|natural|success|\bfinal|im end",
}
PREFIX = re.compile(r"^(finish )?reason (?=\w)")  # of enumerations: FINISH_REASON_STOP


def ending(reason: object) -> Ending:
    """What a server's finish reason means, whatever its spelling.

    >>> [str(ending(word)) for word in ("end_turn", "MAX_TOKENS", "FINISH_REASON_STOP", "maxPredictedTokensReached")]
    ['stop', 'length', 'stop', 'length']
    """
    if reason is None:
        return Ending.MISSING
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(reason))
    words = re.sub(r"[^a-z0-9]+", " ", spaced.lower()).strip()
    words = PREFIX.sub("", words)
    for meaning, pattern in WORDS.items():
        if re.search(pattern, words):
            return meaning
    return Ending.UNKNOWN
