"""A person's chart: the facts as FHIR resources, each beside what the pipeline should read from it.

The chart is the one mutable thing here: `mess` takes resources out, adds some, and spoils some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from crps_outcomes.synthetic import fhir_resources as fhir
from crps_outcomes.synthetic.drugs import Drugs, give
from crps_outcomes.synthetic.fhir_resources import Entry, Json
from crps_outcomes.synthetic.options import stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crps_outcomes.definitions import Code, ListedCode, Measure
    from crps_outcomes.synthetic.people import Person, Score, Setting, Style
    from crps_outcomes.synthetic.sessions import Liver, Session, Vital, Weighing

WHOLE_NUMBER_EVERY = 3  # one whole-number score in this many is a valueInteger
OTHER_UNIT_EVERY = 4  # one quantity in this many has another accepted unit, or none
LOUD_EVERY = 40  # one questionnaire in this many has its total spread over every item
ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
SNOMED = "http://snomed.info/sct"
#: Diagnoses that do not come as ICD-10-CM, by the person's number: (every how many, which one).
SNOMED_DIAGNOSIS, TEXT_DIAGNOSIS = (16, 5), (32, 11)


@dataclass(frozen=True)
class Value:
    """One value the pipeline should read: measure, visit ("" outside visits) and the value in the measure's unit."""

    measure: str
    at: datetime
    value: float
    visit: str = ""
    session: int = 0


@dataclass(frozen=True)
class Given:
    """One administration the pipeline should read as a dose of ketamine base."""

    at: datetime
    route: str
    session: int
    mg: float | None  # None: the amount is per kilogram
    mg_per_kg: float | None
    variant: str


@dataclass(frozen=True)
class Happened:
    """One adverse event the pipeline should count."""

    term: str
    severity: str
    is_serious: bool
    session: int


@dataclass(frozen=True)
class Treated:
    """One medicine or procedure of a class the study's codelists know; no end means going on, but for procedures."""

    group: str
    on: date
    ended_on: date | None
    is_procedure: bool


@dataclass(frozen=True)
class Stopped:
    """One injection broken off: no dose, but an event with its reason."""

    term: str


@dataclass(frozen=True)
class Harmed:
    """One diagnosis that a codelist counts as a harm."""

    category: str


@dataclass(frozen=True)
class Examined:
    """One symptom or sign of CRPS, present or absent."""

    feature: str
    is_present: bool


Fact = Value | Given | Happened | Treated | Stopped | Harmed | Examined


@dataclass(frozen=True)
class Line:
    """A resource and the facts in it."""

    resource: Json
    facts: tuple[Fact, ...] = ()

    @property
    def ref(self) -> str:
        return ref_of(self.resource)


@dataclass
class Chart:
    """All resources of a person by reference, in writing order, each as its versions, oldest first."""

    person: Person
    versions: dict[str, list[Json]] = field(default_factory=dict)
    facts: dict[str, tuple[Fact, ...]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    def add(self, line: Line) -> None:
        """Write a new resource into the chart."""
        self.versions[line.ref] = [line.resource]
        if line.facts:
            self.facts[line.ref] = line.facts

    def remove(self, ref: str) -> None:
        """Take a resource out, as if it had never been recorded."""
        del self.versions[ref]
        self.facts.pop(ref, None)

    def resources(self) -> Iterator[Json]:
        for versions in self.versions.values():
            yield from versions


def ref_of(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def weight_of(day: date, weights: Sequence[Value], oldest_days: int) -> float | None:
    """The latest weight of that day or before, unless it is too old."""
    before = [one for one in weights if one.at.date() <= day]
    latest = max(before, key=lambda one: one.at, default=None)
    return latest.value if latest and (day - latest.at.date()).days <= oldest_days else None


def chart_of(person: Person, setting: Setting, drugs: Drugs) -> Chart:
    """The chart of one person before anything goes wrong in it."""
    chart = Chart(person)
    lines: Iterable[Iterable[Line]] = (
        _identity(person, setting),
        *(_scores(person, scores, setting) for scores in _by_visit(person.scores)),
        *(_weight(person, place, one, setting) for place, one in enumerate(person.weighings)),
        *(_liver(person, place, one, setting) for place, one in enumerate(person.liver)),
        *(_session(person, session, setting, drugs) for session in person.sessions),
        _treatments(person, setting),
        _scales(person, setting),
        _more_liver(person, setting),
        _examination(person, setting),
        _harms(person, setting),
    )
    for group in lines:
        for line in group:
            chart.add(line)
    return chart


def entry(person: Person, name: str, at: datetime) -> Entry:
    """The id of a person's resource says what it is: no id depends on what else was written."""
    return Entry(f"{person.id}-{name.replace('_', '-')}", person.id, at)


def noon(setting: Setting, on: date) -> datetime:
    return setting.at(on, 720)


# --- who ----------------------------------------------------------------------------------------------------------


def _identity(person: Person, setting: Setting) -> Iterator[Line]:
    yield Line(
        fhir.patient(Entry(person.id, person.id, person.screened_at), person.born_on, is_female=person.is_female)
    )
    yield Line(fhir.consent(entry(person, "consent", person.screened_at - timedelta(hours=2)), person.role))
    known_on = person.onset_on + timedelta(days=60)
    yield Line(
        fhir.condition(entry(person, "crps", noon(setting, known_on)), _diagnosis(person, setting), person.onset_on)
    )


def _diagnosis(person: Person, setting: Setting) -> Json:
    """ICD-10-CM for most, SNOMED CT for some, words alone for one in 32."""
    codes = setting.study.codelists[setting.study.protocol.condition_codelist]
    rng_place = person.index // 3
    if person.index % TEXT_DIAGNOSIS[0] == TEXT_DIAGNOSIS[1]:
        return fhir.concept(text="Complex regional pain syndrome, right hand")
    if person.index % SNOMED_DIAGNOSIS[0] == SNOMED_DIAGNOSIS[1] and person.crps_type == "I":
        return fhir.concept([_pick(codes, rng_place, SNOMED, ("I", "not specified"))])
    code = _pick(codes, rng_place, ICD_10_CM, (person.crps_type,))
    return fhir.concept([code], "Complex regional pain syndrome")


def _pick(codes: Sequence[ListedCode], place: int, system: str, groups: tuple[str, ...]) -> ListedCode:
    own = [code for code in codes if code.system == system and code.group in groups and "parent" not in code.display]
    return own[place % len(own)]


# --- questionnaires -----------------------------------------------------------------------------------------------


def _by_visit(scores: Iterable[Score]) -> Iterator[list[Score]]:
    visits: dict[str, list[Score]] = {}
    for score in scores:
        visits.setdefault(score.visit, []).append(score)
    yield from visits.values()


def _scores(person: Person, scores: list[Score], setting: Setting) -> Iterator[Line]:
    for score in scores:
        measure = setting.study.measures.get(score.measure)
        if measure is None:
            continue
        fact = Value(score.measure, score.at, score.value, score.visit)
        if measure.score.method == "sum" and person.style.has_items:
            items = answered(person, score, measure)
            form = measure.questionnaires[0].questionnaire
            made = fhir.questionnaire_response(entry(person, f"{measure.id}-{score.visit}", score.at), form, items)
        else:
            made = fhir.observation(
                entry(person, f"{measure.id}-{score.visit}", score.at),
                "survey",
                score_code(measure, person.style),
                score_value(measure, score),
            )
        yield Line(made, (fact,))


def score_code(measure: Measure, style: Style) -> Json:
    """The measure's code; where two families of codes circulate, the one or both that this person's site uses."""
    codes: tuple[Code, ...] = measure.sources[0].codes
    chosen = {"first": codes[:1], "second": codes[1:2] or codes[:1], "both": codes}[style.promis]
    return fhir.concept(chosen)


def score_value(measure: Measure, score: Score) -> Json:
    """The value as an answer, a whole number, or a quantity with one of the units sites use for scores."""
    if measure.sources[0].read == "answer":
        return {"valueCodeableConcept": answer_of(measure, score.value)}
    place = score.at.toordinal() + score.at.minute
    if score.value.is_integer() and place % WHOLE_NUMBER_EVERY == 0:
        return {"valueInteger": int(score.value)}
    units = (measure.unit, *measure.accepted_units)
    unit = units[place % len(units)] if place % OTHER_UNIT_EVERY == 0 else measure.unit
    return {"valueQuantity": fhir.quantity(score.value, unit) if unit else {"value": fhir.number(score.value)}}


def answer_of(measure: Measure, value: float, code: str = "") -> Json:
    """An answer by its words, with the site's own code beside it."""
    display = next(answer.display for answer in measure.answers if answer.value == value)
    coding = {"system": f"{fhir.LOCAL}/{measure.id}", "code": code or str(int(value)), "display": display}
    return {"coding": [coding], "text": display}


def answered(person: Person, score: Score, measure: Measure) -> list[Json]:
    """Items whose answers add up to the score, nested in a group or not, coded or as whole numbers."""
    form = measure.questionnaires[0]
    values = _with_quiet_end(int(score.value), len(form.link_ids), person.index + score.at.toordinal())
    items = [
        {"linkId": link_id, "answer": [_answer(measure, value, is_coded=person.style.has_coded_answers)]}
        for link_id, value in zip(form.link_ids, values, strict=True)
    ]
    return [{"linkId": f"{measure.id}-all", "item": items}] if person.style.is_nested else items


def _answer(measure: Measure, value: int, *, is_coded: bool) -> Json:
    if not is_coded:
        return {"valueInteger": value}
    option = next(answer for answer in measure.answers if answer.value == value)
    return {"valueCoding": {"system": "http://loinc.org", "code": option.codes[0], "display": option.display}}


def _with_quiet_end(total: int, n_items: int, seed: int) -> list[int]:
    """Answers whose last one, a signal in the PHQ-9, is 0 where the others can hold the total; now and then it is not."""
    if seed % LOUD_EVERY == 0 or total > 3 * (n_items - 1):
        return split(total, n_items, seed)
    return [*split(total, n_items - 1, seed), 0]


def split(total: int, n_items: int, seed: int) -> list[int]:
    """A total as ``n_items`` answers of 0 to 3, scattered but always the same for the same seed."""
    even, more = divmod(total, n_items)
    values = [even + (place < more) for place in range(n_items)]
    turn = seed % n_items
    return [*values[turn:], *values[:turn]]


# --- the clinic ---------------------------------------------------------------------------------------------------


def _weight(person: Person, place: int, one: Weighing, setting: Setting) -> Iterator[Line]:
    measure = setting.study.measures[setting.study.protocol.exposure.weight_measure]
    pounds = round(one.kg / KG_PER_POUND, 1)
    unit, value, kg = (
        ("[lb_av]", pounds, pounds * KG_PER_POUND) if person.style.weighs_in_pounds else ("kg", one.kg, one.kg)
    )
    yield Line(
        fhir.observation(
            entry(person, f"weight-{place + 1}", one.at),
            "vital-signs",
            fhir.concept(measure.sources[0].codes),
            {"valueQuantity": fhir.quantity(value, unit)},
        ),
        (Value(measure.id, one.at, kg),),
    )


KG_PER_POUND = 0.45359237


def _liver(person: Person, place: int, one: Liver, setting: Setting) -> Iterator[Line]:
    for name, value, upper in (("alt", one.alt, 40), ("ast", one.ast, 38)):
        if name not in setting.study.measures:
            continue
        measure = setting.study.measures[name]
        unit = measure.accepted_units[0] if measure.accepted_units and person.index % 9 == 0 else measure.unit
        limits = {"low": fhir.quantity(7, unit), "high": fhir.quantity(upper, unit)}
        elements = {"valueQuantity": fhir.quantity(value, unit), "referenceRange": [limits]}
        made = fhir.observation(
            entry(person, f"{name}-{place + 1}", one.at), "laboratory", fhir.concept(measure.sources[0].codes), elements
        )
        yield Line(made, (Value(name, one.at, value),))


def _session(person: Person, session: Session, setting: Setting, drugs: Drugs) -> Iterator[Line]:
    name = f"{session.kind}{session.number:02d}"
    visit = entry(person, f"{name}-visit", session.at)
    yield Line(fhir.encounter(visit))
    for place, mg in enumerate(session.doses_mg):
        at = session.at + timedelta(minutes=25 * place)
        given = give(person, session, mg, drugs)
        made = fhir.administration(entry(person, f"{name}-dose-{place + 1}", at), given.drug, given.dosage, visit.id)
        if person.style.writes_utc:
            made = made | {"effectiveDateTime": fhir.in_utc(at)}
        yield Line(made, (Given(at, session.kind, session.number, given.mg, given.mg_per_kg, given.variant),))
    for vital in session.vitals:
        yield from _vitals(person, session, vital, setting)
    yield from _events(person, session, name)


def _vitals(person: Person, session: Session, vital: Vital, setting: Setting) -> Iterator[Line]:
    when = "before" if vital.minute < 0 else f"{vital.minute}-min"
    start = f"{session.kind}{session.number:02d}"
    yield _pressure(person, f"{start}-bp-{when}", session, vital, setting)
    singles = {
        "oxygen_saturation": vital.saturation,
        "heart_rate": vital.heart_rate,
        "respiratory_rate": vital.respiratory_rate,
    }
    for name, value in singles.items():
        if value is None or name not in setting.study.measures:
            continue
        measure = setting.study.measures[name]
        made = fhir.observation(
            entry(person, f"{start}-{name}-{when}", vital.at),
            "vital-signs",
            fhir.concept(measure.sources[0].codes),
            {"valueQuantity": fhir.quantity(value, measure.unit)},
        )
        yield Line(made, (Value(name, vital.at, value, session=session.number),))


def _pressure(person: Person, name: str, session: Session, vital: Vital, setting: Setting) -> Line:
    """Both pressures as components of one panel."""
    measures = {
        setting.study.protocol.safety.systolic: vital.systolic,
        setting.study.protocol.safety.diastolic: vital.diastolic,
    }
    parts = [
        {
            "code": fhir.concept(setting.study.measures[name].sources[0].component),
            "valueQuantity": fhir.quantity(value, setting.study.measures[name].unit),
        }
        for name, value in measures.items()
    ]
    panel = fhir.concept(setting.study.measures[setting.study.protocol.safety.systolic].sources[0].codes)
    made = fhir.observation(entry(person, name, vital.at), "vital-signs", panel, {"component": parts})
    facts = (Value(measure, vital.at, value, session=session.number) for measure, value in measures.items())
    return Line(made, tuple(facts))


def _events(person: Person, session: Session, name: str) -> Iterator[Line]:
    for place, event in enumerate(session.events):
        made = fhir.adverse_event(
            entry(person, f"{name}-event-{place + 1}", event.at),
            event.term,
            event.severity,
            is_serious=event.is_serious,
            suspect=f"MedicationAdministration/{person.id}-{name}-dose-1",
        )
        yield Line(made, (Happened(event.term, event.severity, event.is_serious, session.number),))


def _treatments(person: Person, setting: Setting) -> Iterator[Line]:
    for place, treatment in enumerate(person.treatments):
        own = entry(person, f"treatment-{place + 1}", noon(setting, treatment.on))
        code = fhir.concept([treatment.code], treatment.code.display)
        made = (
            fhir.procedure(own, code)
            if treatment.resource_type == "Procedure"
            else fhir.medicine(own, treatment.resource_type, code, treatment.ended_on)
        )
        is_procedure = treatment.resource_type == "Procedure"
        yield Line(made, (Treated(treatment.code.group, treatment.on, treatment.ended_on, is_procedure),))


# --- scales, laboratory, examination and harms, each from a stream of its own ------------------------------------------

SHARE_SCALED = 0.6  # sessions with dissociation and alertness on record, of those with vital signs
#: Who has a harm recorded as a diagnosis, by number: code -> (every how many, which one, days after the first dose).
HARMS = {"N30.10": (19, 8, 60), "R45.851": (43, 17, 30), "R11.0": (17, 3, 10)}
#: What is recorded of the four categories, as symptoms and as signs: present, absent, or not examined.
EXAMINATIONS = {
    "research": ("pppp", "ppaa"),
    "clinical": ("pppa", "ppaa"),
    "not met": ("ppaa", "paaa"),
    "not known": ("pp--", "p---"),
}
SHARES_OF_STATES = (0.35, 0.35, 0.1, 0.2)


def _scales(person: Person, setting: Setting) -> Iterator[Line]:
    """Dissociation after 40 minutes and alertness after 30, higher and lower with the dose."""
    plan, rng = setting.study.protocol.safety, stream(setting.options, person.index, "scales")
    for session in person.sessions:
        dissociation, sleepy = (
            int(rng.poisson(6 * session.mg_per_kg)),
            int(rng.binomial(3, 0.25 * min(session.mg_per_kg, 1))),
        )
        is_scaled = rng.random() < SHARE_SCALED and bool(session.vitals)
        for name, value, minute in ((plan.dissociation, dissociation, 40), (plan.sedation, 5 - sleepy, 30)):
            if name and is_scaled:
                yield _scale(person, session, setting.study.measures[name], value, minute)


def _scale(person: Person, session: Session, measure: Measure, value: int, minute: int) -> Line:
    at = session.at + timedelta(minutes=minute)
    own = entry(person, f"{session.kind}{session.number:02d}-{measure.id}", at)
    elements = {"valueQuantity": fhir.quantity(value, measure.unit)}
    made = fhir.observation(own, "survey", fhir.concept(measure.sources[0].codes), elements)
    return Line(made, (Value(measure.id, at, value, session=session.number),))


def _more_liver(person: Person, setting: Setting) -> Iterator[Line]:
    """Bilirubin and ALP beside the enzymes, with their upper limits."""
    plan, rng = setting.study.protocol.safety, stream(setting.options, person.index, "more liver")
    for place, one in enumerate(person.liver):
        bilirubin, alp = round(float(rng.uniform(0.3, 1.1)), 1), int(rng.integers(45, 110))
        for name, value, upper in ((plan.bilirubin, bilirubin, 1.2), (plan.alkaline_phosphatase, alp, 120)):
            if name:
                measure = setting.study.measures[name]
                limits = [{"high": fhir.quantity(upper, measure.unit)}]
                elements = {"valueQuantity": fhir.quantity(value, measure.unit), "referenceRange": limits}
                own = entry(person, f"{name}-{place + 1}", one.at)
                made = fhir.observation(own, "laboratory", fhir.concept(measure.sources[0].codes), elements)
                yield Line(made, (Value(name, one.at, value),))


def budapest_state(person: Person, setting: Setting) -> str:
    """The criteria this person's examination is invented to meet."""
    drawn = stream(setting.options, person.index, "examination").random()
    passed = accumulate(SHARES_OF_STATES)
    return next((state for state, edge in zip(EXAMINATIONS, passed, strict=True) if drawn < edge), "not known")


def _examination(person: Person, setting: Setting) -> Iterator[Line]:
    """Symptoms and signs at screening, as booleans or as words."""
    listed = {code.group: code for code in setting.study.codelists[setting.study.protocol.context.feature_codelist]}
    letters = EXAMINATIONS[budapest_state(person, setting)]
    for kind, own in zip(("symptom", "sign"), letters, strict=True):
        for category, letter in zip(("sensory", "vasomotor", "sudomotor", "motor"), own, strict=True):
            if letter == "-":
                continue
            is_present = letter == "p"
            words = {"valueCodeableConcept": {"text": "Present" if is_present else "Absent"}}
            value = {"valueBoolean": is_present} if person.index % 2 else words
            about = entry(person, f"{kind}-{category}", person.screened_at)
            made = fhir.observation(about, "exam", fhir.concept([listed[f"{kind}: {category}"]]), value)
            yield Line(made, (Examined(f"{kind}: {category}", is_present),))


def _harms(person: Person, setting: Setting) -> Iterator[Line]:
    listed = {code.code: code for code in setting.study.codelists[setting.study.protocol.safety.event_codelist]}
    for code, (every, which, days) in HARMS.items():
        on = person.first_dose_on + timedelta(days=days)
        if person.index % every == which and on <= person.last_on and person.sessions:
            own = entry(person, f"harm-{code.lower().replace('.', '')}", noon(setting, on))
            made = fhir.condition(own, fhir.concept([listed[code]]), on)
            yield Line(made, (Harmed(listed[code].group),))
