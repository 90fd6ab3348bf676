"""The whole cohort: everybody's chart, who is listed in four equivalent ways, and the truth about it all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from crps_outcomes.resources import TYPES
from crps_outcomes.synthetic import fhir_resources as fhir
from crps_outcomes.synthetic.chart import Chart, chart_of
from crps_outcomes.synthetic.drugs import drugs_of, medications
from crps_outcomes.synthetic.fhir_resources import Entry, Json
from crps_outcomes.synthetic.mess import flagged_doses, make_mess
from crps_outcomes.synthetic.people import DANGLING_ID, FIRST_STRANGER, Person, Setting, make_person
from crps_outcomes.synthetic.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crps_outcomes.study import Study
    from crps_outcomes.synthetic.options import Options

#: One stranger for this many people, and at least two.
PEOPLE_PER_STRANGER = 20
#: How each list of the enrolled says that somebody left.
LEFT_STATUS = {"ResearchSubject": "withdrawn", "EpisodeOfCare": "cancelled", "CarePlan": "revoked"}
HERE_STATUS = {"ResearchSubject": "on-study", "EpisodeOfCare": "active", "CarePlan": "active"}
DONE_STATUS = {"ResearchSubject": "completed", "EpisodeOfCare": "finished", "CarePlan": "completed"}
DONE_EVERY = 5  # one person in this many is written down as through with it, which still counts as enrolled
LEFT_ROLES = frozenset({"inactive", "ended"})


@dataclass(frozen=True)
class Cohort:
    """Resources by type in writing order (older versions first), and what the pipeline should find in them."""

    options: Options
    resources: Mapping[str, Sequence[Json]]
    truth: Mapping[str, Any]
    transaction_time: str


def generate(options: Options, study: Study) -> Cohort:
    """A cohort for this study: the same options and study give the same cohort on any machine."""
    setting = Setting(options, study)
    people = [make_person(index, setting) for index in _indexes(options)]
    drugs = drugs_of(study)
    charts = [chart_of(person, setting, drugs) for person in people]
    faults = [fault for chart in charts for fault in make_mess(chart, setting, drugs)] if options.mess else []
    faults += [fault for chart in charts for fault in flagged_doses(chart)]
    found: dict[str, list[Json]] = {name: [] for name in TYPES}
    standing = [
        fhir.resource("Medication", identity, _started_at(setting), _elements(made))
        for identity, made in medications(drugs).items()
    ]
    listed = [person for person in people if person.role != "stranger"]
    for one in (*_from_charts(charts), *standing, *_lists(listed, setting)):
        found[one["resourceType"]].append(one)
    return Cohort(
        options=options,
        resources={name: own for name, own in found.items() if own},
        truth=truth_of(charts, faults, setting),
        transaction_time=fhir.in_utc(_ended_at(setting)),
    )


def _indexes(options: Options) -> Iterator[int]:
    yield from range(1, options.patients + 1)
    strangers = max(2, options.patients // PEOPLE_PER_STRANGER)
    yield from range(FIRST_STRANGER, FIRST_STRANGER + strangers)


def _from_charts(charts: Sequence[Chart]) -> Iterator[Json]:
    for chart in charts:
        yield from chart.resources()


def _elements(made: Json) -> Json:
    return {"status": "active"} | {name: value for name, value in made.items() if name not in {"resourceType", "id"}}


def _ended_at(setting: Setting) -> datetime:
    """The last moment of the data: after the last update of any chart, still on the last day in UTC."""
    return datetime.combine(setting.options.ends_on, time(23, 45), UTC)


def _started_at(setting: Setting) -> datetime:
    return _ended_at(setting) - timedelta(days=setting.options.enrolment_days + 120)


# --- who is enrolled, said four times -------------------------------------------------------------------------------


def _lists(people: Sequence[Person], setting: Setting) -> Iterator[Json]:
    """Group, ResearchStudy, and one ResearchSubject, EpisodeOfCare and CarePlan for each person in the Group."""
    study_id = _code(setting.study.protocol.enrolment.study_identifier)
    yield _group(people, setting)
    yield fhir.resource(
        "ResearchStudy",
        study_id,
        _started_at(setting),
        {
            "identifier": [_identifier(setting.study.protocol.enrolment.study_identifier)],
            "title": "Synthetic cohort for tests",
            "status": "active",
        },
    )
    for person in people:
        yield from _memberships(person, study_id, setting)


def _group(people: Sequence[Person], setting: Setting) -> Json:
    enrolment = setting.study.protocol.enrolment
    members = [_member(person, setting) for person in people]
    dangling = {
        "entity": fhir.patient_reference(DANGLING_ID),
        "period": {"start": _started_at(setting).date().isoformat()},
    }
    return fhir.resource(
        "Group",
        _code(enrolment.group_identifier),
        _ended_at(setting),
        {
            "identifier": [_identifier(enrolment.group_identifier)],
            "active": True,
            "type": "person",
            "actual": True,
            "name": "Synthetic cohort for tests",
            "quantity": len(members) + 1,
            "member": [*members, dangling],
        },
    )


def _member(person: Person, setting: Setting) -> Json:
    member = {"entity": fhir.patient_reference(person.id), "period": _period(person, setting)}
    return member | ({"inactive": True} if person.role == "inactive" else {})


def _period(person: Person, setting: Setting) -> Json:
    """From screening on; an end only for those whose membership ended."""
    start = {"start": person.screened_at.date().isoformat()}
    left_on = min(person.first_dose_on + timedelta(days=40), setting.options.ends_on - timedelta(days=7))
    return start | ({"end": left_on.isoformat()} if person.role == "ended" else {})


def _memberships(person: Person, study_id: str, setting: Setting) -> Iterator[Json]:
    enrolment, period = setting.study.protocol.enrolment, _period(person, setting)
    here = HERE_STATUS if person.index % DONE_EVERY else DONE_STATUS
    status = LEFT_STATUS if person.role in LEFT_ROLES else here
    episode_type, category = _concept(enrolment.episode_type), _concept(enrolment.care_plan_category)

    def own(name: str) -> Entry:
        return Entry(f"{person.id}-{name}", person.id, person.screened_at)

    yield fhir.research_subject(own("research-subject"), study_id, status["ResearchSubject"], period)
    yield fhir.episode_of_care(own("episode"), episode_type, status["EpisodeOfCare"], period)
    yield fhir.care_plan(own("care-plan"), category, status["CarePlan"], period)


def _identifier(token: str) -> Json:
    system, _, value = token.partition("|")
    return {"system": system, "value": value}


def _concept(token: str) -> Json:
    system, _, code = token.partition("|")
    return {"coding": [{"system": system, "code": code}]}


def _code(token: str) -> str:
    return token.partition("|")[2]
