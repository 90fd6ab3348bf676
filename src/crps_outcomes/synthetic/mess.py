"""Labelled faults: what real records get wrong, placed in known resources, each with the rule that should catch it.

Which faults a person's chart gets depends on the person's number alone; which resource is hit, on the person's own
random stream. So person 12 has the same faults in a cohort of 20 and in one of 200.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from crps_outcomes.synthetic import fhir_resources as fhir
from crps_outcomes.synthetic import spoils
from crps_outcomes.synthetic.chart import (
    ICD_10_CM,
    Chart,
    Fact,
    Given,
    Line,
    Stopped,
    Value,
    entry,
    noon,
    ref_of,
    score_code,
    score_value,
)
from crps_outcomes.synthetic.drugs import plain
from crps_outcomes.synthetic.options import stream
from crps_outcomes.synthetic.people import ENROLLED_ROLES, Score
from crps_outcomes.synthetic.response import COURSES, PAIN

if TYPE_CHECKING:
    import numpy as np

    from crps_outcomes.synthetic.drugs import Drugs
    from crps_outcomes.synthetic.fhir_resources import Json
    from crps_outcomes.synthetic.people import Setting

#: Ways of writing a dose that are converted and flagged, in every cohort: name -> (what it is, flag).
FLAGGED_DOSES = {
    "hydrochloride": ("strength stated as hydrochloride", "hydrochloride converted"),
    "label strength": ("hydrochloride on the label, strength of base", "strength read as base"),
}
#: A chart gets every fault whose place in `FAULTS` leaves the same remainder as the person's number.
PERIOD = 19
BEFORE_TREATMENT = ("screening", "baseline")
SCORES = (PAIN, *COURSES)
WITH_T_SCORES = ("promis_pain_interference", "promis_physical_function")


@dataclass(frozen=True)
class Fault:
    """One labelled fault: where it is, what it is, and the rule (or dose flag) that should name it.

    ``rule`` is "" when the resource should be read all the same; ``expected`` then says as what.
    ``data_source`` is "ndjson" where a REST server that keeps one version per id cannot show it.
    """

    resource_ref: str
    fault: str
    rule: str
    data_source: str = "both"
    expected: str | float = ""


@dataclass(frozen=True)
class Scene:
    """A chart about to be spoiled, and what is needed for it."""

    chart: Chart
    setting: Setting
    drugs: Drugs
    rng: np.random.Generator

    def choose(self, refs: Iterable[str]) -> str | None:
        """One of the resources that nothing has happened to yet, from now on touched; None if there is none."""
        free = [ref for ref in refs if ref not in self.chart.touched]
        if not free:
            return None
        ref = free[int(self.rng.integers(len(free)))]
        self.chart.touched.add(ref)
        return ref


Pool = Callable[[Scene], Iterable[str]]
Apply = Callable[[Scene], list[Fault]]


def make_mess(chart: Chart, setting: Setting, drugs: Drugs) -> list[Fault]:
    """Spoil one chart in place; people whose data never count keep clean charts."""
    if chart.person.role != "enrolled":
        return []
    scene = Scene(chart, setting, drugs, stream(setting.options, chart.person.index, "mess"))
    found: list[Fault] = []
    for place, (name, apply) in enumerate(FAULTS.items()):
        if place % PERIOD == chart.person.index % PERIOD:
            found.extend(replace(fault, fault=name) for fault in apply(scene))
    return found


def flagged_doses(chart: Chart) -> list[Fault]:
    """The doses of one chart that need a conversion worth a flag; no fault of anybody's, and in clean cohorts too."""
    if chart.person.role not in ENROLLED_ROLES:
        return []
    found = ((ref, facts[0]) for ref, facts in chart.facts.items())
    return [
        Fault(ref, *FLAGGED_DOSES[given.variant], expected=round(given.mg or 0, 4))
        for ref, given in found
        if isinstance(given, Given) and given.variant in FLAGGED_DOSES
    ]


# --- where a fault may land ------------------------------------------------------------------------------------------


def follow_ups(*measures: str, resource_type: str = "Observation") -> Pool:
    """Scores of visits after the first dose."""

    def pool(scene: Scene) -> Iterable[str]:
        for ref, facts in scene.chart.facts.items():
            if ref.startswith(f"{resource_type}/") and _is_follow_up(facts[0], measures):
                yield ref

    return pool


def _is_follow_up(fact: Fact, measures: tuple[str, ...]) -> bool:
    return isinstance(fact, Value) and fact.visit not in ("", *BEFORE_TREATMENT) and fact.measure in measures


def readings(*measures: str) -> Pool:
    """Vital signs after the first session, weights and laboratory values."""
    return lambda scene: (
        ref
        for ref, facts in scene.chart.facts.items()
        if isinstance(facts[0], Value) and facts[0].measure in measures and facts[0].session != 1
    )


def doses(scene: Scene) -> Iterable[str]:
    """Intramuscular doses after the first session, so that day 0 never moves."""
    for ref, facts in scene.chart.facts.items():
        if isinstance(facts[0], Given) and facts[0].route == "im" and facts[0].session > 1:
            yield ref


def any_of(*pools: Pool) -> Pool:
    return lambda scene: [ref for pool in pools for ref in pool(scene)]


# --- how a fault is made ----------------------------------------------------------------------------------------------


def lost(rule: str, pool: Pool, spoil: Callable[[Json], Json], data_source: str = "both") -> Apply:
    """A spoiled resource that must be refused by ``rule``: nothing of it counts."""

    def apply(scene: Scene) -> list[Fault]:
        ref = _spoiled(scene, pool, spoil)
        if ref is None:
            return []
        scene.chart.facts.pop(ref, None)
        return [Fault(ref, "", rule, data_source)]

    return apply


def kept(pool: Pool, spoil: Callable[[Json], Json], expected: str, rule: str = "") -> Apply:
    """An unusual resource that must be read all the same."""

    def apply(scene: Scene) -> list[Fault]:
        ref = _spoiled(scene, pool, spoil)
        return [] if ref is None else [Fault(ref, "", rule, expected=expected)]

    return apply


def added(rule: str, make: Callable[[Scene], Line], expected: str = "") -> Apply:
    """A resource more than there should be."""

    def apply(scene: Scene) -> list[Fault]:
        line = make(scene)
        scene.chart.add(line)
        scene.chart.touched.add(line.ref)
        return [Fault(line.ref, "", rule, expected=expected)]

    return apply


def _spoiled(scene: Scene, pool: Pool, spoil: Callable[[Json], Json]) -> str | None:
    ref = scene.choose(pool(scene))
    if ref is not None:
        scene.chart.versions[ref] = [spoil(deepcopy(scene.chart.versions[ref][-1]))]
    return ref


# --- faults of more than one resource or version -----------------------------------------------------------------------


def amended(scene: Scene) -> list[Fault]:
    """A newer version of the same id with another value; the older one must give way."""
    ref = scene.choose(follow_ups(PAIN)(scene))
    if ref is None:
        return []
    older, fact = scene.chart.versions[ref][-1], _value(scene, ref)
    value = fact.value + (1 if fact.value < 5 else -1)
    second = {"versionId": "2", "lastUpdated": fhir.in_utc(fact.at + fhir.AMENDED_AFTER)}
    newer = spoils.with_number(older, value) | {"status": "amended", "meta": older["meta"] | second}
    scene.chart.versions[ref] = [older, newer]
    scene.chart.facts[ref] = (replace(fact, value=value),)
    return [Fault(ref, "", "superseded", "ndjson", value)]


def _value(scene: Scene, ref: str) -> Value:
    """The one value a resource holds."""
    (fact,) = scene.chart.facts[ref]
    assert isinstance(fact, Value)
    return fact


def sent_twice(scene: Scene) -> list[Fault]:
    """The very same line a second time."""
    ref = scene.choose(follow_ups(*SCORES)(scene))
    if ref is None:
        return []
    scene.chart.versions[ref] *= 2
    return [Fault(ref, "", "duplicate", "ndjson")]


def same_value_twice(scene: Scene) -> list[Fault]:
    """The same value of the same moment under another id, as a second interface would send it."""
    ref = scene.choose(follow_ups(*SCORES)(scene))
    if ref is None:
        return []
    copy = deepcopy(scene.chart.versions[ref][-1])
    copy["id"] += "-copy"
    scene.chart.versions[ref_of(copy)] = [copy]
    scene.chart.touched.add(ref_of(copy))
    return [Fault(ref_of(copy), "", "same-value-twice", expected="the first of the two by id is kept")]


def two_systolic_values(scene: Scene) -> list[Fault]:
    """A pressure panel with two different systolic components: neither counts, the diastolic one does."""
    systolic = scene.setting.study.protocol.safety.systolic
    ref = _spoiled(scene, readings(systolic), spoils.two_first_components)
    if ref is None:
        return []
    scene.chart.facts[ref] = tuple(
        fact for fact in scene.chart.facts[ref] if isinstance(fact, Value) and fact.measure != systolic
    )
    return [Fault(ref, "", "two-values", expected="the diastolic value is kept")]


def missing_baseline(scene: Scene) -> list[Fault]:
    """No pain score before the first dose."""
    chart = scene.chart
    for ref, facts in list(chart.facts.items()):
        if isinstance(facts[0], Value) and facts[0].measure == PAIN and facts[0].visit in BEFORE_TREATMENT:
            chart.remove(ref)
    return [Fault(f"Patient/{chart.person.id}", "", "", expected="no baseline: treated but not analysed")]


# --- weights and the doses that hang on them -----------------------------------------------------------------------------


def no_weight(scene: Scene) -> list[Fault]:
    """No weight at all on record, and one dose per kilogram."""
    _all_doses_in_mg(scene)
    for ref in list(readings(scene.setting.study.protocol.exposure.weight_measure)(scene)):
        scene.chart.remove(ref)
    return lost("dose-weight-missing", doses, spoils.dose(fhir.quantity(0.6, "mg/kg")))(scene)


def old_weight(scene: Scene) -> list[Fault]:
    """One weight, taken more than 90 days before the first dose."""
    chart, rules = scene.chart, scene.setting.study.protocol.exposure
    _all_doses_in_mg(scene)
    first, *later = list(readings(rules.weight_measure)(scene))
    for ref in later:
        chart.remove(ref)
    fact = _value(scene, first)
    moved = replace(fact, at=fact.at - timedelta(days=rules.weight_max_age_days + 20))
    chart.versions[first] = [chart.versions[first][-1] | {"effectiveDateTime": fhir.written(moved.at)}]
    chart.facts[first] = (moved,)
    chart.touched.add(first)
    flag = f"weight older than {rules.weight_max_age_days} days"
    late = [ref for ref, given in _given(scene).items() if (given.at - moved.at).days > rules.weight_max_age_days]
    return [Fault(ref, "", flag, expected="dose in mg, no dose per kg") for ref in late]


def weight_jump(scene: Scene) -> list[Fault]:
    """The last weight is 30 % above the one before it."""
    chart = scene.chart
    weights = list(readings(scene.setting.study.protocol.exposure.weight_measure)(scene))
    if len(weights) < 2:
        return []
    last = weights[-1]
    fact, made = _value(scene, last), chart.versions[last][-1]
    before, after = spoils.number_of(made), round(1.3 * spoils.number_of(made), 1)
    chart.versions[last] = [spoils.with_number(made, after)]
    chart.facts[last] = (replace(fact, value=fact.value / before * after),)
    chart.touched.add(last)
    later = [ref for ref, given in _given(scene).items() if given.at.date() >= fact.at.date()]
    return [Fault(ref, "", "weight jump over 20%", expected="flagged, not corrected") for ref in later]


def _given(scene: Scene) -> dict[str, Given]:
    found = {ref: facts[0] for ref, facts in scene.chart.facts.items()}
    return {ref: fact for ref, fact in found.items() if isinstance(fact, Given)}


def _all_doses_in_mg(scene: Scene) -> None:
    """Doses per kilogram rewritten in mg, so that a missing weight costs no dose but the one that is meant."""
    weights = {session.number: session for session in scene.chart.person.sessions if session.kind == "im"}
    for ref, given in _given(scene).items():
        if given.mg_per_kg is None:
            continue
        place = int(ref.rsplit("-", 1)[1]) - 1
        mg = weights[given.session].doses_mg[place]
        scene.chart.versions[ref] = [spoils.dose(fhir.quantity(mg, "mg"))(scene.chart.versions[ref][-1])]
        scene.chart.facts[ref] = (replace(given, mg=mg, mg_per_kg=None, variant="mg"),)


def volume_without_strength(scene: Scene) -> list[Fault]:
    """0.9 mL of a drug whose strength nobody states."""

    def spoil(resource: Json) -> Json:
        bare = spoils.without(resource, "contained", "medicationReference") | plain(scene.drugs)
        return spoils.dose(fhir.quantity(0.9, "mL"))(bare)

    return lost("dose-volume-without-strength", doses, spoil)(scene)


def broken_off(scene: Scene) -> list[Fault]:
    """An injection stopped half-way for nausea: an event, and no dose."""
    stopped = {"status": "stopped", "statusReason": [fhir.concept(text="nausea")]}
    ref = _spoiled(scene, doses, lambda one: one | stopped)
    if ref is None:
        return []
    scene.chart.facts[ref] = (Stopped("nausea"),)
    return [Fault(ref, "", "", expected="a stop of ketamine with its reason, and no dose")]


def no_route(spoil: Callable[[Json], Json], route: str, *flags: str) -> Apply:
    """A dose whose route cannot be read: it stays a dose but is no intramuscular session."""

    def apply(scene: Scene) -> list[Fault]:
        ref = _spoiled(scene, doses, spoil)
        if ref is None:
            return []
        scene.chart.facts[ref] = (replace(_given(scene)[ref], route=route),)
        return [Fault(ref, "", flag, expected=f"route {route}, so no intramuscular session") for flag in flags]

    return apply


# --- resources that should not count ------------------------------------------------------------------------------------


def other_drug(name: str, words: str, codelist: str = "") -> Callable[[Scene], Line]:
    """An administration of something that is not racemic ketamine, weeks before screening."""

    def make(scene: Scene) -> Line:
        person = scene.chart.person
        at = person.screened_at - timedelta(days=30)
        codes = scene.setting.study.codelists[codelist][:1] if codelist else ()
        drug = {"medicationCodeableConcept": fhir.concept(codes, words)}
        dosage = {"dose": fhir.quantity(28, "mg")}
        return Line(fhir.administration(entry(person, f"other-{name}", at), drug, dosage))

    return make


def other_medicine(status: str, words: str) -> Callable[[Scene], Line]:
    """A prescription no codelist asks for, or one that was cancelled."""

    def make(scene: Scene) -> Line:
        person = scene.chart.person
        at = noon(scene.setting, person.screened_at.date() - timedelta(days=12))
        listed = scene.setting.study.codelists["co_treatments"][0]
        code = fhir.concept(text=words) if words else fhir.concept([listed], listed.display)
        return Line(
            fhir.medicine(entry(person, f"other-medicine-{status}", at), "MedicationRequest", code) | {"status": status}
        )

    return make


def ketamine_order(scene: Scene) -> Line:
    """An order is no evidence that anything was given."""
    person = scene.chart.person
    at = noon(scene.setting, person.screened_at.date() - timedelta(days=1))
    code = fhir.concept([scene.drugs.ketamine], "ketamine")
    return Line(fhir.medicine(entry(person, "ketamine-order", at), "MedicationRequest", code))


def proposed_medicine(scene: Scene) -> Line:
    return Line(
        other_medicine("active", "")(scene).resource | {"id": f"{scene.chart.person.id}-proposed", "intent": "proposal"}
    )


def doses_in_mg(scene: Scene) -> Iterable[str]:
    """Doses that need no Medication to be read."""
    return (ref for ref in doses(scene) if "medicationCodeableConcept" in scene.chart.versions[ref][-1])


def drug_in_words(resource: Json) -> Json:
    return resource | {"medicationCodeableConcept": {"text": "Ketamine for intramuscular injection"}}


def procedure_not_done(scene: Scene) -> Line:
    person = scene.chart.person
    code = scene.setting.study.codelists["procedures"][0]
    at = noon(scene.setting, person.screened_at.date() - timedelta(days=15))
    return Line(fhir.procedure(entry(person, "other-procedure", at), fhir.concept([code])) | {"status": "not-done"})


def refuted_diagnosis(scene: Scene) -> Line:
    """The other type of CRPS, considered and ruled out."""
    person = scene.chart.person
    codes = scene.setting.study.codelists[scene.setting.study.protocol.condition_codelist]
    other = next(
        code for code in codes if code.system == ICD_10_CM and code.group not in (person.crps_type, "not specified")
    )
    at = noon(scene.setting, person.onset_on + timedelta(days=20))
    return Line(fhir.condition(entry(person, "refuted", at), fhir.concept([other]), person.onset_on, "refuted"))


def other_diagnosis(scene: Scene) -> Line:
    person = scene.chart.person
    at = noon(scene.setting, person.onset_on)
    return Line(fhir.condition(entry(person, "other-diagnosis", at), fhir.concept(text="Migraine"), person.onset_on))


def potential_event(scene: Scene) -> Line:
    """Something that nearly happened."""
    person = scene.chart.person
    at = person.sessions[-1].at + timedelta(minutes=20)
    made = fhir.adverse_event(
        entry(person, "potential-event", at), "dizziness", "mild", is_serious=False, suspect=f"Patient/{person.id}"
    )
    return Line(spoils.without(made, "suspectEntity") | {"actuality": "potential"})


def other_questionnaire(scene: Scene) -> Line:
    person = scene.chart.person
    items = [{"linkId": "1", "answer": [{"valueInteger": 3}]}]
    form = f"{fhir.LOCAL}/Questionnaire/satisfaction"
    return Line(fhir.questionnaire_response(entry(person, "satisfaction", person.screened_at), form, items))


def pain_after_dose(scene: Scene) -> Line:
    """A low score 90 minutes after the first injection: never a baseline, and no visit either."""
    person = scene.chart.person
    at = next(one.at for one in person.sessions if one.kind == "im") + timedelta(minutes=90)
    return _pain(scene, "pain-after-dose", Score(PAIN, "", at, 2.0, 2.0))


def pain_between_visits(scene: Scene) -> Line:
    """A score on a day that no visit window holds."""
    person = scene.chart.person
    inside = {
        day
        for visit in scene.setting.study.protocol.visits
        for day in range(visit.window_days[0], visit.window_days[1] + 1)
    }
    n_days = min((person.last_on - person.first_dose_on).days, 200)
    outside = [day for day in range(1, n_days + 1) if day not in inside]
    day = outside[int(scene.rng.integers(len(outside)))]
    return _pain(
        scene,
        "pain-between",
        Score(PAIN, "", scene.setting.at(person.first_dose_on + timedelta(days=day), 1000), 5.0, 5.0),
    )


def _pain(scene: Scene, name: str, score: Score) -> Line:
    person, measure = scene.chart.person, scene.setting.study.measures[PAIN]
    made = fhir.observation(
        entry(person, name, score.at), "survey", score_code(measure, person.style), score_value(measure, score)
    )
    return Line(made, (Value(PAIN, score.at, score.value),))


# --- totals beside their items -------------------------------------------------------------------------------------------


def total_beside_items(*, agrees: bool) -> Apply:
    """A total recorded beside the questionnaire it comes from; where they disagree the recorded total stands."""

    def apply(scene: Scene) -> list[Fault]:
        chart = scene.chart
        ref = scene.choose(follow_ups("phq9", "gad7", resource_type="QuestionnaireResponse")(scene))
        if ref is None:
            return []
        fact = _value(scene, ref)
        value = fact.value if agrees else fact.value + (2 if fact.value < 10 else -2)
        line = _total(scene, ref, replace(fact, value=value))
        chart.add(line if not agrees else Line(line.resource))
        chart.touched.add(line.ref)
        if agrees:
            return [Fault(line.ref, "", "", expected="one value for the visit")]
        del chart.facts[ref]
        return [Fault(ref, "", "total-disagrees-with-items", expected=value)]

    return apply


def _total(scene: Scene, response_ref: str, fact: Value) -> Line:
    measure = scene.setting.study.measures[fact.measure]
    made = fhir.observation(
        entry(scene.chart.person, f"{measure.id}-{fact.visit}-total", fact.at),
        "survey",
        fhir.concept(measure.sources[0].codes),
        {"valueQuantity": fhir.quantity(fact.value, measure.unit), "derivedFrom": [{"reference": response_ref}]},
    )
    return Line(made, (fact,))


def in_kilograms(scene: Scene) -> Iterable[str]:
    """Weights written in kilograms."""
    for ref in readings(scene.setting.study.protocol.exposure.weight_measure)(scene):
        if scene.chart.versions[ref][-1]["valueQuantity"].get("code") == "kg":
            yield ref


def weight_in_lbs(scene: Scene) -> Line:
    """One weighing more, in a unit of words that UCUM does not know."""
    person = scene.chart.person
    measure = scene.setting.study.measures[scene.setting.study.protocol.exposure.weight_measure]
    own = entry(person, "weight-in-lbs", person.sessions[-1].at - timedelta(minutes=15))
    kilograms = {"valueQuantity": fhir.quantity(person.weighings[-1].kg, "kg")}
    made = fhir.observation(own, "vital-signs", fhir.concept(measure.sources[0].codes), kilograms)
    return Line(spoils.in_lbs(made))


def weight_in_pounds(scene: Scene) -> list[Fault]:
    ref = _spoiled(scene, in_kilograms, spoils.in_pounds)
    if ref is None:
        return []
    kg = spoils.number_of(scene.chart.versions[ref][-1]) / spoils.POUNDS_PER_KG
    scene.chart.facts[ref] = (replace(_value(scene, ref), value=kg),)
    return [Fault(ref, "", "", expected=round(kg, 3))]


ANY_SCORE = follow_ups(*SCORES)
ANY_READING = any_of(ANY_SCORE, readings("heart_rate", "alt", "ast"))
RESPONSES = follow_ups("phq9", "gad7", resource_type="QuestionnaireResponse")
WRONG = "status-not-accepted"

#: Name -> how it is made. The place in this list decides whose charts get it (see `PERIOD`).
FAULTS: dict[str, Apply] = {
    "no pain score before the first dose": missing_baseline,
    "no weight on record, dose in mg/kg": no_weight,
    "only weight is older than 90 days": old_weight,
    "questionnaire with an item missing": lost("items-missing", RESPONSES, spoils.item_missing),
    "weight jumps by 30 %": weight_jump,
    "questionnaire in progress": lost(WRONG, RESPONSES, spoils.with_status("in-progress")),
    "entered in error": lost(WRONG, ANY_READING, spoils.with_status("entered-in-error")),
    "preliminary": lost(WRONG, ANY_READING, spoils.with_status("preliminary")),
    "amended version": amended,
    "line sent twice": sent_twice,
    "same value under another id": same_value_twice,
    "total beside its items": total_beside_items(agrees=True),
    "status missing": lost("status-missing", ANY_READING, lambda one: spoils.without(one, "status")),
    "time without zone": lost("not-valid-fhir", ANY_READING, spoils.dated(spoils.no_zone)),
    "month only": lost("date-too-coarse", ANY_SCORE, spoils.dated(spoils.month_only)),
    "day only": kept(ANY_SCORE, spoils.dated(spoils.day_only), "taken on that day, no time"),
    "dated in the future": lost("date-in-future", ANY_READING, spoils.dated(spoils.far_future)),
    "total disagrees with its items": total_beside_items(agrees=False),
    "data absent, with reason": lost("data-absent", ANY_SCORE, spoils.absent),
    "no value": lost("value-missing", ANY_READING, spoils.no_value),
    "no date": lost("date-missing", ANY_READING, spoils.no_date),
    "unknown local code": lost("no-measure-takes-code", ANY_SCORE, spoils.local_code),
    "local code before the standard one": kept(ANY_SCORE, spoils.local_code_first, "read by the standard code"),
    "value as text": lost("value-missing", follow_ups(PAIN), spoils.as_text),
    "answer not in the list": lost("answer-unknown", follow_ups("pgic"), spoils.unknown_answer),
    "answer with the reversed number": kept(follow_ups("pgic"), spoils.reversed_answer, "read by its words"),
    "weight in pounds": weight_in_pounds,
    "weight in a unit that is not UCUM": added("unit-unknown", weight_in_lbs),
    "pain in millimetres": lost("unit-unknown", follow_ups(PAIN), spoils.in_millimetres),
    "pain of 11": lost("value-out-of-range", follow_ups(PAIN), spoils.reading(11)),
    "pain of 85": lost("value-out-of-range", follow_ups(PAIN), spoils.reading(85)),
    "raw sum under the code of a T-score": lost(
        "raw-score-under-t-code", follow_ups(*WITH_T_SCORES), lambda one: spoils.with_number(one, 12)
    ),
    "volume without strength": volume_without_strength,
    "dose out of range": lost("dose-out-of-range", doses, spoils.dose(fhir.quantity(5000, "mg"))),
    "dose without unit": lost("dose-unit-unknown", doses, spoils.dose({"value": 40})),
    "dose missing": lost("dose-missing", doses, spoils.dose(None)),
    "dose dated by day only": kept(doses, spoils.dated(spoils.day_only), "a dose of that day", "date only"),
    "two systolic values in one panel": two_systolic_values,
    "time in UTC": kept(ANY_SCORE, spoils.dated(spoils.in_utc), "same instant and local day"),
    "time with the offset of a journey": kept(ANY_SCORE, spoils.dated(spoils.abroad), "same instant"),
    "subject missing": lost("subject-missing", any_of(ANY_SCORE, readings("heart_rate")), spoils.no_subject, "ndjson"),
    "absolute reference": kept(ANY_READING, spoils.absolute_subject, "read as the same person"),
    "reference to a version": kept(ANY_READING, spoils.versioned_subject, "read as the same person"),
    "effectiveInstant": kept(ANY_SCORE, spoils.as_instant, "same instant"),
    "effectivePeriod": kept(ANY_SCORE, spoils.as_period, "start of the period"),
    "issued only": kept(ANY_SCORE, spoils.as_issued, "dated by issued"),
    "administration not done": lost(WRONG, doses, spoils.with_status("not-done")),
    "administration stopped": broken_off,
    "administration in progress": lost(WRONG, doses, spoils.with_status("in-progress")),
    "route and site missing": no_route(spoils.no_route, "not recorded", "route not recorded"),
    "muscle recorded but no route": no_route(
        spoils.muscle_instead_of_route, "not recorded", "route not recorded", "site is a muscle"
    ),
    "body site recorded as route": no_route(
        spoils.body_site_as_route, "other", "route not recognised", "body site recorded as route"
    ),
    "esketamine by code": added(
        "not-racemic-ketamine", other_drug("esketamine", "esketamine nasal spray", "esketamine")
    ),
    "S-ketamine in words": added("not-racemic-ketamine", other_drug("s-ketamine", "S(+)-ketamine")),
    "another drug": added("not-ketamine", other_drug("drug", "ondansetron")),
    "value below detection": lost("value-not-exact", readings("alt", "ast"), spoils.below_detection),
    "corrected": kept(ANY_READING, spoils.with_status("corrected"), "read like final"),
    "treatment nobody asks for": added("not-a-treatment-of-interest", other_medicine("active", "levothyroxine")),
    "refuted diagnosis": added(WRONG, refuted_diagnosis),
    "diagnosis other than CRPS": added("not-crps-diagnosis", other_diagnosis),
    "potential adverse event": added(WRONG, potential_event),
    "procedure not done": added(WRONG, procedure_not_done),
    "prescription cancelled": added(WRONG, other_medicine("cancelled", "")),
    "questionnaire nobody scores": added("questionnaire-unknown", other_questionnaire),
    "pain right after the first dose": added("", pain_after_dose, "never a baseline"),
    "pain between two visits": added("", pain_between_visits, "counts for no visit"),
    "ketamine ordered, nothing said about giving it": added("no-evidence-of-exposure", ketamine_order),
    "medicine only proposed": added("only-planned", proposed_medicine),
    "drug named in words only": kept(
        doses_in_mg, drug_in_words, "read as ketamine, and flagged", "drug found by its words"
    ),
}
