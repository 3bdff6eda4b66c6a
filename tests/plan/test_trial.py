"""01 shows every local model its prompts before anything is paid: BOS, positions, tokenizers, and what it tells."""

import json

import pytest
from made_tokenizers import CLOSE, END, OPEN, TURNS, made_checkpoint, made_tokenizer

from wcse_lib import pipeline
from wcse_lib.plan import make_plan, preview, shown_prompts
from wcse_lib.sample import read_positions
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, check_study, write_yaml

LLAMA = {"model_type": "llama"}
STUDENTS = {"students": {"small": {"model": ""}}, "training": {"amount": {"low": 1}}}


def file_of(folder, name, questions) -> str:
    """Problems `p0`, `p1` … of one solution each."""
    rows = []
    for number, question in enumerate(questions):
        row = {"id": f"p{number}", "q": question, "a": str(number), "s": f"So it is {number}."}
        rows.append(json.dumps(row) + "\n")
    (folder / name).write_text("".join(rows))
    return str(folder / name)


def study_of(folder, model, train=("1 + 1 = ?", "Zoë?"), held_out=("2 + 2 = ?",), **changes):
    """A study of one model, as both arms and, where `changes` have students, as their bases."""
    dataset = {
        "name": "files",
        "train": file_of(folder, "train.jsonl", train),
        "held_out": file_of(
            folder, "held_out.jsonl", [f"{question} (new)" for question in held_out]
        ),
        "columns": {"question": "q", "answer": "a", "problem_id": "id", "solution": "s"},
        "decontaminate": False,
    }
    data = {
        "study": "tried",
        "dataset": dataset,
        "arms": {"se": {"model": model}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1}, "match": "count"},
        "sampling": {"max_tokens": 40},
        "evaluation": {"max_tokens": 40},
    } | changes
    for student in data.get("students", {}).values():
        student["model"] = model
    return check_study(data, "tried.yaml")


def tried(tmp_path, tokenizer, prompt=None, **changes):
    """The plan's record of arm se's prompts."""
    model = made_checkpoint(tmp_path / "model", tokenizer)
    study = study_of(tmp_path, model, prompt=prompt or {}, **changes)
    return make_plan(study, tmp_path / "out").plan.prompts


# ---- one rule of BOS, in 01

WITHOUT = {  # tokenizers that add no BOS: what 02 accepted and 04 refused
    "SmolLM2's, which opens turns with it": dict(bos=OPEN),
    "BOS is EOS": dict(bos=END),
    "no BOS at all": dict(bos=None),
    "a BOS that nobody adds": dict(bos="<s>"),
}


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_a_tokenizer_that_adds_no_bos_is_served_from_01_to_04(tmp_path, name, style):
    from wcse_lib.train.encode import check_row, encode

    made = made_tokenizer(**WITHOUT[name])
    prompts = tried(tmp_path, made, {"style": style}, **STUDENTS)
    shown = prompts["students.small"]
    end_id = made.convert_tokens_to_ids(shown.end)
    row = encode(made, shown.ids, "It is 2.", 500, end_id)
    check_row(row, 0, made, end_id)
    begins_with_bos = made.bos_token is not None and shown.text.startswith(made.bos_token)
    is_named = any("has a BOS" in note and made.bos_token in note for note in shown.notes)
    assert is_named == (made.bos_token is not None and not begins_with_bos)


@pytest.mark.parametrize(
    ("template", "prompt", "message"),
    [
        (TURNS, {}, "0 BOS.*begin with {{ bos_token }}"),
        ("<s>{{ bos_token }}" + TURNS, {}, "2 BOS, 2 of them at its start.*take the BOS out"),
        (TURNS, {"style": "plain", "template": "<s>{question}"}, "2 BOS, 2 of them"),
        (TURNS, {"style": "plain", "template": "{question}<s>"}, "2 BOS, 1 of them"),
    ],
)
def test_a_bos_out_of_place_is_refused_in_01(tmp_path, template, prompt, message):
    made = made_tokenizer(template, bos="<s>", adds_bos=True)
    with pytest.raises(StudyError, match=rf"^arms\.se \(.*model\): .*{message}"):
        tried(tmp_path, made, prompt)
    assert not (tmp_path / "out").exists()


def test_a_bos_in_a_single_question_is_found_in_01(tmp_path):
    made = made_tokenizer("{{ bos_token }}" + TURNS, bos="<s>", adds_bos=True)
    model = made_checkpoint(tmp_path / "model", made)
    questions = [
        "1 + 1 = ?",
        "What is <s> in HTML?",
        "a much longer question than the one before it",
    ]
    with pytest.raises(StudyError, match="2 BOS, 1 of them at its start"):
        make_plan(study_of(tmp_path, model, held_out=questions, **STUDENTS), tmp_path / "out")


SPOILS = {
    "money": ("m.content.replace('$', '')", "Is $4 more?"),
    "what stands before a thought's end": (
        "m.content.split('</think>')[-1]",
        "What does </think> do?",
    ),
}


@pytest.mark.parametrize("where", ["train", "held_out"])
@pytest.mark.parametrize("name", SPOILS)
def test_a_template_that_spoils_a_single_question_is_refused_in_01(tmp_path, name, where):
    shown, spoiled = SPOILS[name]
    made = made_tokenizer(TURNS.replace("m.content", shown))
    model = made_checkpoint(tmp_path / "model", made)
    questions = ["1 + 1 = ?", spoiled, "a question that is longer than the one before"]
    author = {"train": r"arms\.se", "held_out": r"students\.small"}[where]
    message = rf"{author} \(.*model\): the prompt of problem \S*p1: .*template does not show"
    study = study_of(tmp_path, model, **{where: questions}, **STUDENTS)
    with pytest.raises(StudyError, match=message):
        make_plan(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- who is tried, and what is told


def test_01_shows_the_first_prompt_of_every_model(tmp_path):
    model = made_checkpoint(tmp_path / "model", made_tokenizer("{{ strftime_now('%Y') }}" + TURNS))
    judge = {"model": model, "max_tokens": 9}
    study = study_of(
        tmp_path, model, verification={"judge": "model", "model_judge": judge}, **STUDENTS
    )
    run = make_plan(study, tmp_path / "out")
    keys = ["arms.se", "arms.wc", "students.small", "verification.model_judge"]
    assert list(run.plan.prompts) == keys
    page = shown_prompts(run)
    first = run.plan.prompts["arms.se"]
    assert first.text == f"2026{OPEN}user\n1 + 1 = ?{CLOSE}\n{OPEN}assistant\n"
    assert f"{first.text}\n{len(first.ids)} token ids: {first.ids}" in page
    assert "note: its chat template prints today's date; in this study today is 2026-01-01" in page
    assert "(problem p0); answers end with '<|close|>'" in page
    assert "Rubric" in run.plan.prompts["verification.model_judge"].text


def test_endpoints_and_imports_are_not_tried(tmp_path):
    arms = {
        "se": {"model": "gpt", "engine": "openai"},
        "wc": {
            "model": "m",
            "engine": "import",
            "path": "x.jsonl",
            "columns": {"problem_id": "id"},
            "n_parameters": 1.0e6,
        },
    }
    study = study_of(tmp_path, "", arms=arms)
    from wcse_lib.plan.trial import authors

    assert authors(study, {}) == []


FAULTS = {
    "template": (made_tokenizer("{{ messages[0].role }}"), "does not show what the user says"),
    "no template": (made_tokenizer(None), "no chat template; write prompt.style: plain"),
    "end": (made_tokenizer(TURNS.replace("<|close|>", ""), eos=OPEN), "'<|open|>', opens turns"),
    "EOS in prompts": (
        made_tokenizer(TURNS.replace("m.role }}", "m.role }}{{ eos_token }}")),
        "writes eos_token into prompts",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_is_refused_in_01_and_named_in_a_dry_run(tmp_path, name):
    made, message = FAULTS[name]
    study = study_of(tmp_path, made_checkpoint(tmp_path / "model", made), **STUDENTS)
    with pytest.raises(StudyError, match=message):
        make_plan(study, tmp_path / "out")
    (line,) = [line for line in preview(study, Machine()).splitlines() if "students.small" in line]
    assert line.startswith("missing   students.small (") and message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    model = made_checkpoint(tmp_path / "model")
    for file in (tmp_path / "model").glob("*token*"):
        file.unlink()
    study = study_of(tmp_path, model)
    with pytest.raises(StudyError, match=r"arms\.se: the tokenizer in .*model cannot be read"):
        make_plan(study, tmp_path / "out")
    assert "missing   arms.se: the tokenizer in" in preview(study, Machine())


def test_a_model_that_is_on_no_disk_here_is_only_noted(tmp_path):
    arms = {"se": {"model": "someone/far-away", "n_parameters": 9.0e9}, "wc": {"model": "nano-wc"}}
    run = make_plan(study_of(tmp_path, "", arms=arms), tmp_path / "out")
    assert "arms.se (someone/far-away)\nnote: its prompts could not be tried" in shown_prompts(run)


def test_students_are_tried_before_a_pilot_is_paid(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_execute", lambda *_: pytest.fail("a notebook was run"))
    made = made_tokenizer("{{ messages[0].role }}")
    pilot = {"n_problems": 10, "n_samples": 2}
    study = study_of(tmp_path, made_checkpoint(tmp_path / "model", made), pilot=pilot, **STUDENTS)
    arms = {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}}
    data = study.model_dump(mode="json", exclude_defaults=True) | {"arms": arms}
    write_yaml(tmp_path / "tried.yaml", data)
    with pytest.raises(StudyError, match=r"students\.small"):
        pipeline.run(str(tmp_path / "tried.yaml"), "", str(tmp_path / "out"))


# ---- positions

N_AROUND = len("user\n") + len("\n") + len("assistant\n") + 3  # tokens of TURNS around a question
POSITIONS = {
    "rotary": (LLAMA | {"max_position_embeddings": 64}, 64),
    "learned": ({"model_type": "gpt2", "n_positions": 64}, 64),
    "gpt_neo": ({"model_type": "gpt_neo", "max_position_embeddings": 48}, 48),
    "of a family's own default": ({"model_type": "gpt2"}, 1024),
    "of an unknown family": ({"model_type": "none-such", "n_ctx": 64}, 64),
    "no family": ({"max_position_embeddings": 64}, 64),
    "in a text config": ({"text_config": {"max_position_embeddings": 64}}, 64),
    "in a text config of a known family": (
        {
            "model_type": "gemma3",
            "text_config": {"model_type": "gemma3_text", "max_position_embeddings": 64},
        },
        64,
    ),
    "a window that slides": (
        {"model_type": "mistral", "max_position_embeddings": 64, "sliding_window": 8},
        64,
    ),
    "linear": (
        LLAMA | {"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 2.0}},
        128,
    ),
    "dynamic": (
        LLAMA
        | {
            "max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
        },
        256,
    ),
    "yarn": (
        LLAMA
        | {
            "max_position_embeddings": 64,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        128,
    ),
    "stretched already": (
        LLAMA
        | {
            "max_position_embeddings": 64,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "original_max_position_embeddings": 16,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
        },
        64,
    ),
    "no limit": ({"model_type": "mamba"}, None),
    "-1 is no limit": ({"model_type": "none-such", "max_position_embeddings": -1}, None),
    "-1 beside a limit": ({"max_position_embeddings": -1, "seq_length": 64}, 64),
    "of a decoder that hears": ({"max_target_positions": 64, "max_source_positions": 32}, 64),
    "deep inside": ({"thinker_config": {"llm_config": {"max_seq_length": 64}}}, 64),
    "of a part about text, whatever the whole says": (
        {"max_position_embeddings": 8, "language_model_config": {"n_ctx": 64}},
        64,
    ),
    "of pictures": ({"vision_config": {"max_position_embeddings": 77}}, None),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_of_a_config(tmp_path, name):
    config, n = POSITIONS[name]
    found = read_positions(made_checkpoint(tmp_path / "model", **config))
    assert (found and found.n) == n


@pytest.mark.parametrize("config", [POSITIONS["rotary"][0], POSITIONS["learned"][0]])
def test_a_prompt_that_does_not_fit_with_its_answer_is_refused(tmp_path, config):
    model = made_checkpoint(tmp_path / "model", **config)
    fits = "?" * (64 - N_AROUND - 40)
    run = make_plan(study_of(tmp_path, model, ["?", fits]), tmp_path / "out")
    assert run.plan.prompts["arms.se"].n_longest == 24
    assert run.plan.prompts["arms.se"].longest == "p1"
    message = (
        r"^arms\.se \(.*model\): the prompt of problem p2 \(27 tokens\) and what may follow it \(sampling.max_tokens\) "
        r"are 67 tokens, more than the model's 64 positions \((max_position_embeddings|n_positions) in its "
        r"config.json\); lower sampling.max_tokens by 3 or more"
    )
    too_long = study_of(tmp_path, model, ["?", "??" + fits[2:], fits + "???"])
    with pytest.raises(StudyError, match=message):
        make_plan(too_long, tmp_path / "other")
    assert "problem p2 (27 tokens)" in preview(too_long, Machine())
    assert not (tmp_path / "other").exists()


def test_students_and_judges_have_to_hold_their_prompts_too(tmp_path):
    model = made_checkpoint(tmp_path / "model", **POSITIONS["rotary"][0])
    short = {"sampling": {"max_tokens": 20}, "evaluation": {"max_tokens": 20}}
    fits = short | STUDENTS | {"training": {"amount": {"low": 1}, "max_tokens": 2048}}
    make_plan(study_of(tmp_path, model, **fits), tmp_path / "out")  # no row can have 2,048 tokens
    faults = {
        r"evaluation\.max_tokens by": {"evaluation": {"max_tokens": 60}},
        r"students\.small .*training\.max_tokens by": {
            "sampling": {"max_tokens": 38},
            "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        },
        r"verification\.model_judge\.max_tokens by": {
            "verification": {"model_judge": {"model": model, "max_tokens": 1}}
        },
    }
    for message, change in faults.items():
        with pytest.raises(StudyError, match=message):
            make_plan(study_of(tmp_path, model, **(fits | change)), tmp_path / "other")


def test_long_solutions_are_training_rows_as_well(tmp_path):
    model = made_checkpoint(tmp_path / "model", **POSITIONS["rotary"][0])
    short = {"sampling": {"max_tokens": 5}, "evaluation": {"max_tokens": 5}} | STUDENTS
    study = study_of(tmp_path, model, ["?" * 34], **short)
    with pytest.raises(StudyError, match="training.max_tokens"):
        make_plan(study, tmp_path / "out")
    capped = short | {"training": {"amount": {"low": 1}, "max_tokens": 64}}
    make_plan(study_of(tmp_path, model, ["?" * 34], **capped), tmp_path / "out")
