"""Tokenizers of any template and any beginning, and checkpoint folders that hold one and weigh nothing."""

import json

from test_checkpoints import write_safetensors

END = "<end>"
OPEN, CLOSE = "<|open|>", "<|close|>"
# the form of most: a marker, the role, the content, another marker
TURNS = (
    "{% for m in messages %}<|open|>{{ m.role }}\n{{ m.content }}<|close|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|open|>assistant\n{% endif %}"
)


def made_tokenizer(template=TURNS, special=(OPEN, CLOSE), bos=None, adds_bos=False, eos=END):
    """A byte-level tokenizer: one token a byte, beside its special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    marks = [mark for mark in (END, eos, bos, *special) if mark]
    words = [*dict.fromkeys(marks), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if adds_bos:
        first = [(bos, words.index(bos))]
        raw.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=first)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos, eos_token=eos, extra_special_tokens=list(special)
    )
    tokenizer.chat_template = template
    return tokenizer


def made_checkpoint(folder, tokenizer=None, **config) -> str:
    """A folder of hub form with a tokenizer and next to no weights; `config` replaces or adds keys of config.json."""
    (tokenizer or made_tokenizer()).save_pretrained(folder)
    keys = {"num_hidden_layers": 1, "hidden_size": 10, "num_attention_heads": 2}
    keys |= {"tie_word_embeddings": True, **config}
    (folder / "config.json").write_text(json.dumps(keys))
    shapes = {"model.embed_tokens.weight": [100, 10], "model.layers.0.mlp.weight": [10, 100]}
    write_safetensors(folder / "model.safetensors", shapes)
    return str(folder)
