"""What the pipeline should find: the facts that are still readable after the mess, and the truth behind them.

The rules applied here (baseline, visit, weight) are those of the protocol, written a second time on purpose and over
facts instead of FHIR, so that a test compares two independent routes to the same numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, TypeVar

from crps_outcomes.synthetic.chart import (
    Chart,
    Given,
    Happened,
    Harmed,
    Stopped,
    Treated,
    Value,
    budapest_state,
    weight_of,
)
from crps_outcomes.synthetic.people import CONSENT_ROLES, DANGLING_ID, ENROLLED_ROLES, Setting
from crps_outcomes.synthetic.population import population_truth
from crps_outcomes.synthetic.response import PAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime

    from crps_outcomes.synthetic.mess import Fault

Json = dict[str, Any]
Kind = TypeVar("Kind")
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Found:
    """What can be read of one person."""

    chart: Chart
    first_dose_at: datetime | None
    values: Mapping[str, Mapping[str, float]]  # measure -> "baseline" or visit -> value
    sessions: Sequence[Json]
    doses: Mapping[str, Json]

    @property
    def is_counted(self) -> bool:
        return self.chart.person.role in ENROLLED_ROLES

    @property
    def is_treated(self) -> bool:
        return self.first_dose_at is not None

    @property
    def is_analysed(self) -> bool:
        pain = self.values.get(PAIN, {})
        return self.is_treated and "baseline" in pain and len(pain) > 1


def truth_of(charts: Sequence[Chart], faults: Sequence[Fault], setting: Setting) -> Json:
    """Everything known about the cohort, ready for JSON."""
    found = [_found(chart, setting) for chart in charts]
    counted = [one for one in found if one.is_counted]
    options = asdict(setting.options) | {"ends_on": setting.options.ends_on.isoformat()}
    return {
        "options": options,
        "cohort": _cohort(found),
        "population": asdict(population_truth(setting.options, setting.visits)),
        "sample": _sample(counted, setting),
        "safety": _safety(counted, setting),
        "patients": {one.chart.person.id: _patient(one, setting) for one in found},
        "faults": [asdict(fault) for fault in faults],
    }


# --- one person ---------------------------------------------------------------------------------------------------


def _found(chart: Chart, setting: Setting) -> Found:
    facts = [(ref, fact) for ref, facts in chart.facts.items() for fact in facts]
    given = {ref: fact for ref, fact in facts if isinstance(fact, Given)}
    values = [fact for _, fact in facts if isinstance(fact, Value)]
    weights = [one for one in values if one.measure == setting.study.protocol.exposure.weight_measure]
    doses = {ref: _dose(one, weights, setting) for ref, one in given.items()}
    injected = {ref: one for ref, one in given.items() if one.route == "im"}
    first = min((one.at for one in injected.values()), default=None)
    return Found(chart, first, _values(values, first, setting), _sessions(injected, doses), doses)


def _values(values: Iterable[Value], first_dose_at: datetime | None, setting: Setting) -> dict[str, dict[str, float]]:
    """The baseline (latest value before the first dose) and the value of each visit whose window has closed.

    Nothing for the untreated.
    """
    found: dict[str, dict[str, float]] = {}
    if first_dose_at is None:
        return found
    first_day = -setting.study.protocol.baseline.window_days[0]
    lasted = (setting.options.ends_on - first_dose_at.date()).days
    closed = {visit.id for visit in setting.study.protocol.visits if visit.window_days[1] < lasted}
    for one in sorted(values, key=lambda value: value.at):
        is_before = one.at < first_dose_at and (first_dose_at.date() - one.at.date()).days <= first_day
        visit = "baseline" if is_before else one.visit
        if one.visit and visit in {"baseline", *closed}:
            found.setdefault(one.measure, {})[visit] = one.value
    return found


def _dose(given: Given, weights: Sequence[Value], setting: Setting) -> Json:
    weight = weight_of(given.at.date(), weights, setting.study.protocol.exposure.weight_max_age_days)
    mg, per_kg = given.mg, given.mg_per_kg
    if per_kg is None:
        per_kg = mg / weight if mg is not None and weight else None
    elif mg is None:
        mg = per_kg * weight if weight else None
    return {
        "given_at": given.at.isoformat(),
        "route": given.route,
        "variant": given.variant,
        "session": given.session,
        "dose_mg": _rounded(mg),
        "mg_per_kg": _rounded(per_kg),
    }


def _sessions(injected: Mapping[str, Given], doses: Mapping[str, Json]) -> list[Json]:
    """Intramuscular sessions in order of time: the sum of the doses that could be read."""
    by_session: dict[int, list[str]] = {}
    for ref, one in sorted(injected.items(), key=lambda pair: (pair[1].at, pair[0])):
        by_session.setdefault(one.session, []).append(ref)
    return [
        {
            "session": place,
            "given_at": doses[refs[0]]["given_at"],
            "administrations": refs,
            "dose_mg": _total(doses[ref]["dose_mg"] for ref in refs),
            "mg_per_kg": _total(doses[ref]["mg_per_kg"] for ref in refs),
        }
        for place, refs in enumerate(by_session.values(), 1)
    ]


def _total(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if any(part is None for part in known) else _rounded(sum(part for part in known if part is not None))


def _patient(one: Found, setting: Setting) -> Json:
    person = one.chart.person
    visits = [visit.id for visit in setting.visits]
    return {
        "role": person.role,
        "is_treated": one.is_treated,
        "is_analysed": one.is_analysed,
        "crps_type": person.crps_type,
        "first_dose_at": one.first_dose_at.isoformat() if one.first_dose_at else None,
        "left_after": person.left_after,
        "last_on": person.last_on.isoformat(),
        "true": {measure: {v: own[v] for v in ("baseline", *visits)} for measure, own in person.true_course.items()},
        "recorded": one.values,
        "sessions": one.sessions,
        "doses": one.doses,
        "treatments": sorted(fact.group for fact in _of(one, Treated)),
        "context": _context(one, setting) if one.is_treated else {},
    }


def _of(one: Found, kind: type[Kind]) -> list[Kind]:
    return [fact for facts in one.chart.facts.values() for fact in facts if isinstance(fact, kind)]


def _context(one: Found, setting: Setting) -> Json:
    """Where the diagnosis is by its words, the criteria met, and the treatments by the day of the first dose."""
    assert one.first_dose_at is not None
    day, plan = one.first_dose_at.date(), setting.study.protocol.context
    words = str(one.chart.versions[f"Condition/{one.chart.person.id}-crps"][-1]["code"]).lower()
    earlier = [fact for fact in _of(one, Treated) if fact.on <= day]
    tried = {
        fact.group
        for fact in earlier
        if fact.group not in plan.not_counted
        and (fact.group in plan.done_once or _weeks(fact, day) >= plan.refractory_weeks)
    }
    return {
        "limb": "upper"
        if "upper limb" in words or "hand" in words
        else "lower"
        if "lower limb" in words
        else "other"
        if "other specified site" in words
        else "not recorded",
        "side": next(
            (side for side in ("right", "left") if f" {side} " in words),
            "both" if "bilateral" in words else "not recorded",
        ),
        "budapest": budapest_state(one.chart.person, setting),
        "earlier": sorted({fact.group for fact in earlier}),
        "at_start": sorted(
            {fact.group for fact in earlier if not fact.is_procedure and not (fact.ended_on and fact.ended_on < day)}
        ),
        "refractory": "not known" if not earlier else "yes" if len(tried) >= plan.refractory_classes else "no",
        "started": sorted({fact.group for fact in _of(one, Treated) if fact.on > day}),
    }


def _weeks(fact: Treated, day: date) -> float:
    """A procedure is on record on its day only; a medicine until it ended, or the first dose."""
    last = fact.on if fact.is_procedure else min(fact.ended_on or day, day)
    return (last - fact.on).days / 7


# --- the cohort ---------------------------------------------------------------------------------------------------


def _cohort(found: Sequence[Found]) -> Json:
    def ids(*roles: str) -> list[str]:
        return [one.chart.person.id for one in found if one.chart.person.role in roles]

    inactive, revoked, enrolled = ids("inactive", "ended"), ids(*CONSENT_ROLES), ids(*ENROLLED_ROLES)
    return {
        "n_listed": len(inactive) + len(revoked) + len(enrolled) + 1,
        "enrolled": enrolled,
        "inactive": inactive,
        "dangling": [DANGLING_ID],
        "consent_revoked": revoked,
        "not_listed": ids("stranger"),
        "treated": [one.chart.person.id for one in found if one.is_counted and one.is_treated],
        "analysed": [one.chart.person.id for one in found if one.is_counted and one.is_analysed],
    }


def _sample(found: Sequence[Found], setting: Setting) -> Json:
    """For each outcome and visit: mean change over people with both values; for pain also responders of those."""
    measures = sorted({measure for one in found for measure in one.values})
    outcomes = [name for name in measures if setting.study.measures[name].role == "outcome"]
    return {
        measure: {
            visit.id: _change([one.values.get(measure, {}) for one in found], visit.id, is_pain=measure == PAIN)
            for visit in setting.visits
        }
        for measure in outcomes
    }


def _change(values: Sequence[Mapping[str, float]], visit: str, *, is_pain: bool) -> Json:
    pairs = [(own["baseline"], own[visit]) for own in values if "baseline" in own and visit in own]
    changes = [after - before for before, after in pairs]
    found: Json = {
        "n": len(changes),
        "mean_change": _rounded(mean(changes)) if changes else None,
        "sd_change": _rounded(stdev(changes)) if len(changes) > 1 else None,
    }
    return found | ({"n_responders": {str(p): _responders(pairs, p) for p in (30, 50)}} if is_pain else {})


def _responders(pairs: Sequence[tuple[float, float]], percent: int) -> int:
    return sum(before > 0 and before - after >= percent / 100 * before - _TOLERANCE for before, after in pairs)


def _safety(found: Sequence[Found], setting: Setting) -> Json:
    """Sessions and adverse events of treated people; a session is monitored when a value stands where it should."""
    treated = [one for one in found if one.is_treated]
    events = [
        fact for one in treated for facts in one.chart.facts.values() for fact in facts if isinstance(fact, Happened)
    ]
    plan = setting.study.protocol.safety
    return {
        "n_sessions": sum(len(one.sessions) for one in treated),
        "adverse_events": dict(sorted(Counter(event.term for event in events).items())),
        "severe": sum(event.severity == "severe" for event in events),
        "serious": sum(event.is_serious for event in events),
        "monitored": {
            plan.systolic: sum(_monitored(one, plan.systolic, setting, needs_before=True) for one in treated),
            **{
                name: sum(_monitored(one, name, setting, needs_before=False) for one in treated)
                for name in (plan.oxygen_saturation, plan.dissociation, plan.sedation)
                if name
            },
        },
        "harms": dict(sorted(Counter(fact.category for one in treated for fact in _of(one, Harmed)).items())),
        "stops": sum(len(_of(one, Stopped)) for one in treated),
        "dissociated": sum(
            fact.value > plan.dissociation_above
            for one in treated
            for fact in _of(one, Value)
            if fact.measure == plan.dissociation
        ),
    }


def _monitored(one: Found, measure: str, setting: Setting, *, needs_before: bool) -> int:
    """Sessions with a value inside the safety window, and one shortly before where a rise is wanted."""
    plan = setting.study.protocol.safety
    starts = {
        fact.session: fact.at
        for facts in reversed(list(one.chart.facts.values()))
        for fact in facts
        if isinstance(fact, Given) and fact.route == "im"
    }
    minutes: dict[int, list[float]] = {}
    for facts in one.chart.facts.values():
        for fact in facts:
            if isinstance(fact, Value) and fact.measure == measure and fact.session in starts:
                since = (fact.at - starts[fact.session]).total_seconds() / 60
                minutes.setdefault(fact.session, []).append(since)
    return sum(
        any(plan.window_minutes[0] < m <= plan.window_minutes[1] for m in own)
        and (not needs_before or any(-plan.pre_dose_minutes <= m <= 0 for m in own))
        for own in minutes.values()
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
