"""What was watched and what was seen: adverse events, vital signs around sessions, liver values.

An event counts from the first dose on. Unmonitored is not normal: every share of sessions has the sessions with a
reading as denominator, and says how many have none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes import estimators
from crps_outcomes.analysis.around_sessions import around_sessions
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.dosing import NOT_KNOWN
from crps_outcomes.analysis.harms import absent_harms, by_person_row, harms_by_dose, harms_by_person
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.rows import (
    Key,
    absent_row,
    count_row,
    described_share_row,
    rate_row,
    row,
    share_row,
    small_n,
)
from crps_outcomes.analysis.vital_signs import pre_dose_readings, window_readings
from crps_outcomes.definitions import Cut
from crps_outcomes.estimators import TOLERANCE, as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import SafetySignal

ANY = "any"
ANY_SEVERE = "any severe"
SERIOUS = "serious"
#: Groups of our own that a site's term must not be mistaken for.
RESERVED = (ANY, ANY_SEVERE, SERIOUS)
FOR_HARM = "for a harm"
ANYTHING = "anything"
#: Where a harm is recorded.
REPORTED, DIAGNOSED, ANSWERED = "reported", "diagnosed", "answered"
THIRDS = ("lowest third", "middle third", "highest third")


def safety(cohort: Cohort) -> list[Row]:
    """Adverse events, monitoring, vital signs, liver values, and events by dose."""
    events = adverse_events(cohort)
    return [
        *event_rows(cohort, events),
        *harms_by_person(cohort, event_groups(events)),
        _serious(cohort, events),
        *_stops(cohort),
        *_watched(cohort),
        *around_sessions(cohort, events),
        *_liver(cohort),
        *_hys_law(cohort),
        *_signals(cohort),
        *_by_dose(cohort, events),
        *harms_by_dose(cohort, events),
    ]


def _key(statistic: str, **parts: str) -> Key:
    return Key("safety", statistic, TREATED, **parts)


# --- adverse events -----------------------------------------------------------------------------------------------


def adverse_events(cohort: Cohort) -> pd.DataFrame:
    """Adverse events of treated people that did not begin before the first dose; without a day they count.

    On the day of the first dose an event counts unless its instant is before that of the dose.
    """
    return since_first_dose(cohort, "adverse event")


def since_first_dose(cohort: Cohort, kind: str) -> pd.DataFrame:
    """Events of a kind, of treated people, that did not begin before the first dose."""
    events = cohort.of(cohort.tables.events, TREATED)
    events = events[events["kind"] == kind]
    first = cohort.populations[TREATED][["subject_id", "first_dose_at", "first_dose_on"]]
    dated = events.merge(first, on="subject_id", validate="many_to_one")
    before = (dated["onset_on"] < dated["first_dose_on"]) | (dated["onset_at"] < dated["first_dose_at"])
    own_words = dated["term"].mask(dated["term"].isin(RESERVED), dated["term"] + " (term of the site)")
    return dated.assign(term=own_words.replace("", "not named"))[~before]


def event_rows(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Events per 100 sessions and people with at least one, for every term and for all together."""
    for group, own in event_groups(events).items():
        people = own["subject_id"]
        rate = rate_row(_key("per_100_sessions", group=group), len(own), len(cohort.sessions))
        yield behind(rate, k=people, n=cohort.sessions["subject_id"])
        yield behind(share_row(_key("people", group=group), people.nunique(), cohort.n(TREATED)), k=people.unique())
    serious = _of_serious(events)
    found = share_row(_key("people", group=SERIOUS), serious.nunique(), cohort.n(TREATED))
    yield behind(found, k=serious.unique())


def event_groups(events: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All events, the severe ones, and those of each term."""
    groups = {ANY: events, ANY_SEVERE: events[events["severity"] == "severe"]}
    return groups | {str(term): part for term, part in events.groupby("term", sort=True)}


def _serious(cohort: Cohort, events: pd.DataFrame) -> Row:
    """The number of serious events; with none, what none still allows as a share of people."""
    key = _key("serious", group=SERIOUS)
    k, n = int(events["is_serious"].sum()), cohort.n(TREATED)
    return behind(count_row(key, k, unit="events", n=n) if k else _none_of(key, n), k=_of_serious(events))


def _of_serious(events: pd.DataFrame) -> pd.Series:
    """Whose serious events these are, one entry per event."""
    people: pd.Series = events.loc[events["is_serious"].fillna(value=False), "subject_id"]
    return people


# --- stops ------------------------------------------------------------------------------------------------------------


def _stops(cohort: Cohort) -> Iterator[Row]:
    """People in whom ketamine was stopped, for any reason and for a harm; with none, what none still allows."""
    stops = since_first_dose(cohort, "discontinuation")
    for group, own in ((ANY, stops), (FOR_HARM, stops[stops["category"] != ""])):
        key, k, n = _key("stopped", group=group), own["subject_id"].nunique(), cohort.n(TREATED)
        yield behind(share_row(key, k, n) if k else _none_of(key, n), k=own["subject_id"].unique())


def _none_of(key: Key, n: int) -> Row:
    limit = estimators.one_sided_upper_for_zero(n)
    return row(
        key,
        replace(limit, method=f"share of people, {limit.method}, supposing that nothing went unrecorded"),
        unit="%",
        k=0,
    )


# --- around sessions --------------------------------------------------------------------------------------------------


_BEYOND: Mapping[str, Callable[[pd.DataFrame, float], pd.Series]] = {
    "at_least": lambda during, value: during["highest"] >= value - TOLERANCE,
    "rise": lambda paired, percent: paired["highest"] >= paired["last"] * (1 + percent / 100) - TOLERANCE,
    "above": lambda during, value: during["highest"] > value + TOLERANCE,
    "below": lambda during, value: during["lowest"] < value - TOLERANCE,
    "at_most": lambda during, value: during["lowest"] <= value + TOLERANCE,
}


def _watched(cohort: Cohort) -> Iterator[Row]:
    """How many sessions were watched at all, by what, and in how many a reading lies beyond a cut."""
    plan = cohort.protocol.safety
    during = {measure: window_readings(cohort, measure) for measure in plan.watched}
    paired = {measure: _paired(cohort, measure, during[measure]) for measure in (plan.systolic, plan.diastolic)}
    anything = pd.concat([frame[["subject_id", "session"]] for frame in during.values()]).drop_duplicates()
    watched = described_share_row(_key("watched", group=ANYTHING), len(anything), len(cohort.sessions))
    yield behind(watched, k=anything["subject_id"])
    for measure in plan.watched:
        yield _monitored(cohort, measure, paired.get(measure, during[measure])["subject_id"])
    for cut in plan.cuts:
        yield from _cut(cohort, cut, during[cut.measure])
    yield _peak_rise(cohort, plan.systolic, paired[plan.systolic])
    risen = Cut("rise", plan.systolic, plan.systolic_rise_percent)
    yield from _cut(cohort, risen, paired[plan.systolic])


def _paired(cohort: Cohort, measure: str, during: pd.DataFrame) -> pd.DataFrame:
    """The readings of sessions that have one before the injection too."""
    before = pre_dose_readings(cohort, measure)
    return before.merge(during, on=["subject_id", "session"], validate="one_to_one", suffixes=("_before", ""))


def _monitored(cohort: Cohort, measure: str, people: pd.Series) -> Row:
    found = described_share_row(_key("monitored", measure=measure), len(people), len(cohort.sessions))
    return behind(found, k=people)


def _cut(cohort: Cohort, cut: Cut, during: pd.DataFrame) -> Iterator[Row]:
    """Sessions beyond a cut, of the sessions with a reading in the window; once more with people as the unit."""
    reached, people = _BEYOND[cut.statistic](during, cut.value), during["subject_id"]
    n, k = len(reached), int(reached.sum())
    key = _key(cut.statistic, measure=cut.measure, group=f"{cut.value:g}")
    found = share_row(key, k, n, n_missing=len(cohort.sessions) - n, what="sessions")
    yield behind(found, k=people[reached], n=people)
    by_person = replace(key, statistic="session_by_person", group=f"{cut.statistic} {cut.value:g}")
    yield by_person_row(cohort, by_person, during.assign(is_reached=reached))


def _peak_rise(cohort: Cohort, measure: str, paired: pd.DataFrame) -> Row:
    """Highest reading in the window minus the last one before the dose, averaged over sessions."""
    found = estimators.mean_clustered(as_values(paired["highest"] - paired["last"]), paired["subject_id"].to_numpy())
    found = small_n(found, n=paired["subject_id"].nunique())
    unit = cohort.study.measures[measure].unit_label
    rise = (paired["highest"] - paired["last"]).set_axis(paired["subject_id"])
    described = row(_key("peak_rise", measure=measure), found, unit=unit, n_missing=len(cohort.sessions) - len(paired))
    return behind(described, values=rise.items(), n=rise.index)


# --- liver --------------------------------------------------------------------------------------------------------


def _liver(cohort: Cohort) -> Iterator[Row]:
    multiple = cohort.protocol.safety.liver_multiple_of_upper_normal
    for measure in cohort.protocol.safety.liver:
        highest = _highest_multiple(cohort, measure)
        k, n = int((highest > multiple + TOLERANCE).sum()), len(highest)
        found = share_row(_key("liver_above", measure=measure), k, n, n_missing=cohort.n(TREATED) - n)
        found = behind(found, k=highest.index[highest > multiple + TOLERANCE], n=highest.index)
        yield found | {"method": f"{found['method']}; above {multiple:g} times the upper limit of normal of the source"}
        yield from _liver_grades(cohort, measure, highest)


def _liver_grades(cohort: Cohort, measure: str, highest: pd.Series) -> Iterator[Row]:
    """People by the grade of their highest value; grade 0 is at most the upper limit of normal."""
    edges = cohort.protocol.safety.liver_grades
    n, grades = len(highest), sum((highest > edge + TOLERANCE).astype("int64") for edge in edges)
    for grade in range(len(edges) + 1):
        key, people = _key("liver_grade", measure=measure, group=str(grade)), highest.index[grades == grade]
        found = share_row(key, len(people), n, n_missing=cohort.n(TREATED) - n)
        yield behind(found, k=people, n=highest.index)


def _hys_law(cohort: Cohort) -> Iterator[Row]:
    """People whose highest values after the first dose fit the screen for drug-induced liver injury (Hy's law)."""
    plan = cohort.protocol.safety
    if not plan.bilirubin or not plan.alkaline_phosphatase:
        return
    enzymes = pd.concat([_highest_multiple(cohort, measure) for measure in plan.liver])
    known = pd.DataFrame({
        "enzyme": enzymes.groupby(level=0).max(),
        "bilirubin": _highest_multiple(cohort, plan.bilirubin),
        "alp": _highest_multiple(cohort, plan.alkaline_phosphatase),
    })  # fmt: skip
    known = known[known.notna().all(axis=1)]
    fits = (
        (known["enzyme"] > plan.liver_multiple_of_upper_normal + TOLERANCE)
        & (known["bilirubin"] > plan.bilirubin_multiple + TOLERANCE)
        & (known["alp"] <= plan.alkaline_phosphatase_at_most + TOLERANCE)
    )
    n = len(known)
    found = share_row(_key("hys_law"), int(fits.sum()), n, n_missing=cohort.n(TREATED) - n)
    yield behind(found, k=known.index[fits], n=known.index)


def _highest_multiple(cohort: Cohort, measure: str) -> pd.Series:
    """Per person the highest value after the first dose, as a multiple of the limit that the source states."""
    observations = cohort.tables.observations
    after = _after_first_dose(cohort, observations[observations["measure"] == measure])
    after = after[after["upper_normal"] > 0]
    return (after["value"] / after["upper_normal"]).groupby(after["subject_id"], sort=True).max()


def _after_first_dose(cohort: Cohort, observations: pd.DataFrame) -> pd.DataFrame:
    """The values of treated people on a later day than the first dose, or later on that day."""
    first = cohort.populations[TREATED][["subject_id", "first_dose_at", "first_dose_on"]]
    dated = cohort.of(observations, TREATED).merge(first, on="subject_id", validate="many_to_one")
    later_that_day = (dated["taken_at"] > dated["first_dose_at"]) & (dated["taken_on"] == dated["first_dose_on"])
    is_after = (dated["taken_on"] > dated["first_dose_on"]) | later_that_day
    return dated[is_after & dated["value"].notna()]


# --- signals from every source ------------------------------------------------------------------------------------------


def _signals(cohort: Cohort) -> Iterator[Row]:
    """People with each kind of harm by where it is recorded: reports, diagnoses, answers. Internal edition only."""
    found = [
        since_first_dose(cohort, kind).assign(source=source)[["subject_id", "category", "source"]]
        for kind, source in (("adverse event", REPORTED), ("condition", DIAGNOSED))
    ]
    asked = [(signal, _asked(cohort, signal)) for signal in cohort.protocol.safety.signals]
    found += [
        answers[answers["value"] > signal.above].assign(category=signal.category, source=ANSWERED)
        for signal, answers in asked
    ]
    every = pd.concat([frame[["subject_id", "category", "source"]] for frame in found]).drop_duplicates()
    every = every[every["category"] != ""]
    for source, own in {ANY: every, **{name: every[every["source"] == name] for name in (REPORTED, DIAGNOSED)}}.items():
        for category, part in own.groupby("category", sort=True):
            yield share_row(_signal(str(category), source), part["subject_id"].nunique(), cohort.n(TREATED))
    yield from _answers(cohort, every[every["source"] == ANSWERED], asked)
    yield from absent_harms(cohort, every["category"])


def _signal(category: str, source: str) -> Key:
    return _key("signal", group=f"{category}: {source}")


def _answers(
    cohort: Cohort, positive: pd.DataFrame, asked: Sequence[tuple[SafetySignal, pd.DataFrame]]
) -> Iterator[Row]:
    """Of the people asked after the first dose, those with an answer above the cut: not asked is not "no"."""
    for category in sorted({signal.category for signal, _ in asked}):
        people = pd.concat([answers["subject_id"] for signal, answers in asked if signal.category == category])
        n, k = people.nunique(), positive.loc[positive["category"] == category, "subject_id"].nunique()
        yield share_row(_signal(category, ANSWERED), k, n, n_missing=cohort.n(TREATED) - n)


def _asked(cohort: Cohort, signal: SafetySignal) -> pd.DataFrame:
    """The answers to one item after the first dose."""
    observations = cohort.tables.observations
    is_item = (observations["measure"] == signal.measure) & (observations["item"] == signal.item)
    return _after_first_dose(cohort, observations[is_item])


# --- by dose ------------------------------------------------------------------------------------------------------


def _by_dose(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Events per 100 sessions by third of the session dose: exploratory, because dose follows response."""
    sessions = cohort.sessions
    thirds = dose_thirds(sessions["mg_per_kg"])
    sizes = thirds.value_counts().to_dict()
    linked = events.merge(
        sessions[["subject_id", "session"]].assign(third=thirds), on=["subject_id", "session"], validate="many_to_one"
    )
    counts = linked["third"].value_counts().to_dict()
    for group in (*THIRDS, NOT_KNOWN):
        people, affected = (
            sessions.loc[thirds == group, "subject_id"],
            linked.loc[linked["third"] == group, "subject_id"],
        )
        yield behind(_third(group, counts, sizes), k=affected, n=people)


def _third(group: str, counts: Mapping[Hashable, int], sizes: Mapping[Hashable, int]) -> Row:
    k, n = int(counts.get(group, 0)), int(sizes.get(group, 0))
    key = _key("by_dose", group=group)
    if n == 0:
        return absent_row(key, "no session in this group", unit="per 100 sessions", method="rate per 100", k=k)
    found = rate_row(key, k, n)
    return found | {"method": f"{found['method']}; exploratory"}


def dose_thirds(mg_per_kg: pd.Series) -> pd.Series:
    """The third of the dose range each session falls into; equal doses are never split between two thirds."""
    known = as_values(mg_per_kg)
    if not len(known):
        return pd.Series(NOT_KNOWN, index=mg_per_kg.index, dtype="str")
    low, high = (float(edge) + TOLERANCE for edge in pd.Series(known).quantile([1 / 3, 2 / 3]))
    above_low, above_high = mg_per_kg > low, mg_per_kg > high
    number = above_low.astype("Int64") + above_high.astype("Int64")
    return number.map(dict(enumerate(THIRDS))).astype("object").where(mg_per_kg.notna(), NOT_KNOWN).astype("str")
