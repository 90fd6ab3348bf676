"""What the study folder may say: frozen models of protocol, measures, codelists and reports.

These models are the whole language a clinician writes in. Unknown keys are errors, every value has a unit or a
closed list, and nothing here reads a file: ``study.py`` does.
"""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from crps_outcomes.declaration import Definition, Identifier, State
from crps_outcomes.language import Language, Paper  # noqa: TC001 - pydantic reads the annotations at run time
from crps_outcomes.monitoring import Quality
from crps_outcomes.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Direction = Literal["lower", "higher", "none"]
Selector = Literal["group", "research_subject", "episode_of_care", "care_plan", "list"]
Method = Literal[
    "identity",
    "sum",
    "mean",
    "t_score",
    "value_set",
    "absenteeism",
    "work_impairment",
    "physical_summary",
    "mental_summary",
    "composite_responder",
]
#: Methods that combine scores of other measures and not answered items.
COMBINING: frozenset[str] = frozenset({"physical_summary", "mental_summary", "composite_responder"})
Domain = Literal[
    "pain",
    "pain quality",
    "disease severity",
    "function",
    "participation",
    "work",
    "emotional function",
    "catastrophizing",
    "self-efficacy",
    "sleep",
    "global change",
    "quality of life",
    "well-being",
    "experience",
    "treatment burden",
    "composite",
    "vital sign",
    "side effect",
    "laboratory",
    "body",
]
#: The seven domains of COMPACT (Grieve 2017, doi:10.1097/j.pain.0000000000000866).
Compact = Literal[
    "pain",
    "disease severity",
    "participation and physical function",
    "emotional and psychological function",
    "self-efficacy",
    "catastrophizing",
    "patient global impression of change",
    "",
]
#: The six core domains of IMMPACT (Turk 2003, doi:10.1016/j.pain.2003.08.001); that they are these six is unconfirmed.
Immpact = Literal[
    "pain",
    "physical functioning",
    "emotional functioning",
    "global improvement",
    "symptoms and adverse events",
    "participant disposition",
    "",
]


class Code(Definition):
    """A code in its system, with the state of knowledge about it and where it was seen."""

    system: str
    code: str
    display: str = ""
    state: State = "unconfirmed"
    source: str = ""


# --- measures -----------------------------------------------------------------------------------------------------


class Threshold(Definition):
    """A published change in one person that is taken to matter; never for differences between groups."""

    value: float
    kind: str
    source: str
    state: State


class MeasurementError(Definition):
    """How far the scores of a person who did not change lie apart: a standard error, or what one follows from.

    For a T-score the standard error is that of its table.
    """

    sd: float | None = Field(default=None, gt=0)  # between people
    reliability: float | None = Field(default=None, gt=0, lt=1)
    standard_error: float | None = Field(default=None, gt=0)
    source: str
    state: State

    @property
    def of_one_score(self) -> float:
        """The standard error of measurement."""
        if self.standard_error is not None:
            return self.standard_error
        return (self.sd or 0.0) * sqrt(1 - (self.reliability or 0.0))

    @property
    def reliable_change(self) -> float:
        """The change that 95 of 100 unchanged people stay within: 1.96 root 2 standard errors (Jacobson and Truax 1991)."""
        return 1.96 * sqrt(2) * self.of_one_score

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        from_spread = (self.sd is not None, self.reliability is not None)
        if from_spread not in {(True, True), (False, False)} or from_spread[0] == (self.standard_error is not None):
            raise ValueError("error: either standard_error, or sd and reliability together")
        return self


class ObservationValue(Definition):
    """Where a value stands in an Observation: under these codes, or in a component under ``component``.

    ``read`` names the value[x] taken: ``number`` (valueQuantity, valueInteger, or an answer whose ordinalValue the
    source states), ``text`` (the same, and a number written as text, "7" or "7/10"), or ``answer``
    (valueCodeableConcept or valueBoolean, mapped through ``answers`` of the measure).
    """

    codes: tuple[Code, ...]
    component: tuple[Code, ...] = ()
    read: Literal["number", "text", "answer"] = "number"
    needs_stated_range: bool = False  # a generic code: taken only where referenceRange states this measure's range
    is_raw_sum: bool = False  # a raw sum of items, to be looked up in the table that ``score`` names

    @model_validator(mode="after")
    def _codes_are_there(self) -> Self:
        if not self.codes:
            raise ValueError("codes: at least one code is needed")
        return self


class QuestionnaireItems(Definition):
    """The items of a QuestionnaireResponse that make one score: its canonical address and the linkIds, in item order."""

    questionnaire: str
    link_ids: tuple[str, ...]


class ItemCode(Code):
    """A code of one item, for sites that store items as components or as Observations of their own."""

    item: str


class Items(Definition):
    """What is known of the items: their answers' range, which run the other way, and their codes.

    ``only`` names the items that make the score, where they are not all; ``of`` the measure whose items they are, for a
    subscale.
    """

    of: str = ""
    only: tuple[str, ...] = ()
    range: tuple[float, float] = (0, 0)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)  # of single items, where they differ
    reversed: tuple[str, ...] = ()
    panels: tuple[Code, ...] = ()  # Observations that hold the items as components or members
    codes: tuple[ItemCode, ...] = ()
    read_text: bool = False  # numbers written as text are taken
    words_only: bool = (
        False  # answers are read by their words or codes; a number, even a stated ordinalValue, says nothing
    )


class Answer(Definition):
    """One answer option: its number on the measure's scale, known by code or by display, never by ordinal alone."""

    value: float
    display: str
    codes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


class Applies(Definition):
    """A score that only some people have: those who answered ``item`` with ``value``."""

    item: str
    value: float


class Score(Definition):
    """How items, or scores of other measures, become a score.

    ``table`` names a file mappings/tables/<table>.csv that the site supplies under its own licence. ``applies`` names the
    answer without which the score does not apply to a person.
    """

    method: Method = "identity"
    min_items: int = Field(default=1, ge=1)
    multiply: float = 1
    table: str = ""
    inputs: tuple[Identifier, ...] = ()
    applies: Applies | None = None


class Citation(Definition):
    """A publication about the measure."""

    text: str
    state: State


class Measure(Definition):
    """One outcome, vital sign or laboratory value: where it stands in FHIR, what is plausible, which way is better.

    Roles: an ``outcome`` is scored at baseline and every visit, a ``descriptor`` at baseline only, ``safety`` and
    ``covariate`` are not scored.
    """

    id: Identifier
    title: str
    short: str
    domain: Domain
    role: Literal["outcome", "descriptor", "safety", "covariate"]
    direction: Direction
    range: tuple[float, float]
    range_kind: Literal["scale", "plausibility", "categories"]
    step: float | None = Field(default=None, gt=0)  # a recorded value between two steps is refused; none: any value
    whole_numbers_from_to: tuple[float, float] | None = None  # whole numbers here are a raw sum under a T-score code
    unit: str
    unit_label: str = ""
    accepted_units: tuple[str, ...] = ()  # taken as they are, beside `unit`; "" means no unit
    convert_units: bool = False  # other units of the same dimension are converted by UCUM
    decimals: int = Field(ge=0, le=3)
    recall: str = "not stated"
    missing_rule: str
    licence: str
    compact: Compact = ""
    immpact: Immpact = ""
    sources: tuple[ObservationValue, ...] = ()
    questionnaires: tuple[QuestionnaireItems, ...] = ()
    items: Items = Items()
    answers: tuple[Answer, ...] = ()
    score: Score = Score()
    signal_above: float | None = None  # a value above it goes to the safety review
    thresholds: tuple[Threshold, ...] = ()
    error: MeasurementError | None = None  # none: not declared, so no change of one person is called reliable
    citations: tuple[Citation, ...] = ()
    notes: str = ""

    @property
    def form_ids(self) -> tuple[str, ...]:
        """The names of the items tabulated under this measure: the linkIds of its first questionnaire."""
        return self.questionnaires[0].link_ids if self.questionnaires else ()

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The names of the items the score is made of."""
        return self.items.only or self.form_ids

    @property
    def items_of(self) -> str:
        """The measure under which the items are tabulated."""
        return self.items.of or self.id

    @property
    def has_baseline(self) -> bool:
        """Whether there can be a value before treatment: a question about change has none, and a response neither."""
        return self.domain != "global change" and self.score.method != "composite_responder"

    def item_range(self, item: str) -> tuple[float, float]:
        """The least and the greatest answer of an item."""
        return self.items.ranges.get(item, self.items.range)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = next((message for is_wrong, message in self._mistakes() if is_wrong), "")
        if wrong:
            raise ValueError(wrong)
        return self

    def _mistakes(self) -> Iterator[tuple[bool, str]]:
        reads_answers = any(source.read == "answer" for source in self.sources)
        scores_items = self.score.method != "identity" and self.score.method not in COMBINING
        known = set(self.item_ids)
        yield self.range[0] >= self.range[1], "range: the first number must be below the second"
        yield reads_answers and not self.answers, 'answers: a source that reads "answer" needs the list of answers'
        yield (
            not (self.sources or self.questionnaires or self.items.of or self.score.inputs),
            "sources: the measure says nowhere where its value stands",
        )
        yield scores_items and not known, "score.method: items are needed (questionnaires, or items.of and items.only)"
        yield bool(self.items.of and not self.items.only), "items.only: which items of the other measure is not said"
        yield bool(self.items.of and self.questionnaires), "questionnaires: the items are those of another measure"
        yield self.score.min_items > max(1, len(known)), f"score.min_items: there are {len(known)} items"
        yield (
            (self.score.method in {"t_score", "value_set"}) != bool(self.score.table),
            'score.table: the methods "t_score" and "value_set" need a table, the others none',
        )
        yield (
            (self.score.method in COMBINING) != bool(self.score.inputs),
            "score.inputs: measures are named for the methods that combine scores, and for no other",
        )
        yield (
            not self.items.of and bool(known) and not self.answers and not self._has_ranges(),
            "items.range: items need a range or a list of answers",
        )
        named = {*self.items.reversed, *self.items.ranges, *(code.item for code in self.items.codes)}
        yield bool(named - {*self.form_ids, *known}), "items: reversed, ranges and codes name items that are not there"
        yield (
            bool(set(self.items.only) - set(self.form_ids)) and not self.items.of,
            "items.only: names items that are not among the linkIds",
        )
        yield (
            len({len(form.link_ids) for form in self.questionnaires}) > 1,
            "questionnaires: every form must have the same number of linkIds, in the same order",
        )

    def _has_ranges(self) -> bool:
        return self.items.range[0] < self.items.range[1] or set(self.items.ranges) == set(self.form_ids)


class TableRow(Definition):
    """A row of mappings/tables/*.csv: the value of an item's level, or of a raw sum where ``item`` is empty."""

    item: str = ""
    level: int
    value: float = Field(allow_inf_nan=False)


class CodeTrap(Definition):
    """A code that looks like another (mappings/code_traps.csv): a resource that carries it is refused, with the reason."""

    system: str
    code: str
    what: str
    state: State
    source: str = ""


#: What the pipeline reads of clinical resources: a fault there is never harmless.
READ_ELEMENTS = frozenset(
    {
        "id", "resourceType", "status", "code", "subject", "component", "hasMember", "derivedFrom", "questionnaire",
        "authored", "item", "dosage", "contained", "actuality", "event", "severity", "seriousness", "referenceRange",
        "verificationStatus", "clinicalStatus", "dataAbsentReason", "issued", "date", "authoredOn", "recordedDate", "*",
    }
)  # fmt: skip
_READ_STEMS = ("value", "effective", "performed", "medication", "onset")


class Tolerance(Definition):
    """A deviation from FHIR that does no harm (mappings/tolerances.toml): in these types, at this path."""

    resource_types: tuple[str, ...]
    path: Annotated[str, Field(pattern=r"^[a-zA-Z]+(\.([a-zA-Z]+|\*))*(\.\*\*)?$")]
    reason: str
    state: State = "project rule"

    @model_validator(mode="after")
    def _never_of_what_is_read(self) -> Self:
        first = self.path.split(".")[0]
        if first in READ_ELEMENTS or first.startswith(_READ_STEMS) or self.path == "meta.**":
            raise ValueError(f'path: "{first}" is read, so a fault there is never harmless')
        return self


class Tolerances(Definition):
    """All declared tolerances."""

    tolerances: tuple[Tolerance, ...] = ()


# --- protocol -----------------------------------------------------------------------------------------------------


class Enrolment(Definition):
    """Who counts as enrolled. One selector is used; the others may be declared for sites that change theirs.

    ``list`` needs no key here: the list is patient data, so it is handed to the run (--patients) and never stands in the
    study folder.
    """

    selector: Selector
    group_identifier: str = ""  # system|value of the Group
    study_identifier: str = ""  # system|value of the ResearchStudy
    research_subject_statuses: tuple[str, ...] = (
        "on-study",
        "on-study-intervention",
        "on-study-observation",
        "follow-up",
        "completed",
        "off-study",
    )
    episode_type: str = ""  # system|code of EpisodeOfCare.type
    episode_statuses: tuple[str, ...] = ("active", "onhold", "finished")
    care_plan_category: str = ""  # system|code of CarePlan.category
    care_plan_statuses: tuple[str, ...] = ("active", "on-hold", "completed")

    @model_validator(mode="after")
    def _selector_is_declared(self) -> Self:
        needed = {
            "group": "group_identifier",
            "research_subject": "study_identifier",
            "episode_of_care": "episode_type",
            "care_plan": "care_plan_category",
            "list": None,
        }[self.selector]
        if needed and not getattr(self, needed):
            raise ValueError(f'{needed}: needed because selector is "{self.selector}"')
        return self


class Pull(Definition):
    """What is asked of the source, and how much at a time."""

    resource_types: tuple[str, ...]
    page_size: int = Field(default=200, ge=1, le=1000)
    patients_per_query: int = Field(default=50, ge=1, le=100)
    workers: int = Field(default=4, ge=1, le=16)
    timeout_seconds: float = Field(default=60, gt=0)
    max_body_mb: int = Field(default=64, ge=1)
    export_level: Literal["system", "patient", "group"] = "group"
    export_hours: float = Field(default=2, gt=0)  # how long the server may take to make an export
    whole_every_days: int = Field(default=7, ge=0)  # days until everything is asked for again; 0: every time
    resume_hours: float = Field(
        default=24, ge=0
    )  # how old a pull that stopped may be for the next one to go on with it
    requests_per_second: float = Field(default=20, gt=0, le=1000)  # over all workers together; a server may allow fewer


class Exposure(Definition):
    """How administrations become doses, sessions and series. [project rules, see the domain notes]"""

    drug_codelist: str = "ketamine"
    excluded_drug_codelist: str = "esketamine"
    route_codelist: str = "routes"
    strength_codelist: str = "ketamine_strengths"  # strengths of products whose record states none: "50 mg/mL"
    muscle_codelist: str = "muscles"
    route: Literal["im"] = "im"
    muscle_means_intramuscular: bool = False  # a muscle without a route is flagged; true: also taken as a route
    session_gap_hours: float = Field(default=4, gt=0)
    series_gap_days: int = Field(default=28, ge=1)
    weight_measure: Identifier = "body_weight"
    weight_max_age_days: int = Field(default=90, ge=1)
    hydrochloride_per_base: float = 1.1533
    hydrochloride_mass: Literal["base", "salt"] = "base"  # what a dose in mg of "ketamine hydrochloride" weighs
    dose_range_mg: tuple[float, float] = (1, 500)


class ContextPlan(Definition):
    """What is known of people beside their scores, and who counts as refractory. The rule is an example until replaced."""

    site_codelist: str = "crps_limbs"
    feature_codelist: str = "budapest"
    medicine_codelist: str = "co_treatments"
    procedure_codelist: str = "procedures"
    refractory_classes: int = Field(default=3, ge=1)  # this many classes tried before the first dose
    refractory_weeks: float = Field(default=6, ge=0)  # each for so long, but for what is done once
    done_once: tuple[str, ...] = ()
    not_counted: tuple[str, ...] = ()
    state: State = "example"


class BaselineRule(Definition):
    """Which values may be a baseline: taken in the window and before the first dose. Follow-up is never promoted."""

    window_days: tuple[int, int] = (-28, 0)
    pick: Literal["latest"] = "latest"


class Visit(Definition):
    """A planned visit: its study day (0 = first IM dose) and the days, both included, that count for it."""

    id: Identifier
    label: str
    day: int = Field(ge=1)
    window_days: tuple[int, int]

    @model_validator(mode="after")
    def _day_in_window(self) -> Self:
        if not self.window_days[0] <= self.day <= self.window_days[1]:
            raise ValueError(
                f"window_days: day {self.day} must lie inside {self.window_days[0]} to {self.window_days[1]}"
            )
        return self


class OutcomePlan(Definition):
    """What is primary, what stands beside it, and which changes count as response."""

    primary: Identifier
    primary_visit: Identifier
    later_visit: Identifier
    function: Identifier
    secondary: tuple[Identifier, ...]
    global_change: Identifier
    responder_percents: tuple[int, ...] = (30, 50)


class SafetySignal(Definition):
    """An answer that goes to a safety review whenever it lies above a value; never seen only inside a total."""

    category: str
    measure: Identifier
    item: str = ""
    above: float = 0


class Cut(NamedTuple):
    """Sessions are counted whose highest or lowest reading of a measure lies beyond a value."""

    statistic: str  # "at_least" or "above" for the highest, "below" or "at_most" for the lowest
    measure: str
    value: float


class SafetyPlan(Definition):
    """What is watched around a session, and from which value on it is counted. Cut-offs are [unconfirmed]."""

    window_minutes: tuple[int, int] = (0, 120)
    pre_dose_minutes: int = 60
    systolic: Identifier
    diastolic: Identifier
    oxygen_saturation: Identifier
    liver: tuple[Identifier, ...]
    systolic_at_least: float = 160
    diastolic_at_least: float = 100
    systolic_rise_percent: float = 30
    oxygen_below: float = 90
    oxygen_low: float = 94
    dissociation: Identifier | None = None
    dissociation_above: float = 4
    sedation: Identifier | None = None
    sedation_at_most: float = 3
    liver_multiple_of_upper_normal: float = 3
    liver_grades: tuple[float, ...] = (1, 3, 5, 20)  # grade n: above the nth multiple of the upper limit of normal
    bilirubin: Identifier | None = None
    alkaline_phosphatase: Identifier | None = None
    bilirubin_multiple: float = 2  # Hy's law, with the multiple above for ALT or AST ...
    alkaline_phosphatase_at_most: float = 2  # ... and no rise of ALP beyond this multiple
    signals: tuple[SafetySignal, ...] = ()
    event_codelist: str = "adverse_events"

    @property
    def watched(self) -> tuple[str, ...]:
        """What is watched around sessions."""
        own = (self.systolic, self.diastolic, self.oxygen_saturation, self.dissociation, self.sedation)
        return tuple(name for name in own if name)

    @property
    def measured_harms(self) -> frozenset[str]:
        """Kinds of harm that are measured too: a reading, laboratory value or answer can show what no report says."""
        own = {
            "raised blood pressure": (self.systolic, self.diastolic),
            "desaturation": (self.oxygen_saturation,),
            "dissociation": (self.dissociation,),
            "sedation": (self.sedation,),
            "liver": self.liver,
        }
        return frozenset({kind for kind, names in own.items() if any(names)} | {one.category for one in self.signals})

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Every cut, in the order of the report."""
        found = (
            Cut("at_least", self.systolic, self.systolic_at_least),
            Cut("at_least", self.diastolic, self.diastolic_at_least),
            Cut("below", self.oxygen_saturation, self.oxygen_below),
            Cut("below", self.oxygen_saturation, self.oxygen_low),
            Cut("above", self.dissociation or "", self.dissociation_above),
            Cut("at_most", self.sedation or "", self.sedation_at_most),
        )
        return tuple(cut for cut in found if cut.measure)

    @model_validator(mode="after")
    def _cuts_fit(self) -> Self:
        if list(self.liver_grades) != sorted(set(self.liver_grades)):
            raise ValueError("liver_grades: the multiples must rise")
        if self.liver_multiple_of_upper_normal not in self.liver_grades:
            raise ValueError("liver_multiple_of_upper_normal: it must be one of liver_grades, so that the counts agree")
        if self.oxygen_low <= self.oxygen_below:
            raise ValueError("oxygen_low: it must lie above oxygen_below")
        return self


def _in_every_year(text: str) -> str:
    date.fromisoformat(f"2001-{text}")  # 2001 had no 29 February
    return text


#: A day of every year, as month and day: "07-01".
MonthDay = Annotated[str, Field(pattern=r"^\d{2}-\d{2}$"), AfterValidator(_in_every_year)]


#: Whose rule of small cells a release edition follows.
Rule = Literal["CMS", "NHS"]
#: The smallest count that each rule shows. CMS (2024): no cell of 1 to 10. NHS HES: 1 to 7 hidden, all others to the nearest 5.
THRESHOLDS: Mapping[str, int] = {"CMS": 11, "NHS": 8}
#: What the NHS rule rounds counts to.
ROUNDED_TO = 5


class Disclosure(Definition):
    """The release edition's small-cell rule, and when it may be renewed."""

    rule: Rule = "CMS"
    threshold: int = Field(default=THRESHOLDS["CMS"], ge=2)  # the rule's own, where it is not stated
    release_days: tuple[MonthDay, ...] = ()  # a release edition is renewed from these days on; none: at any time

    @model_validator(mode="before")
    @classmethod
    def _by_rule(cls, told: Any) -> Any:
        own = THRESHOLDS.get(str(told.get("rule", "CMS"))) if isinstance(told, dict) else None
        return {"threshold": own, **told} if own else told

    @model_validator(mode="after")
    def _is_possible(self) -> Disclosure:
        if self.rule == "NHS" and self.threshold != THRESHOLDS["NHS"]:
            raise ValueError(
                f"threshold: the NHS rule hides 1 to {THRESHOLDS['NHS'] - 1} and rounds the rest, so leave it out or say "
                f'{THRESHOLDS["NHS"]}; another threshold goes with rule = "CMS", which rounds nothing'
            )
        return self

    def last_day(self, day: date) -> date | None:
        """The newest declared day up to a day; None where none is declared."""
        years = (day.year, day.year - 1)
        days = (date.fromisoformat(f"{year}-{one}") for year in years for one in self.release_days)
        return max((one for one in days if one <= day), default=None)

    def next_day(self, day: date) -> date | None:
        """The first declared day after a day; None where none is declared."""
        years = (day.year, day.year + 1)
        days = (date.fromisoformat(f"{year}-{one}") for year in years for one in self.release_days)
        return min((one for one in days if one > day), default=None)


class FormPlan(Definition):
    """How reports come out, where a run does not ask otherwise: language, paper, and whether an archive copy is made."""

    lang: Language = "en-GB"
    paper: Paper = "A4"
    archive: bool = False


class LibraryPlan(Definition):
    """For how many days after the day it speaks of a report may be read as the present state."""

    valid_days: int = Field(default=35, ge=1)


class Protocol(Definition):
    """The treatment protocol and the analysis plan of one site (mappings/protocol.toml)."""

    id: Identifier
    version: str
    title: str
    site: str
    is_example: bool
    is_synthetic: bool
    timezone: str
    condition_codelist: str = "crps"
    enrolment: Enrolment
    pull: Pull
    exposure: Exposure
    context: ContextPlan = ContextPlan()
    baseline: BaselineRule
    visits: tuple[Visit, ...]
    outcomes: OutcomePlan
    plan: Plan = Plan()
    safety: SafetyPlan
    quality: Quality = Quality()
    disclosure: Disclosure = Disclosure()
    form: FormPlan = FormPlan()
    library: LibraryPlan = LibraryPlan()

    def valid_until(self, as_of: date, edition: str) -> date:
        """The last day a report may be read as the present state: a release stands until the next declared day, if any."""
        next_release = self.disclosure.next_day(as_of) if edition == "release" else None
        return next_release or as_of + timedelta(days=self.library.valid_days)

    @model_validator(mode="after")
    def _visits_fit(self) -> Self:
        ids = [visit.id for visit in self.visits]
        if len(set(ids)) != len(ids) or "baseline" in ids:
            raise ValueError('visits: ids must differ, and "baseline" is reserved')
        ordered = sorted(self.visits, key=lambda visit: visit.day)
        for one, two in pairwise(ordered):
            if one.window_days[1] >= two.window_days[0]:
                raise ValueError(f"visits: the windows of {one.id} and {two.id} overlap; a value would count twice")
        for wanted in (self.outcomes.primary_visit, self.outcomes.later_visit):
            if wanted not in ids:
                raise ValueError(f'outcomes: "{wanted}" is not one of the visits: {", ".join(ids)}')
        return self


# --- codelists and reports -----------------------------------------------------------------------------------------


class ListedCode(Definition):
    """A row of mappings/codelists/*.csv: a code and the group it stands for (CRPS type, route, treatment class)."""

    system: str
    code: str
    group: str
    display: str
    state: State
    source: str = ""


class ChecklistItem(Definition):
    """A row of mappings/checklists/*.csv: one item of a reporting checklist in our own short words, and where it is answered.

    ``sections``: ids of sections of a report, parted by blanks; none where only the author can answer.
    """

    checklist: str = Field(min_length=1)
    item: str = Field(min_length=1)
    about: str = Field(min_length=1)
    sections: str = Field(pattern=r"^([a-z][a-z0-9_]*( [a-z][a-z0-9_]*)*)?$")
    note: str = ""


class ReportDefinition(Definition):
    """Which sections a report has, in which order (reports/*.toml)."""

    id: Identifier
    title: str
    kind: str
    audience: str
    sections: tuple[Identifier, ...]
    about: Literal["cohort", "person"] = "cohort"  # a page about one person never leaves the clinic
    languages: tuple[Language, ...] = ("en-GB", "en-US")  # those its sentences exist in
