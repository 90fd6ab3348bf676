"""Figures: readable labels at their shortest and longest, real text, a text alternative, the same bytes every time."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cohort_tables import the_study

from crps_outcomes import figure_kit as kit
from crps_outcomes.figures import (
    Curve,
    Group,
    Mark,
    Panel,
    Point,
    Scale,
    Swimmer,
    course,
    cumulative,
    forest,
    label_share,
    small_multiples,
    swimmers,
)
from crps_outcomes.survival_figure import HEAD_PT, MM_PER_PT, Step, Survival, column_width_mm, survival

WEEKS = (0, 1, 2, 4, 8, 12, 26)
PAIN, T_SCORE = Scale(0, 10, 1), Scale(20, 85, 1)


@pytest.fixture(autouse=True)
def style():
    with kit.drawing(the_study().root / "templates"):
        yield


def points(n: int = 64, weeks=WEEKS, mean: float = 5.0, width: float | None = 0.4) -> tuple[Point, ...]:
    limits = (None, None) if width is None else (mean - width, mean + width)
    return tuple(Point(w, n, mean, *limits, {10: mean - 2, 25: mean - 1, 75: mean + 1, 90: mean + 2}) for w in weeks)


def test_weight_600_is_the_bundled_semibold_file():
    found = kit.font_manager.findfont(kit.font_manager.FontProperties(family=["Source Sans Pro"], weight=600))
    assert "SourceSansPro-Semibold" in found


@pytest.mark.parametrize("n", [1, 64, 12_345])
@pytest.mark.parametrize("weeks", [(0, 1), WEEKS])
@pytest.mark.parametrize("people", [None, (((0, 7.0), (1, 3.0)), ((0, 10.0), (1, 0.0)))])
def test_the_course_keeps_its_labels_apart(n, weeks, people):
    svg = course(points(n, weeks), people, PAIN, "course", "alt")
    assert f">{n:,}</text>" in svg


@pytest.mark.parametrize("mean", [0.0, 10.0])
@pytest.mark.parametrize("people", [None, (((0, 7.0), (1, 3.0)),)])
def test_the_course_reads_at_both_ends_of_the_scale(mean, people):
    every = dict.fromkeys((10, 25, 75, 90), mean)
    course(tuple(Point(w, 60, mean, mean, mean, every) for w in WEEKS), people, PAIN, "course", "alt")


def test_a_protocol_with_a_visit_every_week_of_a_year_is_still_readable():
    svg = course(points(1462, tuple(range(53))), None, PAIN, "course", "alt")
    assert ">52</text>" in svg or ">51</text>" in svg or ">50</text>" in svg
    small_multiples([Panel("Pain", "lower is better", points(64, tuple(range(53))), (0, 10))], "panels", "alt")


def test_means_without_interval_are_drawn_without_bars():
    assert "95% CI" not in course(points(5, mean=50.0, width=None), None, T_SCORE, "course", "alt")


def curve(share_at_0: float, n: int, name: str = "with a score") -> Curve:
    x = tuple(float(v) for v in range(-20, 101, 5))
    share = tuple(max(0.0, min(100.0, share_at_0 - v)) for v in x)
    return Curve(
        x, share, tuple(max(0, s - 9) for s in share), tuple(min(100, s + 9) for s in share), n, "observed", name
    )


@pytest.mark.parametrize("share", [10.0, 60.0, 130.0])
def test_the_responder_curve_labels_both_thresholds(share):
    own = curve(share, 1462)
    marks = [
        Mark(float(t), own.share[own.x.index(t)], label_share(own.share[own.x.index(t)], 1462, t, 0, 100))
        for t in (30, 50)
    ]
    svg = cumulative(
        [own, curve(share, 1600, "missing counted as not improved")], marks, "Improvement, at least", "curve", "alt"
    )
    assert svg.count("improved by") == 2
    assert "n = 1,600" in svg


@pytest.mark.parametrize("many", [1, 4, 6])
def test_small_multiples_fit_short_and_long_names(many):
    titles = [
        "Pain",
        "Interference of pain with work, home and family life",
        "Fear of pain",
        "Depression (PHQ-9)",
        "EQ VAS",
        "Sleep",
    ]
    panels = [Panel(title, "higher is better", points(mean=50.0, width=11.7), (20, 85)) for title in titles[:many]]
    assert small_multiples(panels, "panels", "alt").count("higher is better") == many


@pytest.mark.parametrize("many", [1, 12, 70])
def test_swimmers_fit_one_person_and_seventy(many):
    rows = [Swimmer(tuple((float(w), 0.5 if w else None) for w in range(1 + i % 9))) for i in range(many)]
    assert "mg per kg" in swimmers(rows, 26.0, "swimmers", "alt")


def test_a_high_threshold_has_its_label_on_the_left():
    own = curve(100.0, 64)
    cumulative([own], [Mark(80.0, 20.0, label_share(20.0, 64, 80, 10, 40))], "Improvement, at least", "curve", "alt")


@pytest.mark.parametrize(("mean", "width"), [(-2.0, 0.5), (2.0, 3.0), (0.0, 0.01), (-40.0, 12.0)])
def test_a_forest_says_its_numbers_on_either_side_of_zero(mean, width):
    def group(label: str, n: int) -> Group:
        return Group(
            label, n, f"{mean:+.1f} ({mean - width:+.1f} to {mean + width:+.1f})", mean, mean - width, mean + width
        )

    none = Group("Not known", 0, "fewer than 10 people")
    groups = {"Sex": [group("Female", 12_000), none], "Time since onset": [group("1 to under 5 years", 11)]}
    svg = forest(group("Everyone", 12_345), groups, ("less pain", "more pain"), "groups", "alt")
    for text in ("Everyone", "12,345", "Sex", "fewer than 10 people", "\u2190 less pain", "more pain \u2192"):
        assert f">{text}</text>" in svg


def test_the_area_of_a_square_of_a_forest_grows_with_its_people():
    def squares(*sizes: int) -> list[float]:
        whole = Group("Everyone", 100, "-1", -1, -2, 0)
        svg = forest(whole, {"Sex": [Group(str(n), n, "-1", -1, -2, 0) for n in sizes]}, ("less", "more"), "g", "alt")
        shapes = re.findall(r'<path id="g-\w+" d="M -?([\d.]+) ([\d.]+)\s+L ([\d.]+) ([\d.]+)', svg)
        return [2 * float(shape[0]) for shape in shapes if shape[0] == shape[1] == shape[2]]

    small, large = squares(10, 100)
    assert large**2 - small**2 == pytest.approx(60 * 0.9, rel=0.05)  # points squared


def test_touching_labels_and_labels_outside_are_refused():
    figure, axes = kit.canvas(60)
    axes.annotate("one", (0.5, 0.5), xycoords="axes fraction")
    axes.annotate("two", (0.51, 0.5), xycoords="axes fraction")
    with pytest.raises(ValueError, match="overlap"):
        kit.check_text(figure)
    figure, axes = kit.canvas(60)
    axes.annotate("far away", (1.4, 0.5), xycoords="axes fraction")
    with pytest.raises(ValueError, match="outside"):
        kit.check_text(figure)


def test_the_drawing_is_plain_svg_with_a_text_alternative_and_unique_ids():
    svg = course(points(), None, PAIN, "course", 'Pain <b>"5"</b> & more')
    assert "<title>Pain &lt;b&gt;&quot;5&quot;&lt;/b&gt; &amp; more</title>" in svg
    assert not re.search(r" style=|<style|<metadata|<!--", svg)
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("course-") for name in ids)
    assert svg == course(points(), None, PAIN, "course", 'Pain <b>"5"</b> & more')


def test_a_hostile_name_stays_text():
    svg = small_multiples([Panel("<script>x</script> & $\\alpha$", "lower", points(), (0, 10))], "panels", "alt")
    assert "<script" not in svg
    assert "&lt;script&gt;x&lt;/script&gt; &amp; $" in svg


def test_axes_hold_the_data_and_stay_inside_the_scale():
    low, high, ticks = kit.nice_range(3.2, 9.7, (0, 10), ticks=4)
    assert low <= 3.2
    assert 9.7 <= high <= 10
    assert ticks == [4.0, 6.0, 8.0, 10.0] or all(low <= tick <= high for tick in ticks)
    assert kit.nice_range(5, 5, (0, 10))[0] < 5 < kit.nice_range(5, 5, (0, 10))[1]


def test_texts_that_would_touch_go_to_another_row():
    assert kit.rows_without_overlap([0, 14, 28, 100], [20, 20, 20, 20]) == [0, 1, 0, 0]


# --- people still responding ----------------------------------------------------------------------------------------

BANDED = (Step(4, 80.0, 60.0, 90.0), Step(9.5, 40.0, 20.0, 60.0), Step(25, 0.0))


@pytest.mark.parametrize("weeks", [(0, 1, 2, 3, 4), tuple(range(0, 417, 52))])
@pytest.mark.parametrize("few", [0.0, 0.3, 0.65, 1.0])
@pytest.mark.parametrize("steps", [BANDED, BANDED[1:2]])
def test_the_survival_curve_keeps_its_words_apart(weeks, few, steps):
    label, last = "Median: week 10.0 (fewer than 10 people: no interval)", float(weeks[-1])
    scaled = tuple(replace(step, week=step.week / 25 * last) for step in steps)
    svg = survival(Survival(scaled, (0.0, last), weeks, few * last, last / 3, label, last), "survival", "alt")
    assert label in svg
    assert ("fewer than 10 people at risk" in svg) == (few < 1)


def test_the_survival_curve_can_do_without_band_median_and_censoring():
    svg = survival(Survival((Step(4, 50.0),), (), (0, 1, 2, 3, 4), 4.0, None, "No median", 4.0), "survival", "alt")
    assert "<title>alt</title>" in svg


@pytest.mark.parametrize("n", range(5, 10))
def test_the_columns_of_the_at_risk_table_fill_the_width(n):
    assert n * column_width_mm(n) + HEAD_PT * MM_PER_PT == pytest.approx(kit.WIDTH_PT * MM_PER_PT)
