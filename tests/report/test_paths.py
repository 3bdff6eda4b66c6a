"""Paths of this machine: named by what they mean, or by their last name; what only looks like a path stays."""

import pytest

from wcse_lib.report import paths


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("{root}/outputs/nano/x.csv", "outputs/nano/x.csv"),
        ("{root}/outputs2", "…/outputs2"),
        (
            "(imported from /usr/share/my/x.jsonl: how) <td>/usr/y</td>",
            "(imported from …/x.jsonl: how) <td>…/y</td>",
        ),
        ("/Users/ann/a /home/bob/b and/home/c", "~/a ~/b and/home/c"),
        ("3 km /hours/day", "3 km /hours/day"),
        ("https://usr/lib/x", "https://usr/lib/x"),
        ("<p>a</p>/</b>", "<p>a</p>/</b>"),
        ("and/usr/or", "and/usr/or"),
        ("src='data:image/png;base64,/usr/a'", "src='data:image/png;base64,/usr/a'"),
    ],
)
def test_a_path_is_named_by_what_it_means(tmp_path, text, short):
    shorten = paths.shortener(tmp_path / "outputs" / "nano")
    assert shorten(text.format(root=tmp_path)) == short


def test_data_keeps_last_names_and_loses_what_was_left_out(tmp_path):
    data = {"train": "/big/p.jsonl", "n": 3, "none": None, "list": ["/big/q.jsonl", "x"]}
    short = paths.map_text(data, paths.shortener(tmp_path))
    assert short == {"train": "…/p.jsonl", "n": 3, "list": ["…/q.jsonl", "x"]}
