"""Sizes read from checkpoints: tied and untied weights, shards, experts, damage, the hub."""

import json
import math
import random
import struct
import sys
import types

import numpy as np
import pytest

from wcse_lib.budget.checkpoints import read_model


def write_safetensors(path, shapes, dtype="F32"):
    """A safetensors file of zeros: {name: shape}."""
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [at, at := at + 4 * math.prod(shape)],
        }
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "tie_word_embeddings": False,
}
SHAPES = {
    "model.embed_tokens.weight": [10, 8],
    "lm_head.weight": [10, 8],
    "model.layers.0.mlp.weight": [8, 16],
    "model.layers.0.self_attn.q_proj.bias": [8],
    "model.rotary_emb.inv_freq": [4],
}


def checkpoint(folder, config=CONFIG, shapes=SHAPES):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", shapes)
    return folder


def test_sizes_tied_and_untied(tmp_path):
    size = read_model(checkpoint(tmp_path / "a"))
    assert (size.n_parameters, size.n_non_embedding, size.n_active) == (80 + 80 + 128 + 8, 136, 296)
    assert (size.n_layers, size.attention_width) == (2, 8)
    tied = read_model(
        checkpoint(tmp_path / "b", CONFIG | {"tie_word_embeddings": True, "head_dim": 16})
    )
    assert (tied.n_parameters, tied.n_non_embedding, tied.attention_width) == (
        80 + 128 + 8,
        136,
        32,
    )


def test_shards_and_experts(tmp_path):
    folder = checkpoint(tmp_path / "m", CONFIG | {"num_local_experts": 4, "num_experts_per_tok": 1})
    experts = {f"model.layers.0.mlp.experts.{i}.up_proj.weight": [8, 16] for i in range(4)}
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "model-1.safetensors", SHAPES)
    write_safetensors(folder / "model-2.safetensors", experts)
    index = {
        **dict.fromkeys(SHAPES, "model-1.safetensors"),
        **dict.fromkeys(experts, "model-2.safetensors"),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    size = read_model(folder)
    assert size.n_parameters == 296 + 4 * 128 and size.n_active == 296 + 128
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match="config.json: num_local_experts"):
        read_model(folder)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match="model-2.safetensors: not there"):
        read_model(folder)


def moe_of(family, rng):
    """A random small checkpoint in the form of a family: config, tensors and how many of their weights a token uses,
    counted by hand from the sizes."""
    h, m, n, k, layers, v = (rng.randint(2, 6) for _ in range(6))
    n, layers = max(n, k), layers + 1
    attention, vocabulary = 4 * h * h, v * h
    sizes = {"hidden_size": h, "num_attention_heads": 1, "num_hidden_layers": layers}
    shapes = {"model.embed_tokens.weight": [v, h], "lm_head.weight": [v, h]}
    active = 2 * vocabulary
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{part}_proj.weight": [h, h] for part in "qkvo"}
        active += attention
        if family == "gpt_oss":  # experts with biases, a router with one
            config = {**sizes, "num_local_experts": n, "num_experts_per_tok": k}
            shapes |= {f"{at}.mlp.router.weight": [n, h], f"{at}.mlp.router.bias": [n]}
            shapes |= {f"{at}.mlp.experts.gate_up_proj": [n, h, 2 * m]}
            shapes |= {f"{at}.mlp.experts.gate_up_proj_bias": [n, 2 * m]}
            shapes |= {f"{at}.mlp.experts.down_proj": [n, m, h]}
            shapes |= {f"{at}.mlp.experts.down_proj_bias": [n, h]}
            active += n * h + n + k * (2 * h * m + 2 * m + m * h + h)
        elif family == "qwen3_5_moe":  # a shared expert with a gate; a first layer that is dense
            config = {"text_config": {**sizes, "num_experts": n, "num_experts_per_tok": k}}
            if layer == 0:
                shapes |= {f"{at}.mlp.gate_proj.weight": [3 * m, h]}
                active += 3 * m * h
                continue
            shapes |= {
                f"{at}.mlp.gate.weight": [n, h],
                f"{at}.mlp.shared_expert_gate.weight": [1, h],
            }
            shapes |= {f"{at}.mlp.shared_expert.up_proj.weight": [2 * m, h]}
            shapes |= {f"{at}.mlp.experts.gate_up_proj": [n, 2 * m, h]}
            shapes |= {f"{at}.mlp.experts.down_proj": [n, h, m]}
            active += n * h + h + 2 * m * h + k * 3 * m * h
        else:  # gemma4: experts beside a dense layer
            config = {"text_config": {**sizes, "num_experts": n, "top_k_experts": k}}
            shapes |= {f"{at}.mlp.up_proj.weight": [2 * m, h]}
            shapes |= {f"{at}.router.proj.weight": [n, h], f"{at}.router.per_expert_scale": [n]}
            shapes |= {f"{at}.experts.gate_up_proj": [n, 2 * m, h]}
            shapes |= {f"{at}.experts.down_proj": [n, h, m]}
            active += 2 * m * h + n * h + n + k * 3 * m * h
    if family == "qwen3_5_moe":  # layers that guess further tokens are on disk, and unused
        shapes |= {"mtp.layers.0.mlp.experts.gate_up_proj": [n, 2 * m, h]}
    total = sum(math.prod(s) for name, s in shapes.items() if not name.startswith("mtp."))
    return config, shapes, total, active


@pytest.mark.parametrize("family", ["gpt_oss", "qwen3_5_moe", "gemma4"])
def test_active_parameters_of_mixtures_are_those_counted_by_hand(tmp_path, family):
    rng = random.Random(family)
    for number in range(20):
        config, shapes, total, active = moe_of(family, rng)
        size = read_model(checkpoint(tmp_path / str(number), config, shapes))
        assert (size.n_parameters, size.n_active) == (total, active)
        assert size.n_active <= size.n_parameters


def test_header_is_read_as_safetensors_writes_it(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    file = checkpoint(tmp_path) / "model.safetensors"
    save_file({name: np.zeros(shape, np.float16) for name, shape in SHAPES.items()}, file)
    assert read_model(tmp_path).n_parameters == 296


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "length", "long"])
def test_damaged_checkpoints_name_file_and_remedy(tmp_path, damage):
    file = checkpoint(tmp_path / "m") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {
            "cut": data[:-9],
            "empty": b"",
            "garbage": b"\x10" + bytes(7) + b"x" * 40,
            "length": b"\xff" * 8 + data[8:],
            "long": data + b".",
        }[damage]
    )
    with pytest.raises(ValueError, match=r"model\.safetensors: unreadable .*again"):
        read_model(file.parent)


def test_other_unusable_checkpoints(tmp_path):
    folder = checkpoint(tmp_path / "m")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: unreadable"):
        read_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json: not there"):
        read_model(folder)
    checkpoint(folder, {"model_type": "x"})
    with pytest.raises(ValueError, match="config.json: hidden_size"):
        read_model(folder)
    checkpoint(folder, CONFIG | {"quantization_config": {"quant_method": "gptq"}})
    write_safetensors(folder / "model.safetensors", {"model.layers.0.mlp.qweight": [8, 2]}, "I32")
    with pytest.raises(ValueError, match="qweight packs"):
        read_model(folder)


def test_hub(tmp_path, monkeypatch):
    checkpoint(tmp_path)
    tensors = {
        name: types.SimpleNamespace(dtype="BF16", shape=shape) for name, shape in SHAPES.items()
    }
    answer = types.SimpleNamespace(
        files_metadata={"model.safetensors": types.SimpleNamespace(tensors=tensors)}
    )
    hub = types.SimpleNamespace(get_safetensors_metadata=lambda name: answer)
    hub.hf_hub_download = lambda name, file: str(tmp_path / file)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    size = read_model("someone/some-model")
    assert size.n_parameters == 296

    def offline(name, file):
        raise ConnectionError("no route")

    hub.hf_hub_download = offline
    with pytest.raises(
        ValueError, match=r"someone/some-model: no such folder.*no route.*n_parameters"
    ):
        read_model("someone/some-model")
