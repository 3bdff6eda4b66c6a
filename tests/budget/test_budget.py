"""Budgets: the paper's exchange ratios, costs computed by hand, sizes read from checkpoints, and refusals."""

import json
import math
import struct
import sys
import types

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from wcse_lib.budget import costs as budget
from wcse_lib.budget.costs import (
    ModelSize,
    SampleCost,
    cost,
    exchange,
    match,
    matched_samples,
    read_model,
    read_price,
    usd,
)

PRICES = ROOT / "params" / "prices.yaml"
GEMMA_27B = ModelSize(27_000_000_000, 26_000_000_000, 27_000_000_000, 46, 4096)
GEMMA_9B = ModelSize(9_000_000_000, 8_500_000_000, 9_000_000_000, 42, 4096)


# ------------------------------------------------------------------------------------------------ the paper's numbers


@pytest.mark.parametrize(
    ("n", "se", "wc", "bought"),
    [
        (1, 27, 9, 3),
        (10, 27e9, 9e9, 30),
        (1, 10.5, 0.3, 35),
        (1, 0.3, 0.1 * 3, 1),
        (1, 0.1 * 3, 0.1, 3),
        (5, 2, 3, 3),
    ],
)
def test_matched_samples(n, se, wc, bought):
    assert matched_samples(n, se, wc) == bought


def test_five_flash_samples_cost_0_15_of_a_pro_sample():
    pro, flash = (read_price(PRICES, f"gemini-1.5-{m}") for m in ("pro", "flash"))
    assert matched_samples(1, pro["output"], flash["output"]) == 35
    assert 5 * usd(flash, 512) / usd(pro, 512) == pytest.approx(0.15, abs=0.01)


@given(st.integers(1, 10_000), st.floats(1e-9, 1e12), st.floats(1e-9, 1e12))
def test_never_overspends_and_wastes_less_than_one(n, se, wc):
    try:
        bought = matched_samples(n, se, wc)
    except ValueError:
        assert n * se < wc
    else:
        assert bought * wc <= n * se * (1 + 1e-9) < (bought + 1) * wc * (1 + 1e-8)


@pytest.mark.parametrize("bad", [0, -1, True, 1.0, 2.5, "2", None, math.nan])
def test_bad_counts_are_refused(bad):
    with pytest.raises(ValueError, match="se_samples"):
        matched_samples(bad, 27, 9)


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, True, "9", None, np.bool_(True)])
@pytest.mark.parametrize("key", ["se_cost", "wc_cost"])
def test_bad_costs_are_refused(bad, key):
    with pytest.raises(ValueError, match=key):
        matched_samples(1, **{"se_cost": 27, "wc_cost": 9, key: bad})


def test_nothing_bought_says_so_and_how_much_is_needed():
    with pytest.raises(ValueError, match=r"buys 0 samples.*at least 4 samples"):
        matched_samples(3, 1.0, 4.0)


# ------------------------------------------------------------------------------------------------ cost models


def test_sampling_flops_by_hand():
    assert budget.sampling_flops(9e9, 100) == 2 * 9e9 * 100
    assert budget.sampling_flops(9e9, 100, 40, 10, "each") == 2 * 9e9 * 1400
    assert budget.sampling_flops(9e9, 100, 40, 10, "once") == 2 * 9e9 * 1040
    assert budget.sampling_flops(9e9, 100, 40, 10, "none") == 2 * 9e9 * 1000
    assert budget.sampling_flops(9e9, 100, 40, 10, "cached") == 2 * 9e9 * 1040
    context = (
        sum(range(41, 61)) - 20 / 2
    )  # positions of 20 tokens after 40, each counted at its middle
    assert budget.sampling_flops(1, 20, 40, 1, "none", 3, 8) == 2 * 20 + 4 * 3 * 8 * context
    with pytest.raises(ValueError, match="twice"):
        budget.sampling_flops(9e9, 100, prompt="twice")
    with pytest.raises(ValueError, match="n_tokens"):
        budget.sampling_flops(9e9, -1)


def test_training_flops_and_usd_by_hand():
    assert budget.training_flops(1e9, 1000) == 6e12
    assert budget.training_flops(1e9, 1000, 1e7) == (4e9 + 2e7) * 1000
    row = {"model": "m", "input": 2.0, "output": 8.0, "cached": 0.5, "batch_discount": 0.5}
    assert usd(row, 1e6, 3e6, 1e6) == pytest.approx(8 + 2 * 2 + 0.5)
    assert usd(row, 1e6, batch=True) == pytest.approx(4)
    with pytest.raises(ValueError, match="uncached_prompt_tokens"):
        usd(row, 1, 1, 2)
    with pytest.raises(ValueError, match="no 'input'"):
        usd(read_price(PRICES, "gemini-1.5-pro"), 100, 50)


def test_unequal_lengths_by_hand():
    arms = {"se": SampleCost(300, 100, GEMMA_27B), "wc": SampleCost(450, 100, GEMMA_9B)}
    table = exchange("se", arms, 10, "once").query("arm == 'wc'").set_index("convention")
    ratio = table["exchange_ratio"]
    assert ratio["paper"] == 3 and ratio["flops"] == pytest.approx(27 * 300 / (9 * 450)) == 2
    once = (27 * (10 * 300 + 100) - 9 * 100) / (9 * 450)  # samples for ten of the reference's
    assert ratio["prompt·once"] == ratio["prompt·cached"] == pytest.approx(once / 10)
    assert ratio["prompt·each"] == pytest.approx(27 * 400 / (9 * 550))
    assert ratio["count"] == 1 and ratio["tokens"] == pytest.approx(300 / 450)
    assert np.isnan(ratio["price"]) and "price" in table.loc["price", "leaves_out"]
    assert np.isnan(ratio["seconds"]) and "device_seconds" in table.loc["seconds", "leaves_out"]
    assert "buys 0" not in " ".join(table["leaves_out"])
    assert {c.partition("·")[0] for c in table.index} == set(budget.CONVENTIONS)
    ways = {
        way: exchange("se", arms, 10, way).set_index(["convention", "arm"])["exchange_ratio"]
        for way in ("none", "each")
    }
    assert ways["none"]["prompt·once", "wc"] == ways["each"]["prompt·once", "wc"]


def test_judges_are_charged_and_conventions_named():
    arm = SampleCost(
        100,
        0,
        1e9,
        2.0,
        {"model": "m", "output": 10.0},
        judge={"usd": 0.002, "flops": 1e9, "seconds": 0.5},
    )
    assert cost(arm, "price", 4) == pytest.approx(4 * (0.001 + 0.002))
    assert (
        cost(arm, "seconds", 4) == 8
        and cost(arm, "prompt") == 2e11 + 1e9
        and cost(arm, "flops") == 2e11
    )
    both = {"se": arm, "wc": SampleCost(100, 0, 1e9)}
    notes = exchange("se", both).set_index(["convention", "arm"])["leaves_out"]
    assert "judging" in notes["price", "se"] and not any(
        "judging" in note for note in notes.xs("wc", level="arm")
    )
    with pytest.raises(ValueError, match="no convention"):
        cost(arm, "luck")
    with pytest.raises(ValueError, match="checkpoint"):
        cost(arm, "attention")
    with pytest.raises(ValueError, match="n_tokens"):
        SampleCost(0)
    with pytest.raises(ValueError, match="device_seconds"):
        SampleCost(1, device_seconds=0)
    with pytest.raises(ValueError, match="wc: another sample costs nothing"):
        match(
            "price",
            "se",
            {"se": arm, "wc": SampleCost(10, price={"model": "free", "output": 0.0})},
            1,
        )
    with pytest.raises(ValueError, match="m: price 'output' = -10"):
        cost(SampleCost(100, price={"model": "m", "output": -10}), "price")
    with pytest.raises(ValueError, match="judge.usd"):
        SampleCost(1, judge={"usd": -1})


# ------------------------------------------------------------------------------------------------ matching


def test_match_spends_all_but_part_of_a_sample():
    arms = {"se": SampleCost(300, 0, GEMMA_27B), "wc": SampleCost(280, 0, GEMMA_9B)}
    table = match("flops", "se", arms, {"low": 1, "high": 10}).set_index(["budget", "arm"])
    row = table.loc[("high", "wc")]
    assert row.n_samples == 10 * 27 * 300 // (9 * 280)
    assert 0 <= row.reference - row.planned < cost(arms["wc"], "flops")
    assert (table.loc[[("low", "se"), ("high", "se")], "n_samples"] == [1, 10]).all()
    assert match("count", "se", arms, 7)["n_samples"].tolist() == [7, 7]


def test_any_number_of_arms_and_prompts_counted_once():
    arms = {f"m{p}": SampleCost(100, 300, p * 1e9) for p in (27, 9, 3)}
    table = match("prompt", "m27", arms, 2, prompt="once").set_index("arm")
    assert table.loc["m3", "n_samples"] == (27 * (300 + 200) - 3 * 300) // (3 * 100)
    assert (table["planned"] <= table["reference"] * (1 + 1e-12)).all()
    with pytest.raises(ValueError, match="m27: the budget buys 0"):
        match("flops", "m3", arms, 1)


def test_match_by_examples_and_coverage():
    arms = {"se": SampleCost(1), "wc": SampleCost(1)}
    k = np.arange(1, 41)
    table = match("examples", "se", arms, 10, curves={"se": 0.6 * k, "wc": 0.2 * k}).set_index(
        "arm"
    )
    assert table.loc["wc", "n_samples"] == 30 and table.loc["wc", "planned"] == pytest.approx(6)
    curves = {"se": 1 - 0.5**k, "wc": 1 - 0.8**k}
    assert match("coverage", "se", arms, 2, curves=curves)["n_samples"].tolist() == [
        2,
        7,
    ]  # 1 - 0.8^7 = 0.79
    with pytest.raises(ValueError, match="wc: 40 samples miss se's coverage"):
        match("coverage", "se", arms, 30, curves=curves)
    with pytest.raises(ValueError, match="curves"):
        match("examples", "se", arms, 10)
    with pytest.raises(ValueError, match="reference = 'xl'"):
        match("count", "xl", arms, 10)


# ------------------------------------------------------------------------------------------------ prices


def test_price_table_is_sourced_and_dated(tmp_path):
    for model in ("gemini-1.5-pro", "gpt-4.1", "gemini-3.5-flash"):
        assert read_price(PRICES, model)["source"]
    with pytest.raises(ValueError, match="no price for 'nobody-1'.*Priced: .*gemini-1.5-pro"):
        read_price(PRICES, "nobody-1")
    with pytest.raises(ValueError, match="by 2020-01"):
        read_price(PRICES, "gemini-1.5-pro", "2020-01")
    path = tmp_path / "prices.yaml"
    row = '- {model: m, date: "2025-0%d", output: %s, source: s%s}\n'
    path.write_text("prices:\n" + row % (1, 2, "") + row % (3, 1, ""))
    assert read_price(path, "m")["output"] == 1 and read_price(path, "m", "2025-02")["output"] == 2
    path.write_text("prices:\n" + row.replace("%d", "%d-01") % (1, 2, ""))
    assert read_price(path, "m", "2025-01")["output"] == 2  # a month holds its days
    for output, extra, key in (
        ("-1", "", "output"),
        ("1.0e", "", "output"),
        ("1", ", ouput: 3", "ouput"),
        ("1", ", batch_discount: 1.5", "batch"),
        ("1", ", input: true", "input"),
        ("1", "}\n- {model: m, date: soon, output: 1, source: s", "date"),
        ("1", '}\n- {model: m, date: 2025-01, output: 1, source: ""', "source"),
    ):
        path.write_text("prices:\n" + row % (1, output, extra))
        with pytest.raises(ValueError, match=rf"prices.yaml: prices, row [12].*{key}"):
            read_price(path, "m")


# ------------------------------------------------------------------------------------------------ sizes


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
