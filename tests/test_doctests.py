"""Every example in a docstring gives what it shows."""

import doctest
import importlib

import pytest
from conftest import ROOT

FILES = [
    path for path in sorted((ROOT / "wcse_lib").rglob("*.py")) if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0
