"""What was given: sessions, doses, routes, and when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Swimmer, swimmers
from crps_outcomes.layout import noted, number_columns, row, text_columns, tint
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, people, plural
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.wording import capital, count_and_percent, counted, quartiles_in_cell, why_hidden

if TYPE_CHECKING:
    from crps_outcomes.facts import Estimate, Facts

#: What exposure is described by, and the decimals it is printed with.
MEASURES = {
    "sessions_per_person": ("Sessions per person", 1),
    "series_per_person": ("Series per person", 1),
    "interval_days": ("Days between sessions", 1),
    "dose_mg": ("Dose per session, mg of ketamine base", 1),
    "mg_per_kg": ("Dose per session, mg per kg", 2),
    "cumulative_mg": ("Total dose per person, mg of ketamine base", 0),
    "cumulative_mg_per_kg": ("Total dose per person, mg per kg", 1),
    "titration_mg_per_kg": ("Added per session in the first series, mg per kg", 2),
}
ROUTES = {
    "im": "Intramuscular",
    "iv": "Intravenous",
    "sc": "Subcutaneous",
    "nasal": "Nasal",
    "oral": "Oral",
    "other": "Other",
    "not recorded": "Not recorded",
}
SWIMMER_WEEKS, SWIMMER_ROWS = 26, 70


def dosing(facts: Facts) -> Section:
    """Exposure, the weeks it fell in, routes kept apart, and flags on the doses."""
    return Section(
        id="dosing",
        short="What was given",
        finding=_finding(facts),
        lede=_lede(facts),
        figures={"swimmers": _swimmers(facts)} if facts.releasable.doses is not None else {},
        tables={"exposure": _exposure(facts), "weeks": _weeks(facts), "routes": _routes(facts), "flags": _flags(facts)},
    )


def _finding(facts: Facts) -> str:
    sessions, who = (facts.one("dosing", "count", group=group) for group in ("sessions", "people"))
    if sessions.mark:
        return f"How many intramuscular sessions there were is not shown: {why_hidden(sessions)}"
    if not sessions.k:
        return "No intramuscular session of ketamine is on record"
    each = facts.one("dosing", "median", measure="sessions_per_person")
    typical = "" if each.mark else f", median {quartiles_in_cell(each, 0)} each"
    given = plural(sessions.k, "intramuscular session")
    return f"{given} on record{typical}" if who.mark else f"{people(who.k or 0)} had {given}{typical}"


def _lede(facts: Facts) -> str:
    rule = facts.protocol.exposure
    return (
        f"Injections within {fixed(rule.session_gap_hours, 0)} hours are one session; sessions less than "
        f"{rule.series_gap_days} days apart are one series. Only completed administrations of racemic ketamine count, "
        "as base; esketamine is never pooled with it."
    )


def _exposure(facts: Facts) -> Table:
    found = {measure: facts.one("dosing", "median", measure=measure) for measure in MEASURES}
    rows = (_exposure_row(found[measure], *MEASURES[measure]) for measure in MEASURES)
    table = Table(
        title="Exposure.",
        encoding="Median and quartiles over the sessions or people that n counts.",
        columns=(
            *text_columns(("Quantity", 72)),
            *number_columns(("n", 20), ("Median", 26), ("Lower quartile", 28), ("Upper quartile", 28)),
        ),
        rows=tuple(rows) if any(not estimate.mark for estimate in found.values()) else (),
        empty=facts.nothing("No dose is known well enough to describe exposure."),
        style="dense",
    )
    return noted(table, facts)


def _exposure_row(estimate: Estimate, name: str, decimals: int) -> tuple[Cell, ...]:
    values = (estimate.estimate, estimate.lower, estimate.upper)
    printed = (estimate.mark or (NOT_AVAILABLE if v is None else fixed(v, decimals)) for v in values)
    return row(name, counted(estimate.n, estimate.mark or NOT_AVAILABLE), *printed)


# --- weeks by dose --------------------------------------------------------------------------------------------------


def _weeks(facts: Facts) -> Table:
    """Sessions by week and dose band; a tint for the eye, the number for everything else."""
    cells = {(e.group, e.visit): e for e in facts.every("dosing", "sessions")}
    bands = sorted({band for band, _ in cells}, key=_band_order)
    weeks = sorted({week for _, week in cells}, key=_number_in)
    largest = max((e.k or 0 for e in cells.values()), default=0)
    width = min(10.5, 138.0 / max(len(weeks), 1))
    named = {week: e.key(week.removeprefix("week ")) for (_, week), e in cells.items()}
    table = Table(
        title="Sessions by week since the first dose and by dose.",
        encoding="Each cell counts sessions; the darker, the more.",
        columns=(
            *text_columns(("Dose", 174 - width * len(weeks))),
            *number_columns(*((named[week], width) for week in weeks)),
        ),
        rows=tuple(
            row(band, *(_heat(cells.get((band, week)), largest) for week in weeks)) for band in bands if largest
        ),
        empty="No session, or none that may be shown, can be laid out by week and dose.",
        style="heat dense",
    )
    return noted(table, facts, "Columns: weeks since the first dose; 0 is the first seven days.")


def _heat(estimate: Estimate | None, largest: int) -> Cell:
    if estimate is None:
        return Cell("0")
    if estimate.mark or estimate.k is None:
        return Cell(estimate.mark or NOT_AVAILABLE)
    return Cell(count(estimate.k), tint=tint(estimate.k, largest))


def _number_in(text: str) -> float:
    found = re.search(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else float("inf")


def _band_order(band: str) -> tuple[float, bool]:
    """By the band's first number; "below" comes before "from" of the same number, and "not known" last."""
    return _number_in(band), not band.startswith("<")


# --- routes and flags -----------------------------------------------------------------------------------------------


def _routes(facts: Facts) -> Table:
    found = sorted(facts.every("dosing", "route"), key=lambda e: (bool(e.mark), -(e.k or 0), e.group))
    table = Table(
        title="Administrations by route,",
        encoding="routes kept apart; only intramuscular ones make sessions.",
        columns=(*text_columns(("Route", 52)), *number_columns(("Administrations", 31))),
        rows=tuple(row(ROUTES.get(e.group, e.group), count_and_percent(e)) for e in found),
        empty=facts.nothing("No administration of ketamine is on record."),
        style="dense",
    )
    return noted(table, facts)


def _flags(facts: Facts) -> Table:
    found = sorted(facts.every("dosing", "flag"), key=lambda e: (bool(e.mark), -(e.k or 0), e.group))
    table = Table(
        title="Flags on doses.",
        encoding="The dose counts; the flag says what to know about it.",
        columns=(*text_columns(("Flag", 58)), *number_columns(("Doses", 25))),
        rows=tuple(row(capital(e.group), e.mark or counted(e.k)) for e in found),
        empty=facts.nothing("No dose carries a data-quality flag."),
        style="dense",
    )
    return noted(table, facts)


# --- one row per person (internal edition) --------------------------------------------------------------------------


def _swimmers(facts: Facts) -> Figure:
    everybody = people_sessions(facts.releasable.doses)
    every = max(1, -(-len(everybody) // SWIMMER_ROWS))
    rows, which = everybody[::every], "each person" if every == 1 else f"one person in {every}"
    shown = Figure(
        title=f"Sessions of each person in the first {SWIMMER_WEEKS} weeks.",
        encoding=(
            f"One row for {which} from first to last session, longest at the top. Dot area grows with the dose in mg per "
            "kg; the smallest dots are doses not known."
        ),
        empty=facts.nothing("No session can be placed in time."),
    )
    if not rows:
        return shown
    longest = max(row.sessions[-1][0] for row in rows)
    alt = (
        f"Timeline of sessions, {people(len(rows))}, {plural(sum(len(row.sessions) for row in rows), 'session')} in the "
        f"first {SWIMMER_WEEKS} weeks. Numbers by week stand in the table of sessions by week and dose."
    )
    with drawing(facts.study.root / "templates"):
        svg = swimmers(rows, max(4.0, float(int(longest) + 1)), "swimmers", alt)
    return Figure(shown.title, shown.encoding, svg)


def people_sessions(doses: pd.DataFrame | None) -> list[Swimmer]:
    """Each person's intramuscular sessions, longest time in treatment first; no identifier leaves this function."""
    if doses is None or doses.empty:
        return []
    sessions = doses[doses["session"].notna() & doses["given_on"].notna()]
    grouped = sessions.groupby(["subject_id", "session"], sort=True, observed=True)
    each = grouped.agg(given_on=("given_on", "min"), mg_per_kg=("mg_per_kg", "sum")).reset_index()
    each["week"] = (each["given_on"] - each.groupby("subject_id")["given_on"].transform("min")).dt.days / 7
    each = each[each["week"] <= SWIMMER_WEEKS]
    rows = [_swimmer(part) for _, part in each.groupby("subject_id", sort=True)]
    return sorted(rows, key=_longest_first)


def _longest_first(row: Swimmer) -> tuple[float, int, list[tuple[float, float]]]:
    return -row.sessions[-1][0], -len(row.sessions), [(week, dose or 0) for week, dose in row.sessions]


def _swimmer(part: pd.DataFrame) -> Swimmer:
    ordered = part.sort_values("week", kind="stable")
    doses = (None if pd.isna(dose) or dose <= 0 else float(dose) for dose in ordered["mg_per_kg"])
    return Swimmer(tuple(zip((float(week) for week in ordered["week"]), doses, strict=True)))
