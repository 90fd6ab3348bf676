"""Context of each person: limb, duration, Budapest state, treatments before and beside ketamine, intercurrent events.

Everything is judged at the day of the first dose. What is not on record is "not known", never "no".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crps_outcomes.fhirtime import moment
from crps_outcomes.tables import CONTEXT, INTERCURRENT, TREATMENTS, build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crps_outcomes.diagnoses import Diagnosis
    from crps_outcomes.resources import Patient
    from crps_outcomes.stages.tabulate import Tabulated
    from crps_outcomes.study import Study

Row = dict[str, Any]
_DAYS_A_YEAR, _DAYS_A_WEEK = 365.25, 7
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_ONGOING = frozenset({"active", "on-hold"})
CATEGORIES = ("sensory", "vasomotor", "sudomotor", "motor")
#: Criteria -> categories with a symptom, and categories with a sign, that they need. Harden 2010.
CRITERIA = {"research": (4, 2), "clinical": (3, 2)}


@dataclass(frozen=True)
class Context:
    """The three tables about people beside their scores."""

    context: pd.DataFrame
    treatments: pd.DataFrame
    intercurrent: pd.DataFrame


def context(tabulated: Tabulated, subjects: pd.DataFrame, study: Study) -> Context:
    """CONTEXT for everybody enrolled, TREATMENTS and INTERCURRENT for everybody treated."""
    treated = subjects[subjects["is_treated"]]
    first_days = {str(one["subject_id"]): one["first_dose_on"].date() for one in _dicts(treated)}
    treatments = treatment_table(tabulated.events, first_days, study)
    tried = _tried(treatments)
    rows = (
        _person(str(subject), first_days.get(str(subject)), tabulated, tried, study)
        for subject in subjects["subject_id"]
    )
    return Context(
        context=build(CONTEXT, rows),
        treatments=treatments,
        intercurrent=intercurrent_table(tabulated, first_days, treatments, study),
    )


# --- one person -------------------------------------------------------------------------------------------------------


def _person(subject: str, first_on: date | None, tabulated: Tabulated, tried: Mapping[str, int], study: Study) -> Row:
    own = [one for one in tabulated.diagnoses if one.subject_id == subject]
    years, precision = _years(own, first_on)
    findings = tabulated.findings[tabulated.findings["subject_id"] == subject]
    return {
        "subject_id": subject,
        **_place(own),
        "years_since_onset": years,
        "onset_precision": precision,
        "budapest": budapest(features_by(findings, own, first_on)),
        "n_tried": tried.get(subject),
        "refractory": _refractory(tried.get(subject), study.protocol.context.refractory_classes),
    }


def _place(own: Sequence[Diagnosis]) -> Row:
    """Limb and side; diagnoses of two places make "more than one" or "both"."""
    places = frozenset(place for one in own for place in one.places)
    limbs, sides = places & {"upper", "lower", "other"}, places & {"right", "left", "both"}
    return {
        "limb": "more than one" if len(limbs) > 1 else min(limbs, default="not recorded"),
        "side": "both" if len(sides) > 1 else min(sides, default="not recorded"),
        "limb_match": min((one.places_match for one in own if one.places_match), default=""),
    }


def _years(own: Sequence[Diagnosis], first_on: date | None) -> tuple[float | None, str]:
    """Years from the earliest onset to the first dose, and how exactly the onset is known; an onset after it gives none."""
    dated = sorted(pair for one in own if (pair := _onset(one)))
    if not dated:
        is_year = any(_YEAR.fullmatch(one.onset) for one in own)
        return None, "year" if is_year else "not recorded"
    on, precision = dated[0]
    if first_on is None or on > first_on:
        return None, precision
    return (first_on - on).days / _DAYS_A_YEAR, precision


def _onset(one: Diagnosis) -> tuple[date, str] | None:
    if one.onset_on is not None:
        return one.onset_on, "day"
    month = _MONTH.fullmatch(one.onset)
    return (date(int(month[1]), int(month[2]), 15), "month") if month and 1 <= int(month[2]) <= 12 else None


# --- Budapest ---------------------------------------------------------------------------------------------------------


def features_by(findings: pd.DataFrame, own: Iterable[Diagnosis], first_on: date | None) -> dict[str, bool | None]:
    """Feature -> present, absent, or None where the latest records by the first dose contradict each other."""
    latest: dict[str, tuple[pd.Timestamp, set[bool]]] = {}
    if first_on is None:
        return {}
    until = pd.Timestamp(first_on)
    told = [(str(row["feature"]), pd.Timestamp(row["taken_on"]), bool(row["is_present"])) for row in _dicts(findings)]
    told += [(name, pd.Timestamp(one.recorded_on), True) for one in own if one.recorded_on for name in one.features]
    for feature, on, is_present in sorted(told):
        if on > until:
            continue
        before = latest.get(feature)
        of_that_day = before[1] if before and before[0] == on else set()
        latest[feature] = (on, of_that_day | {is_present})
    return {feature: min(answers) if len(answers) == 1 else None for feature, (_, answers) in latest.items()}


def budapest(features: Mapping[str, bool | None]) -> str:
    """The strictest of the Budapest criteria that the recorded features meet.

    A category nobody examined is neither present nor absent: where it could still decide, the state is not known. That
    pain is out of proportion and nothing explains it better stands in the diagnosis unless it is recorded as absent.
    """
    if any(features.get(f"criterion: {name}") is False for name in ("pain out of proportion", "no better diagnosis")):
        return "not met"
    for criteria, needed in CRITERIA.items():
        stated = features.get(f"criteria: {criteria}")
        if stated or (stated is None and _meets(features, needed) is True):
            return criteria
    stated = features.get("criteria: clinical")
    return "not met" if stated is False or _meets(features, CRITERIA["clinical"]) is False else "not known"


def _meets(features: Mapping[str, bool | None], needed: tuple[int, int]) -> bool | None:
    """Whether enough categories have a symptom and a sign; None while what is unknown could still decide."""
    answers = [
        _enough([features.get(f"{kind}: {category}") for category in CATEGORIES], least)
        for kind, least in zip(("symptom", "sign"), needed, strict=True)
    ]
    return False if False in answers else None if None in answers else True


def _enough(known: Sequence[bool | None], least: int) -> bool | None:
    present, unknown = sum(one is True for one in known), sum(one is None for one in known)
    return True if present >= least else False if present + unknown < least else None


# --- treatments -------------------------------------------------------------------------------------------------------


def treatment_table(events: pd.DataFrame, first_days: Mapping[str, date], study: Study) -> pd.DataFrame:
    """TREATMENTS: every class of treatment on record of the treated people.

    Args:
        events: EVENTS.
        first_days: day of the first dose by subject id.
        study: its protocol says what counts as tried.
    """
    listed = events[events["kind"].isin(["co-treatment", "procedure"]) & events["subject_id"].isin(list(first_days))]
    grouped = listed.groupby(["subject_id", "kind", "term"], sort=True)
    return build(TREATMENTS, (
        _treatment(Treated(str(subject), first_days[str(subject)]), str(kind), str(term), _records(own), study)
        for (subject, kind, term), own in grouped
    ))  # fmt: skip


@dataclass(frozen=True)
class Treated:
    """Somebody treated, and the day of the first dose."""

    id: str
    first_on: date


@dataclass(frozen=True)
class Record:
    """One prescription, statement or procedure of a class."""

    source_ref: str
    on: date | None
    ended_on: date | None
    is_ongoing: bool

    def reaches(self, day: date) -> date | None:
        """The last day by ``day`` for which the record speaks; None if it had not begun, or nobody knows."""
        if self.on is None or self.on > day:
            return None
        if self.ended_on is not None:
            return max(self.on, min(self.ended_on, day))
        return day if self.is_ongoing else self.on

    def is_on(self, day: date) -> bool | None:
        """Whether the treatment was going on; None where its beginning or its end is not recorded."""
        if self.on is None:
            return None
        if self.on > day:
            return False
        if self.ended_on is not None:
            return self.ended_on >= day
        return True if self.is_ongoing else None


def _records(own: pd.DataFrame) -> list[Record]:
    return [
        Record(str(one["source_ref"]), _date(one["onset_on"]), _date(one["ended_on"]), one["status"] in _ONGOING)
        for one in _dicts(own.sort_values("source_ref"))
    ]


def _dicts(frame: pd.DataFrame) -> list[Row]:
    return cast("list[Row]", frame.to_dict("records"))


def _date(on: Any) -> date | None:
    return None if pd.isna(on) else pd.Timestamp(on).date()


def _treatment(treated: Treated, kind: str, term: str, records: Sequence[Record], study: Study) -> Row:
    first_on = treated.first_on
    known = sorted(record.on for record in records if record.on is not None)
    is_earlier = bool(known[0] <= first_on) if known else None
    weeks = _weeks(records, first_on)
    plan = study.protocol.context
    is_long = is_earlier if term in plan.done_once else None if weeks is None else weeks >= plan.refractory_weeks
    return {
        "subject_id": treated.id,
        "treatment": term,
        "kind": kind,
        "first_on": known[0] if known else None,
        "is_earlier": is_earlier,
        "is_at_start": _at_start(records, first_on) if kind == "co-treatment" else None,
        "weeks_before": weeks,
        "is_tried": False if term in plan.not_counted or is_earlier is False else is_long,
        "source_refs": " ".join(record.source_ref for record in records),
    }


def _weeks(records: Sequence[Record], first_on: date) -> float | None:
    """Weeks from the first record to the last day before the first dose for which any of them speaks: a lower bound."""
    begun = [record.on for record in records if record.on is not None and record.on <= first_on]
    reached = [day for record in records if (day := record.reaches(first_on)) is not None]
    return (max(reached) - min(begun)).days / _DAYS_A_WEEK if begun else None


def _at_start(records: Sequence[Record], first_on: date) -> bool | None:
    answers = {record.is_on(first_on) for record in records}
    return True if True in answers else None if None in answers else False


def _tried(treatments: pd.DataFrame) -> dict[str, int]:
    """Classes tried, of people with any earlier treatment on record."""
    earlier = treatments[treatments["is_earlier"]]
    counted = earlier.groupby("subject_id", sort=True)["is_tried"].sum()
    return {str(subject): int(n) for subject, n in counted.items()}


def _refractory(n_tried: int | None, needed: int) -> str:
    """Nothing on record is not the same as nothing tried."""
    return "not known" if n_tried is None else "yes" if n_tried >= needed else "no"


# --- intercurrent events ------------------------------------------------------------------------------------------------


def intercurrent_table(
    tabulated: Tabulated, first_days: Mapping[str, date], treatments: pd.DataFrame, study: Study
) -> pd.DataFrame:
    """INTERCURRENT: what happened to treated people after the day of the first dose."""
    rows = [
        *_changes(tabulated.events, first_days, treatments),
        *_other_ketamine(tabulated.doses, first_days, study),
        *_deaths(tabulated.people, first_days, study),
    ]
    return build(INTERCURRENT, rows)


def _row(treated: Treated, kind: str, term: str, on: date | None, source_ref: str) -> Row:
    return {
        "subject_id": treated.id,
        "kind": kind,
        "term": term,
        "happened_on": on,
        "study_day": (on - treated.first_on).days if on else None,
        "source_ref": source_ref,
    }


def _changes(events: pd.DataFrame, first_days: Mapping[str, date], treatments: pd.DataFrame) -> Iterator[Row]:
    """Starts, restarts and stops of medicines, and every procedure, after the first dose."""
    by_ref = {record.source_ref: record for record in _records(events)}
    for one in _dicts(treatments):
        treated = Treated(one["subject_id"], first_days[one["subject_id"]])
        own = [by_ref[ref] for ref in one["source_refs"].split(" ")]
        later = sorted((record.on, record.source_ref) for record in own if record.on and record.on > treated.first_on)
        if one["kind"] == "procedure":
            yield from (_row(treated, "procedure", one["treatment"], *each) for each in later)
            continue
        if later and not pd.isna(one["is_at_start"]) and not one["is_at_start"]:
            kind = "treatment restarted" if one["is_earlier"] else "treatment started"
            yield _row(treated, kind, one["treatment"], *later[0])
        yield from _stops(treated, one["treatment"], own)


def _stops(treated: Treated, treatment: str, own: Sequence[Record]) -> Iterator[Row]:
    """A stop: every record of the class has an end, and the last of them lies after the first dose."""
    ends = [(record.ended_on, record.source_ref) for record in own if record.ended_on]
    if len(ends) == len(own) and (last := max(ends))[0] > treated.first_on:
        yield _row(treated, "treatment stopped", treatment, *last)


def _other_ketamine(doses: pd.DataFrame, first_days: Mapping[str, date], study: Study) -> Iterator[Row]:
    """The first dose by each other route, and the first of every further series, after the first dose."""
    own = study.protocol.exposure.route
    other = doses[~doses["route"].isin([own, "not recorded", "other"])]
    yield from _firsts(other, "route", "other ketamine route", first_days)
    further = doses[(doses["route"] == own) & (doses["series"] > 1)]
    yield from _firsts(further, "series", "further series", first_days)


def _firsts(doses: pd.DataFrame, by: str, kind: str, first_days: Mapping[str, date]) -> Iterator[Row]:
    """The first dose of each person in each group of ``by`` that was given after the first dose of the protocol's route."""
    later = [row for row in _dicts(doses) if _is_later(row, first_days)]
    ordered = sorted(later, key=lambda row: (row["subject_id"], row["given_on"], row["source_ref"]))
    firsts: dict[tuple[str, Any], Row] = {}
    for row in ordered:
        firsts.setdefault((row["subject_id"], row[by]), row)
    for row in firsts.values():
        treated, term = Treated(row["subject_id"], first_days[row["subject_id"]]), row["route"] if by == "route" else ""
        yield _row(treated, kind, term, _date(row["given_on"]), row["source_ref"])


def _is_later(row: Row, first_days: Mapping[str, date]) -> bool:
    first_on, on = first_days.get(row["subject_id"]), _date(row["given_on"])
    return first_on is not None and on is not None and on > first_on


def _deaths(people: Iterable[Patient], first_days: Mapping[str, date], study: Study) -> Iterator[Row]:
    for one in people:
        if one.id in first_days and (one.deceased_boolean or one.deceased_date_time):
            on = moment(one.deceased_date_time, study.protocol.timezone).on
            yield _row(Treated(one.id, first_days[one.id]), "death", "", on, one.ref)
