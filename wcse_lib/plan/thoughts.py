"""Models whose prompts open a thought by themselves, so that their samples begin inside it."""

from __future__ import annotations

from wcse_lib.answers import opened_thought
from wcse_lib.sample import load_tokenizer, prompt_ids, prompt_text
from wcse_lib.study import DrawnArm, Prompt, Study, resolve_model


def opened_thoughts(study: Study, question: str) -> dict[str, str]:
    """The tag that ends the rendered prompt of a local model and opens a thought, by its key such as arms.wc.

    What an endpoint adds to a prompt is not known here, and what cannot be rendered is refused where it is drawn.
    """
    models = {f"students.{name}": student.model for name, student in study.students.items()}
    for name, arm in study.arms.items():
        if isinstance(arm, DrawnArm) and arm.engine == "local":
            models[f"arms.{name}"] = arm.model
    tags = {key: _opened_by(model, study.prompt, question) for key, model in models.items()}
    return {key: tag for key, tag in tags.items() if tag}


def _opened_by(model: str, prompt: Prompt, question: str) -> str:
    if prompt.style == "plain":
        return opened_thought(prompt_text(question, prompt))
    try:
        tokenizer = load_tokenizer(resolve_model(model))
        return opened_thought(tokenizer.decode(prompt_ids(tokenizer, question, prompt)))
    except (OSError, ValueError):
        return ""
