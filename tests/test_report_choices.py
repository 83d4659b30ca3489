"""The plots of choices and of IDs over time, by hand."""

import numpy as np

from semid.comparison.summary import Spread
from semid.drift_verdicts import Limits
from semid.report import (
    churn_by_level,
    code_shift,
    drift_over_time,
    planned_levels,
    quantizer_tradeoff,
    shares_by_prefix,
)


def candidate(levels, error, low, uniqueness, high):
    return {
        **{"levels": levels, "error": error, "uniqueness": uniqueness},
        "uniqueness_range": [low, high],
    }


def test_candidates_stand_by_number_of_levels_with_the_recommended_filled():
    plan = {
        "candidates": [
            candidate([8, 8], 0.5, 0.25, 0.5, 0.625),
            candidate([16, 16], 0.25, 0.75, 0.75, 0.75),
            candidate([8, 8, 8], None, 0.5, 0.5, 0.5),
            candidate([4, 2, 4], 0.375, 0.5, 0.5, 0.5),
        ],
        "recommendation": {"levels": [16, 16], "goal": 0.7},
    }
    two, three = planned_levels(plan).data
    assert (two.name, three.name) == ("2 levels", "3 levels")
    assert list(zip(two.text, two.x, two.y, two.marker.symbol, strict=True)) == [
        ("16", 0.25, 0.75, "circle"),
        ("8", 0.5, 0.5, "circle-open"),
    ]
    assert (two.error_y.arrayminus, two.error_y.array) == ((0, 0.25), (0, 0.125))
    assert three.text == ("4,2,4",)  # the other has no error
    assert planned_levels(plan).layout.shapes[0].y0 == 0.7


def summary(name, error, unique, best):
    held = [None if error is None else Spread(*error)]
    raw = None if unique is None else Spread(unique, unique, unique)
    return {"quantizer": name, "held_out_error": held, "raw_uniqueness": raw, "best": best}


def test_quantizers_stand_at_their_medians_with_ranges():
    figure = quantizer_tradeoff(
        [
            summary("rqvae", (0.5, 0.25, 0.625), 0.75, True),
            summary("vae", (0.1, 0.1, 0.1), None, False),
            summary("random", (1.0, 1.0, 1.0), 1.0, False),
        ]
    )
    first, second = figure.data
    assert (first.name, first.x, first.y, first.marker.symbol) == (
        *("rqvae", (0.5,), (0.75,)),
        ("circle",),
    )
    assert (first.error_x.arrayminus, first.error_x.array) == ((0.25,), (0.125,))
    assert (second.name, second.marker.symbol) == ("random", ("square-open",))
    assert figure.layout.xaxis.title.text == "held-out relative squared error"


def test_without_held_out_items_the_training_error_is_drawn():
    one = {**summary("rqvae", None, 0.5, True), "train_error": [Spread(0.25, 0.25, 0.25)]}
    figure = quantizer_tradeoff([one])
    assert figure.data[0].x == (0.25,)
    assert figure.layout.xaxis.title.text == "training relative squared error"


def test_churn_is_a_share_of_the_items_in_both_tables():
    figure = churn_by_level(
        {
            "aligned": {"common": 8, "changed": [2, 4]},
            "strangers": {"common": 0, "changed": [0, 0, 0]},
        }
    )
    aligned, strangers = figure.data
    assert (aligned.name, aligned.x, aligned.y) == ("aligned", (1, 2), (0.25, 0.5))
    assert strangers.y == (None, None, None)


def test_shares_begin_at_the_first_code():
    (line,) = shares_by_prefix({"purity": [0.5, 0.25]}).data
    assert (line.name, line.x, line.y) == ("purity", (1, 2), (0.5, 0.25))


def delivery(ratio, support, shifts, changed):
    return {
        "error": {"ratio": ratio},
        "prefixes": [
            {"table_support": 1.0, "new_support": support},
            {"table_support": 0.5, "new_support": support},
            {"table_support": 0.5, "new_support": 0.0},  # whole codes are not judged
        ],
        "levels": [{"shift": shift} for shift in shifts],
        "changed": changed,
    }


def test_drift_is_in_multiples_of_its_limits():
    limits = Limits(max_error_ratio=2.0, min_support=0.5, max_shift=0.25, max_changed=0.5)
    drifts = {
        "monday": delivery(1.0, 1.0, [0.0, 0.125], [0.25, 1.0]),
        "tuesday": delivery(None, None, [0.5, 0.125], []),
        "wednesday": delivery(4.0, 0.25, [0.0, 0.0], []),
    }
    lines = {line.name: list(line.y) for line in drift_over_time(drifts, limits).data}
    assert lines == {
        "error": [0.5, None, 2.0],
        "support of new items": [0.5, None, 2.0],
        "first codes changed": [0.5, None, None],
        "shift of codes": [0.5, 2.0, 0.0],
    }
    assert drift_over_time(drifts).data[0].x == ("monday", "tuesday", "wednesday")
    assert drift_over_time({}).data == ()


def test_limits_of_nothing_are_no_division_by_zero():
    limits = Limits(max_shift=0.0, max_changed=0.0)
    drifts = {"monday": delivery(1.0, 0.0, [0.5], [0.25])}
    lines = {line.name: line.y[0] for line in drift_over_time(drifts, limits).data}
    assert lines["shift of codes"] == 500
    assert lines["first codes changed"] == 250
    assert lines["support of new items"] == 750


def test_codes_stand_by_their_use_in_the_table():
    fresh, table = code_shift(np.array([1, 0, 3]), np.array([0, 1, 1])).data
    assert (table.name, table.y.tolist()) == ("table", [0.75, 0.25, 0.0])
    assert (fresh.name, fresh.y.tolist()) == ("fresh items", [0.5, 0.0, 0.5])
    assert fresh.text == ("code 2", "code 0", "code 1")
    assert len(code_shift(np.ones(3_000), np.ones(3_000)).data[0].y) == 1_000
