"""The figures of a report that are told then and now, and what each of them rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crps_outcomes.definitions import ReportDefinition
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

Form = Literal["mean", "share", "rate", "month"]
#: A person -> what of that person a figure rests on, each entry beginning with its source references.
Footprint = dict[str, frozenset[tuple[str, ...]]]
ADVERSE_EVENT = "adverse event"
ANY = "any"


@dataclass(frozen=True)
class Rests:
    """What a figure rests on: scores of a measure at a visit, or sessions with what was recorded around them."""

    on: Literal["changes", "scores", "estimand", "estimand changes", "events", "readings", "doses"]
    measure: str = ""
    visit: str = ""
    month: str = ""  # only what belongs to this month, such as "2026-06"


@dataclass(frozen=True)
class Headline:
    """One figure: where it stands in ESTIMATES, how it is printed, and what it rests on."""

    section: str
    statistic: str
    keys: Mapping[str, str]
    form: Form
    rests: Rests
    role: str = ""  # "planned", "secondary 1": what it is in the plan

    @property
    def id(self) -> str:
        """A name of its own, the same in every report."""
        return "/".join((self.section, self.statistic, *self.keys.values()))


def headlines(study: Study, report: ReportDefinition, then: pd.DataFrame) -> tuple[Headline, ...]:
    """The headline figures of a report.

    Args:
        study: names measures and visits.
        report: one that lists the section "quality" has the measures of its first page, month by month.
        then: ESTIMATES of the last report, which says what its latest month was.
    """
    return tuple(_months(study, then) if "quality" in report.sections else _results(study))


def _results(study: Study) -> Iterator[Headline]:
    plan = study.protocol.outcomes
    pain, visit = plan.primary, plan.primary_visit
    yield _planned("primary", "mean", pain, visit)
    for number, one in enumerate(study.protocol.plan.key_secondary, 1):
        form: Form = "mean" if one.summary == "mean change" else "share"
        yield _planned(str(number), form, one.measure, one.visit)
    for own in (visit, plan.later_visit):
        yield _change("pain", pain, own)
    for percent in plan.responder_percents:
        keys = {"visit": visit, "group": str(int(percent))}
        yield Headline("endpoints", "responder", keys, "share", Rests("estimand", pain, visit), "as planned")
    keys = {"population": "observed", "visit": visit, "group": str(int(plan.responder_percents[0]))}
    yield Headline("responders", "responder", keys, "share", Rests("changes", pain, visit))
    yield _change("function", plan.function, visit)
    yield Headline("safety", "per_100_sessions", {"group": ANY}, "rate", Rests("events"))
    yield Headline(
        "completeness", "completed", {"measure": pain, "visit": visit}, "share", Rests("scores", pain, visit)
    )


def _planned(group: str, form: Form, measure: str, visit: str) -> Headline:
    rests = Rests("estimand changes" if form == "mean" else "estimand", measure, visit)
    return Headline("endpoints", "planned", {"group": group}, form, rests, group)


def _change(section: str, measure: str, visit: str) -> Headline:
    return Headline(
        section, "mean_change", {"measure": measure, "visit": visit}, "mean", Rests("changes", measure, visit)
    )


#: What is watched -> what a month of it rests on.
_WATCHED: Mapping[str, Literal["scores", "events", "readings", "doses"]] = {
    "on_time": "scores", "response": "scores", "adverse_events": "events", "monitored": "readings",
    "days_to_first_dose": "doses", "as_planned": "doses", "sessions_per_week": "doses",
}  # fmt: skip


def _months(study: Study, then: pd.DataFrame) -> Iterator[Headline]:
    """Each measure of page 1 in the latest month that the last report had a value for."""
    plan = study.protocol.outcomes
    for watched in (one for one in study.protocol.quality.measures if one.front):
        own = then[(then["section"] == "quality") & (then["statistic"] == "month") & (then["measure"] == watched.id)]
        known = own.loc[own["estimate"].notna(), "visit"]
        if known.empty:
            continue
        month, on = str(known.max()), _WATCHED[watched.id]
        measure = (plan.primary, plan.primary_visit) if on == "scores" else ("", "")
        is_of_month = watched.id != "as_planned"  # a series belongs to the month in which its planned time ended
        rests = Rests(on, *measure, month if is_of_month else "")
        yield Headline("quality", "month", {"measure": watched.id, "visit": month}, "month", rests)


# --- what a figure rests on -----------------------------------------------------------------------------------------


def footprint(tables: Tables, study: Study, rests: Rests) -> Footprint:
    """Who stands behind a figure, and with what: two cohorts in which it is the same give the same figure."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for frame in FOOTPRINTS[rests.on](tables, study, rests):
        for person, *entry in frame.astype("str").itertuples(index=False, name=None):
            found.setdefault(str(person), set()).add(tuple(map(str, entry)))
    return {person: frozenset(entries) for person, entries in found.items()}


def _due(tables: Tables, study: Study, rests: Rests) -> pd.DataFrame:
    """refs, value, start and state of everybody whose score is due, with the day it was taken or its window closed."""
    outcomes = tables.outcomes[tables.outcomes["measure"] == rests.measure]
    start = outcomes[outcomes["visit"] == "baseline"][["subject_id", "source_refs"]]
    own = outcomes[(outcomes["visit"] == rests.visit) & (outcomes["state"] != "not due")]
    own = own.merge(start, on="subject_id", how="left", suffixes=("", "_start"), validate="one_to_one")
    own = own.merge(tables.subjects[["subject_id", "first_dose_on"]], on="subject_id", validate="one_to_one")
    last = next(one.window_days[1] for one in study.protocol.visits if one.id == rests.visit)
    closes_on = own["first_dose_on"] + pd.Timedelta(days=int(last))
    found = own[["subject_id"]].assign(
        refs=own["source_refs"] + " " + own["source_refs_start"].where(own["source_refs_start"].notna(), ""),
        value=own["value"], start=own["baseline"], state=own["state"],
        ends_on=own["taken_on"].where(own["taken_on"].notna(), closes_on),
    )  # fmt: skip
    return _of_month(found, closes_on, rests)


_ENTRY = ["subject_id", "refs", "value", "start", "state"]


def _scores(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    yield _due(tables, study, rests)[_ENTRY]


def _changes(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    """Of those with a score and a start alone."""
    own = _due(tables, study, rests)
    yield own.loc[own["value"].notna() & own["start"].notna(), _ENTRY]


def _estimand(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    """Scores, and what else happened to the same people before, since the plan may let that decide."""
    yield from _scores(tables, study, rests)
    yield _happened(tables, _due(tables, study, rests))


def _estimand_changes(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    yield from _changes(tables, study, rests)
    own = _due(tables, study, rests)
    yield _happened(tables, own[own["value"].notna() & own["start"].notna()])


def _happened(tables: Tables, scores: pd.DataFrame) -> pd.DataFrame:
    """What happened to these people before their score."""
    found = tables.intercurrent.merge(scores[["subject_id", "ends_on"]], on="subject_id", validate="many_to_one")
    return found.loc[
        found["happened_on"] < found["ends_on"], ["subject_id", "source_ref", "kind", "term", "happened_on"]
    ]


def _doses(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    own = tables.doses[(tables.doses["route"] == study.protocol.exposure.route) & _is_treated(tables, tables.doses)]
    own = _of_month(own, own["given_on"], rests)
    yield own[["subject_id", "source_ref", "given_at", "given_on", "session"]]


def _events(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    own = tables.events[(tables.events["kind"] == ADVERSE_EVENT) & _is_treated(tables, tables.events)]
    yield _of_month(own, own["onset_on"], rests)[["subject_id", "source_ref", "onset_at", "onset_on", "term"]]
    yield from _doses(tables, study, rests)


def _readings(tables: Tables, study: Study, rests: Rests) -> Iterator[pd.DataFrame]:
    safety = study.protocol.safety
    measures = [safety.systolic, safety.diastolic, safety.oxygen_saturation]
    own = tables.observations
    own = own[own["measure"].isin(measures) & _is_treated(tables, own)]
    yield _of_month(own, own["taken_on"], rests)[["subject_id", "source_ref", "measure", "taken_at", "value"]]
    yield from _doses(tables, study, rests)


FOOTPRINTS: Mapping[str, Callable[[Tables, Study, Rests], Iterator[pd.DataFrame]]] = {
    "scores": _scores, "changes": _changes, "estimand": _estimand, "estimand changes": _estimand_changes, "doses": _doses,
    "events": _events, "readings": _readings,
}  # fmt: skip


def _is_treated(tables: Tables, frame: pd.DataFrame) -> pd.Series:
    return frame["subject_id"].isin(tables.subjects.loc[tables.subjects["is_treated"], "subject_id"])


def _of_month(frame: pd.DataFrame, days: pd.Series, rests: Rests) -> pd.DataFrame:
    return frame[days.reindex(frame.index).dt.strftime("%Y-%m") == rests.month] if rests.month else frame
