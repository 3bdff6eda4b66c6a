"""Factories that the tests of several folders share: rows, plans and studies as the kit writes them."""


def sample_row(sample_index: int, **more) -> dict:
    """A row of a samples file; `more` replaces or adds columns."""
    return {
        "author": "a",
        "problem_id": "p",
        "sample_index": sample_index,
        "seed": sample_index,
        "text": f"t{sample_index}",
        "n_prompt_tokens": 1,
        "n_tokens": 2,
        "finish_reason": "stop",
        "engine": "hf",
        "model": "m",
        "prompt_hash": "h",
        "error": "",
        "usd": None,
        **more,
    }
