"""Curation: every row is accounted for, and what is chosen depends on keys and seed alone."""

import random

import pandas as pd
import pytest

from wcse_lib.store.records import KEY
from wcse_lib.verify.curate import Bounds, last_places, last_problem, left_places, select, stand_ins


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
    examples, dropped = select(frame, seed=seed, **options)
    both = pd.concat([examples[KEY], dropped[KEY]]).sort_values(KEY).reset_index(drop=True)
    pd.testing.assert_frame_equal(both, frame[KEY].sort_values(KEY).reset_index(drop=True))
    assert (dropped["reason"] != "").all() and list(dropped.columns) == [*KEY, "reason"]
    assert list(examples.columns) == list(frame.columns)
    merged = examples.merge(frame, on=KEY, suffixes=("", "_before"))
    assert (merged["text"] == merged["text_before"]).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_stand_ins_choose_as_the_texts_do(options):
    frame = pool(seed=4)
    light = stand_ins(frame, {"text", "normalised", "equations"}, seed=3)
    assert "text" not in light
    for with_texts, without in zip(
        select(frame, seed=3, **options), select(light, seed=3, **options)
    ):
        pd.testing.assert_frame_equal(with_texts[KEY], without[KEY])


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
    light = stand_ins(pool(n_problems=20), {"text", "normalised", "equations"}, seed=3)
    pieces = [
        light[light["problem_id"].isin(ids)]
        for ids in ({"p0", "p1"}, {"p2"}, {f"p{i}" for i in range(3, 20)})
    ]
    full = {
        "filter": "gold",
        "unique": "text",
        "per_problem": None,
        "n_samples": None,
        "n_problems": None,
        "n_examples": None,
        "noise": 0.0,
        "seed": 3,
    } | options
    last = last_problem(light["problem_id"], full["n_problems"], 3)
    bounds = Bounds(
        last,
        *last_places(
            [left_places(piece, last, **full) for piece in pieces],
            full["n_examples"],
            full["noise"],
        ),
    )
    parts = zip(*(select(piece, seed=3, **options, bounds=bounds) for piece in pieces))
    for part, whole in zip(parts, select(light, seed=3, **options)):
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
    assert (gold["verdict"] == "correct").all() and len(gold) == (
        (frame["verdict"] == "correct") & usable
    ).sum()
    counts = dropped["reason"].value_counts()
    assert counts["truncated"] == (~usable).sum()
    assert counts["unverifiable"] == ((frame["verdict"] == "unverifiable") & usable).sum()
    judged, dropped = select(frame, filter="judge", unique="none")
    assert len(judged) == ((frame["sound"] == True) & usable).sum()  # noqa: E712
    assert {"judged unsound", "not judged", "truncated"} == set(dropped["reason"])
    nullable = frame.assign(sound=pd.array(frame["sound"], "boolean"))
    pd.testing.assert_frame_equal(
        select(nullable, filter="judge", unique="none")[0][KEY], judged[KEY]
    )
    everything, dropped = select(
        frame.drop(columns=["verdict", "sound"]), filter="none", unique="none"
    )
    assert len(everything) == usable.sum() and set(dropped["reason"]) == {"truncated"}


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
    assert left[0] == left[1] and len(left[0]) == 4


def test_noise():
    frame = pool(n_problems=60)
    clean = select(frame, unique="none")[0]
    noisy, dropped = select(frame, unique="none", noise=0.25)
    assert len(noisy) == len(clean) and (noisy["verdict"] == "incorrect").sum() == round(
        0.25 * len(clean)
    )
    wrong = noisy[noisy["verdict"] != "correct"]
    assert (wrong["verdict"] == "incorrect").all() and wrong["extracted"].notna().all()
    assert {"over the share of right ones", "over the share of wrong ones"} <= set(
        dropped["reason"]
    )
    balanced = select(frame, n_examples=20, noise=0.1)[0]
    assert len(balanced) == 20 and (balanced["verdict"] == "incorrect").sum() == 2


def test_empty_frame_and_empty_text():
    frame = pool().head(1).assign(text="  ", finish_reason="stop")
    examples, dropped = select(frame)
    assert examples.empty and dropped["reason"].tolist() == ["empty"]
    examples, dropped = select(frame.head(0))
    assert examples.empty and dropped.empty


@pytest.mark.parametrize(
    "options,message",
    [
        ({"filter": "golden"}, "filter = 'golden'"),
        ({"unique": "hash"}, "unique = 'hash'"),
        ({"per_problem": 0}, "per_problem = 0"),
        ({"noise": 1.0}, "noise = 1.0"),
        ({"n_samples": 1.5}, "n_samples = 1.5"),
        ({"noise": 0.1, "filter": "none"}, "tells right from wrong"),
        ({"n_examples": 10_000}, "10000 right examples are needed"),
        ({"noise": 0.9}, "wrong examples are needed"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        select(pool(), **options)


def test_bad_frames_are_refused():
    frame = pool()
    with pytest.raises(ValueError, match="lacks the columns"):
        select(frame.drop(columns="verdict"))
    with pytest.raises(ValueError, match="stands twice"):
        select(pd.concat([frame, frame.head(1)]))
