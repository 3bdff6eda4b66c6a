"""Curation: every row is accounted for, and what is chosen depends on keys and seed alone."""

import random

import pandas as pd
import pytest

from wcse_lib.store import KEY
from wcse_lib.study import Curation
from wcse_lib.verdicts import as_judgements, judged_rows
from wcse_lib.verify import curate
from wcse_lib.verify.curate import Cutoffs, candidate_ranks, problem_cutoff, rank_cutoffs


def pool(n_problems=12, n_samples=8, seed=0, authors=("wc",)):
    rng = random.Random(seed)
    rows = []
    for author in authors:
        for p in range(n_problems):
            for i in range(n_samples):
                verdict = rng.choice(
                    ["correct", "correct", "correct", "incorrect", "incorrect", "unverifiable"]
                )
                text = f"So {rng.choice(['2+3=5', '3+2=5', '1+4=5'])} , {rng.choice(['done', 'Done.'])}"
                extracted = "5" if verdict == "correct" else rng.choice([None, "6", "7"])
                finish = rng.choice(["stop"] * 9 + ["length"])
                rows.append(
                    (
                        author,
                        f"p{p}",
                        i,
                        text,
                        verdict,
                        extracted,
                        finish,
                        rng.choice([True, False, None]),
                    )
                )
    columns = [*KEY, "text", "verdict", "extracted", "finish_reason", "sound"]
    return pd.DataFrame(rows, columns=columns)


SILENT = {"extracted": None, "finish_reason": "stop", "sound": None}
UNSEEN = {"n_tokens": 9, "n_prompt_tokens": 9, "model": "m", "usd": None, "reason": ""}


def judged(frame, seed=0):
    """The judged rows of samples with `text`, `verdict` and perhaps other columns of `pool`."""
    defaults = {column: value for column, value in SILENT.items() if column not in frame}
    frame = frame.assign(**UNSEEN, **defaults).reset_index(drop=True)
    judgements = as_judgements(frame, "model", [(sound, "") for sound in frame["sound"]])
    return judged_rows(frame, frame, judgements, seed)


def select(frame, seed=0, cutoffs=None, **options):
    return curate.select(judged(frame, seed), Curation(**options), seed, cutoffs)


OPTIONS = [
    {},
    {"unique": "none"},
    {"unique": "normalised", "per_problem": 2},
    {"unique": "equations", "per_problem": 1, "n_problems": 5},
    {"filter": "judge"},
    {"filter": "none", "unique": "none"},
    {"filter": "none", "n_examples": 7},
    {"n_examples": 6, "noise": 0.34},
    {"noise": 0.2, "unique": "none"},
    {"n_samples": 3, "unique": "none"},
    {"filter": "judge", "n_samples": 6, "n_examples": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_rows_in_are_rows_out(options, seed):
    frame = pool(seed=seed, authors=("se", "wc"))
    rows = judged(frame, seed)
    examples, dropped = select(frame, seed=seed, **options)
    both = pd.concat([examples[KEY], dropped[KEY]]).sort_values(KEY).reset_index(drop=True)
    pd.testing.assert_frame_equal(both, rows[KEY].sort_values(KEY).reset_index(drop=True))
    assert (dropped["reason"] != "").all()
    assert list(dropped.columns) == [*KEY, "reason"]
    pd.testing.assert_frame_equal(examples, examples[KEY].merge(rows, on=KEY))


@pytest.mark.parametrize(
    "options",
    [
        *OPTIONS,
        {"n_examples": 6, "noise": 0.34, "n_problems": 9, "n_samples": 6},
        {"n_problems": 99},
    ],
    ids=str,
)
def test_pieces_choose_as_the_whole_does(options):
    rows, choice = judged(pool(n_problems=20), seed=3), Curation(**options)
    pieces = [
        rows[rows["problem_id"].isin(ids)]
        for ids in ({"p0", "p1"}, {"p2"}, {f"p{i}" for i in range(3, 20)})
    ]
    last = problem_cutoff(rows["problem_id"], choice.n_problems, 3)
    candidates = [candidate_ranks(piece, choice, 3, last) for piece in pieces]
    cutoffs = Cutoffs(last, *rank_cutoffs(candidates, choice))
    parts = zip(*(curate.select(piece, choice, 3, cutoffs) for piece in pieces))
    for part, whole in zip(parts, curate.select(rows, choice, 3)):
        pd.testing.assert_frame_equal(pd.concat(part).sort_values(KEY, ignore_index=True), whole)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_order_of_rows_does_not_matter(options):
    frame = pool(authors=("se", "wc"))
    first = select(frame, seed=3, **options)
    second = select(frame.sample(frac=1, random_state=1), seed=3, **options)
    pd.testing.assert_frame_equal(first[0], second[0])
    pd.testing.assert_frame_equal(first[1], second[1])


def test_seed_matters():
    frame = pool()
    chosen = [tuple(select(frame, per_problem=1, seed=s)[0]["sample_index"]) for s in range(6)]
    assert len(set(chosen)) > 1


def test_filters():
    frame = pool()
    usable = frame["finish_reason"] == "stop"
    gold, dropped = select(frame, unique="none")
    assert (gold["verdict"] == "correct").all()
    assert len(gold) == ((frame["verdict"] == "correct") & usable).sum()
    counts = dropped["reason"].value_counts()
    assert counts["truncated"] == (~usable).sum()
    assert counts["unverifiable"] == ((frame["verdict"] == "unverifiable") & usable).sum()
    judged, dropped = select(frame, filter="judge", unique="none")
    assert len(judged) == ((frame["sound"] == True) & usable).sum()  # noqa: E712
    assert {"judged unsound", "not judged", "truncated"} == set(dropped["reason"])
    everything, dropped = select(frame, filter="none", unique="none")
    assert len(everything) == usable.sum()
    assert set(dropped["reason"]) == {"truncated"}


def test_unique_by_text_words_and_equations():
    texts = ["So 2+3=5", "So 2+3=5 ", "so, 2+3=5.", "Thus <<2+3=5>>5", "So 3+2=5"]
    frame = pd.DataFrame({"sample_index": range(5), "text": texts})
    frame = frame.assign(author="a", problem_id="p", verdict="correct")
    assert len(select(frame, unique="none")[0]) == 5
    assert len(select(frame, unique="text")[0]) == 4
    assert len(select(frame, unique="normalised")[0]) == 3
    assert len(select(frame, unique="equations")[0]) == 2
    two = pd.concat([frame, frame.assign(problem_id="q")])
    assert len(select(two, unique="equations")[0]) == 4  # other problems' samples are no duplicates
    assert set(select(frame, unique="equations")[1]["reason"]) == {"duplicate (equations)"}


def test_cap_and_one_per_problem():
    frame = pool(n_problems=20)
    one, dropped = select(frame, unique="none", per_problem=1)
    solved = frame[(frame["verdict"] == "correct") & (frame["finish_reason"] == "stop")][
        "problem_id"
    ].unique()
    assert sorted(one["problem_id"]) == sorted(solved)
    assert "over 1 per problem" in set(dropped["reason"])
    assert select(frame, unique="none", per_problem=3)[0]["problem_id"].value_counts().max() == 3


def test_larger_numbers_extend_smaller_ones():
    frame = pool(n_problems=30)
    for option in ("n_examples", "n_problems", "per_problem"):
        sets = [
            set(map(tuple, select(frame, seed=1, **{option: n})[0][KEY].values)) for n in (1, 2, 5)
        ]
        assert sets[0] < sets[1] < sets[2]


def test_first_problems_are_the_same_for_every_arm():
    se, wc = pool(authors=("se",), seed=1), pool(authors=("wc",), seed=2)
    left = [set(select(f, n_problems=4, filter="none", seed=9)[0]["problem_id"]) for f in (se, wc)]
    assert left[0] == left[1]
    assert len(left[0]) == 4


def test_noise():
    frame = pool(n_problems=60)
    clean = select(frame, unique="none")[0]
    noisy, dropped = select(frame, unique="none", noise=0.25)
    assert len(noisy) == len(clean)
    assert (noisy["verdict"] == "incorrect").sum() == round(0.25 * len(clean))
    wrong = noisy[noisy["verdict"] != "correct"]
    assert (wrong["verdict"] == "incorrect").all()
    assert wrong["extracted"].notna().all()
    assert {"over the share of right ones", "over the share of wrong ones"} <= set(
        dropped["reason"]
    )
    balanced = select(frame, n_examples=20, noise=0.1)[0]
    assert len(balanced) == 20
    assert (balanced["verdict"] == "incorrect").sum() == 2


def test_empty_frame_and_empty_text():
    frame = pool().head(1).assign(text="  ", finish_reason="stop")
    examples, dropped = select(frame)
    assert examples.empty
    assert dropped["reason"].tolist() == ["empty"]
    examples, dropped = select(frame.head(0))
    assert examples.empty
    assert dropped.empty


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "golden"},
        {"unique": "hash"},
        {"per_problem": 0},
        {"noise": 1.0},
        {"n_samples": 1.5},
        {"noise": 0.1, "filter": "none"},
    ],
    ids=str,
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Curation(**options)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"n_examples": 10_000}, "10000 right examples are needed"),
        ({"noise": 0.9}, "wrong examples are needed"),
    ],
)
def test_too_few_samples_are_said(options, message):
    with pytest.raises(ValueError, match=message):
        select(pool(), **options)


def test_a_repeated_key_is_refused():
    rows = judged(pool())
    with pytest.raises(ValueError, match="stands twice"):
        curate.select(pd.concat([rows, rows.head(1)]), Curation(), seed=0)
