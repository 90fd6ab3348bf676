"""Score: one row per treated person, outcome measure and visit, whether there is a value or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.estimators import is_responder
from crps_outcomes.scoring import scored
from crps_outcomes.tables import OUTCOMES, SUBJECTS, build, finish
from crps_outcomes.visits import baseline_values, visit_values

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from datetime import date

    from crps_outcomes.definitions import Measure
    from crps_outcomes.diagnoses import Diagnosis
    from crps_outcomes.rejections import Rejection
    from crps_outcomes.resources import Patient
    from crps_outcomes.stages.tabulate import Tabulated
    from crps_outcomes.study import Study

OPEN_WINDOW = "the window is still open"

_SEXES = ("female", "male", "other", "unknown")


@dataclass(frozen=True)
class Scored:
    """SUBJECTS, OUTCOMES, and what scoring refused."""

    subjects: pd.DataFrame
    outcomes: pd.DataFrame
    rejections: tuple[Rejection, ...]


def score(tabulated: Tabulated, enrolled: Mapping[str, date | None], study: Study, *, as_of: date) -> Scored:
    """Baselines, visit values, changes and responses by the protocol's rules.

    Args:
        tabulated: the cohort's rows.
        enrolled: day of enrolment by subject id, None where the source gives none.
        study: the protocol and its measures.
        as_of: the last day that exists; a visit whose window is still open then is "not due", not missing, and a value
            in it is provisional, for another may yet be nearer the day.
    """
    diagnoses = _by_subject(tabulated.diagnoses)
    first_doses = first_im_doses(tabulated.doses, study)
    first_doses = first_doses[first_doses["subject_id"].isin(list(diagnoses))].reset_index(drop=True)
    values, rejections = scored(tabulated.observations, study, tabulated.made_from)
    outcomes = _outcomes(values, first_doses, study, as_of)
    known = Known(
        patients={patient.id: patient for patient in tabulated.people},
        diagnoses=diagnoses,
        first_doses={row["subject_id"]: row for row in first_doses.to_dict("records")},
        enrolled=enrolled,
        as_of=as_of,
    )
    subjects = _subjects(known, outcomes, study.protocol.outcomes.primary)
    return Scored(subjects, finish(OUTCOMES, outcomes), tuple(rejections))


def first_im_doses(doses: pd.DataFrame, study: Study) -> pd.DataFrame:
    """subject_id, first_dose_at, first_dose_on: the first dose by the protocol's route, day 0 of every window."""
    own = doses[doses["route"] == study.protocol.exposure.route]
    first = own.sort_values(["subject_id", "session", "given_on", "given_at"]).drop_duplicates("subject_id")
    names = {"given_at": "first_dose_at", "given_on": "first_dose_on"}
    return first.rename(columns=names)[["subject_id", "first_dose_at", "first_dose_on"]].reset_index(drop=True)


def _outcomes(values: pd.DataFrame, first_doses: pd.DataFrame, study: Study, as_of: date) -> pd.DataFrame:
    dated = values.merge(first_doses, on="subject_id", validate="many_to_one")
    dated["study_day"] = (dated["taken_on"] - dated["first_dose_on"]).dt.days.astype("Int64")
    chosen = pd.concat([baseline_values(dated, study.protocol), visit_values(dated, study.protocol)])
    frame = _expected(first_doses, dated, study).merge(
        chosen, on=["subject_id", "measure", "visit"], how="left", validate="one_to_one"
    )
    frame = _with_change(_with_state(frame, as_of), study.measures)
    return _with_composites(frame, study)[list(OUTCOMES.columns)]


def _expected(first_doses: pd.DataFrame, dated: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Every row the protocol expects, with the last study day of its window.

    Of every treated person for the measures the protocol declares; for others of the catalogue, of those in whom they
    were ever recorded.
    """
    visits = [("baseline", 0), *((visit.id, visit.window_days[1]) for visit in study.protocol.visits)]
    rows = [
        (measure.id, visit, last_day)
        for measure in study.measures.values()
        for visit, last_day in visits
        if (measure.role == "outcome" and (visit != "baseline" or measure.has_baseline))
        or (measure.role == "descriptor" and visit == "baseline")
    ]
    expected = pd.DataFrame(rows, columns=["measure", "visit", "last_day"])
    everybody = [one.id for one in study.reported]
    people = first_doses[["subject_id", "first_dose_on"]]
    declared = people.merge(expected[expected["measure"].isin(everybody)], how="cross")
    others = expected[~expected["measure"].isin(everybody)]
    found = _recorded_in(dated, study)
    return pd.concat([declared, people.merge(found, on="subject_id").merge(others, on="measure")], ignore_index=True)


def _recorded_in(dated: pd.DataFrame, study: Study) -> pd.DataFrame:
    """subject_id, measure: who has any value of what; a composite is there where all its parts are."""
    found = dated[["subject_id", "measure"]].drop_duplicates()
    composites = [
        _with_all(found, one) for _, one in sorted(study.measures.items()) if one.score.method == "composite_responder"
    ]
    return pd.concat([found, *composites], ignore_index=True)


def _with_all(found: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    n_parts = found[found["measure"].isin(measure.score.inputs)].groupby("subject_id")["measure"].nunique()
    whole = n_parts[n_parts == len(measure.score.inputs)]
    return pd.DataFrame({"subject_id": whole.index, "measure": measure.id})


def _with_state(frame: pd.DataFrame, as_of: date) -> pd.DataFrame:
    closes_on = frame["first_dose_on"] + pd.to_timedelta(frame["last_day"], unit="D")
    is_open = (closes_on >= pd.Timestamp(as_of)) & (frame["visit"] != "baseline")
    is_known = frame["value"].notna()
    states = pd.Series("missing", index=frame.index).mask(is_known, "observed").mask(is_open, "not due")
    reasons = states.map({"missing": "no value in the window", "not due": OPEN_WINDOW, "observed": ""})
    text = frame["derivation"].where(states == "observed", reasons)
    refs = frame["source_refs"].where(is_known, "")
    provisional, value = frame["value"].where(is_open), frame["value"].mask(is_open)
    return frame.assign(state=states, derivation=text, source_refs=refs, value=value, provisional=provisional)


def _with_change(frame: pd.DataFrame, measures: Mapping[str, Measure]) -> pd.DataFrame:
    key = ["subject_id", "measure"]
    start = frame.loc[frame["visit"] == "baseline", [*key, "value"]].rename(columns={"value": "baseline"})
    frame = frame.merge(start, on=key, how="left", validate="many_to_one")
    value, baseline = frame["value"].astype("Float64"), frame["baseline"].astype("Float64")
    compares = [one.id for one in measures.values() if one.range_kind != "categories"]
    follow_up = (frame["visit"] != "baseline") & frame["measure"].isin(compares)
    from_zero = frame["measure"].isin([one.id for one in measures.values() if one.range[0] == 0])
    change = (value - baseline).where(follow_up)
    # A percentage means something only on a scale that starts at 0, and only from a start above 0.
    percent = (100 * change / baseline.mask(baseline == 0)).where(from_zero)
    frame = frame.assign(value=value, baseline=baseline, change=change, percent_change=percent)
    for percents, column in ((30, "is_responder_30"), (50, "is_responder_50")):
        frame[column] = _responders(frame, measures, percents).where(follow_up & from_zero)
    return frame


def _responders(frame: pd.DataFrame, measures: Mapping[str, Measure], percent: int) -> pd.Series:
    responders = pd.Series(pd.NA, index=frame.index, dtype="boolean")
    for direction in ("lower", "higher"):
        own = frame["measure"].isin([one.id for one in measures.values() if one.direction == direction])
        responders = responders.mask(own, is_responder(frame["baseline"], frame["value"], percent, direction))
    return responders


def _with_composites(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The frame with composite responders filled in from the rows of their parts: 1 for a response, 0 for none."""
    there = set(frame["measure"])
    for measure in study.measures.values():
        if measure.score.method != "composite_responder" or measure.id not in there:
            continue
        found = _composite(frame, measure, study)
        own = frame[frame["measure"] == measure.id].drop(columns=["value", "derivation", "source_refs"])
        own = own.merge(found, on=["subject_id", "visit"], how="left", validate="one_to_one")
        is_known = own["value"].notna()
        own["state"] = own["state"].mask(is_known, "observed")
        reasons = own["state"].map({"not due": OPEN_WINDOW}).where(~is_known, own["derivation"])
        own["derivation"] = reasons.where(reasons.notna(), "not every part has a value and a baseline above 0")
        own["source_refs"] = own["source_refs"].where(is_known, "")
        frame = pd.concat([frame[frame["measure"] != measure.id], own[frame.columns]], ignore_index=True)
    return frame


def _composite(frame: pd.DataFrame, measure: Measure, study: Study) -> pd.DataFrame:
    """subject_id, visit, value, derivation, source_refs of one composite of pain and function.

    At least 50% less pain, or at least 20% less pain and 30% better function (Patel 2018,
    doi:10.1097/j.pain.0000000000001324). Missing as long as what is missing could change the answer.
    """
    pain, function = (study.measure(name) for name in measure.score.inputs)
    key = ["subject_id", "visit"]
    both = frame[frame["measure"] == pain.id].merge(
        frame[frame["measure"] == function.id], on=key, suffixes=("", "_function"), validate="one_to_one"
    )
    much = is_responder(both["baseline"], both["value"], 50, pain.direction)
    some = is_responder(both["baseline"], both["value"], 20, pain.direction)
    better = is_responder(both["baseline_function"], both["value_function"], 30, function.direction)
    refs = both["source_refs"] + " " + both["source_refs_function"]
    found = both[key].assign(
        value=(much | (some & better)).astype("Float64"),
        derivation=f"composite of {pain.id} and {function.id}",
        source_refs=[" ".join(sorted(set(one.split()))) for one in refs],
    )
    return found[found["value"].notna() & (found["visit"] != "baseline")]


# --- people -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What is known about people beside their values, by subject id."""

    patients: Mapping[str, Patient]
    diagnoses: Mapping[str, list[Diagnosis]]
    first_doses: Mapping[str, Mapping[Hashable, pd.Timestamp]]
    enrolled: Mapping[str, date | None]
    as_of: date


def _subjects(known: Known, outcomes: pd.DataFrame, primary_measure: str) -> pd.DataFrame:
    primary = outcomes[(outcomes["measure"] == primary_measure) & (outcomes["state"] == "observed")]
    with_baseline = set(primary.loc[primary["visit"] == "baseline", "subject_id"])
    with_follow_up = set(primary.loc[primary["visit"] != "baseline", "subject_id"])
    return build(SUBJECTS, (_subject(known, one, with_baseline, with_follow_up) for one in sorted(known.enrolled)))


def _subject(known: Known, subject: str, with_baseline: set[str], with_follow_up: set[str]) -> dict[str, object]:
    dose = known.first_doses.get(subject, {})
    row: dict[str, object] = {
        "subject_id": subject,
        "enrolled_on": known.enrolled[subject],
        "first_dose_at": dose.get("first_dose_at"),
        "first_dose_on": dose.get("first_dose_on"),
        **_person(known.patients.get(subject), dose.get("first_dose_on", pd.Timestamp(known.as_of))),
        **_diagnosis(known.diagnoses.get(subject, [])),
        "is_treated": subject in known.first_doses,
        "has_baseline": subject in with_baseline,
        "is_analysed": subject in with_baseline & with_follow_up,
    }
    return row | {"exclusion": _exclusion(row)}


def _person(patient: Patient | None, on: pd.Timestamp) -> dict[str, object]:
    gender = patient.gender if patient and patient.gender in _SEXES else "unknown"
    return {"sex": gender, "age_years": _age(patient.birth_date if patient else "", on)}


def _age(birth_date: str, on: pd.Timestamp) -> float | None:
    """Completed years; from year and month only when the day is not recorded, and none from less than a year."""
    parts = [int(part) for part in birth_date.split("-") if part.isdigit()]
    if not parts:
        return None
    year, month, day = (*parts, 7, 1)[:3] if len(parts) > 1 else (parts[0], 7, 1)
    return float(on.year - year - ((on.month, on.day) < (month, day)))


def _by_subject(diagnoses: Sequence[Diagnosis]) -> dict[str, list[Diagnosis]]:
    found: dict[str, list[Diagnosis]] = {}
    for diagnosis in diagnoses:
        found.setdefault(diagnosis.subject_id, []).append(diagnosis)
    return found


def _diagnosis(own: list[Diagnosis]) -> dict[str, object]:
    """One CRPS type per person; diagnoses of both types leave it unspecified."""
    if not own:
        return {"crps_type": "no diagnosis", "crps_match": "", "onset_on": None}
    types = {one.crps_type for one in own} - {"not specified"}
    coded = sorted(own, key=lambda one: (one.match == "text", one.crps_type == "not specified", one.match))
    onsets = [one.onset_on for one in own if one.onset_on is not None]
    return {
        "crps_type": types.pop() if len(types) == 1 else "not specified",
        "crps_match": coded[0].match,
        "onset_on": min(onsets) if onsets else None,
    }


def _exclusion(row: dict[str, object]) -> str:
    """The first box of the cohort flow this person does not reach."""
    steps = (
        (row["crps_type"] != "no diagnosis", "no CRPS diagnosis on record"),
        (row["is_treated"], "no IM session"),
        (row["has_baseline"], "no baseline pain score"),
        (row["is_analysed"], "no follow-up pain score"),
    )
    return next((reason for passed, reason in steps if not passed), "")
