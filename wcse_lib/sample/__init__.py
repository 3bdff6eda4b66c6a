"""02: draw samples."""

from wcse_lib.sample.chat import end_token, prints_today, template_text
from wcse_lib.sample.cluster import check_shared, each_student, not_installed, open_engine
from wcse_lib.sample.drawing import Opened, draw, opened, opened_once, progress
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.sample.engines.compiling import Compiling, told
from wcse_lib.sample.engines.hf import HFEngine, set_threads
from wcse_lib.sample.imported import STRANGER, samples_in_file, tokens_in_file
from wcse_lib.sample.lost import check_lost_share
from wcse_lib.sample.positions import Positions, read_positions
from wcse_lib.sample.prompts import (
    bos_fault,
    check_shown,
    load_tokenizer,
    prompt_ids,
    prompt_text,
    stops,
)
from wcse_lib.sample.stage import checks, first_prompt, generate, losses, three_rows
from wcse_lib.sample.strangers import NO_CODE, close_input, opening
from wcse_lib.sample.vectors import Vectors, vectors_of

__all__ = [
    "NO_CODE",
    "close_input",
    "opening",
    "Output",
    "Engine",
    "Decoding",
    "Compiling",
    "HFEngine",
    "Opened",
    "Positions",
    "Request",
    "STRANGER",
    "bos_fault",
    "check_lost_share",
    "check_shared",
    "checks",
    "draw",
    "each_student",
    "end_token",
    "first_prompt",
    "generate",
    "load_tokenizer",
    "losses",
    "not_installed",
    "open_engine",
    "opened",
    "opened_once",
    "prints_today",
    "progress",
    "check_shown",
    "prompt_ids",
    "prompt_text",
    "read_positions",
    "samples_in_file",
    "set_threads",
    "stops",
    "template_text",
    "three_rows",
    "told",
    "tokens_in_file",
    "Vectors",
    "vectors_of",
]
