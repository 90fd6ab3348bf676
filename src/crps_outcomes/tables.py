"""The tables of the pipeline. Each states its grain (one row per what) and its key.

Conventions: ``_on`` is a local calendar day (naive, midnight), ``_at`` an instant in UTC, ``_ref`` a FHIR reference
such as ``Observation/123``, ``n_`` a count, ``is_`` a flag. Text columns hold "" for "none", never a missing value,
unless the model says nullable. A stage's last line is ``return build(TABLE, rows)`` or ``return finish(TABLE, frame)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pandera.pandas as pa

from crps_outcomes.texts import LONGEST, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INSTANT = "datetime64[us, UTC]"
DAY = "datetime64[us]"


def _table(name: str, key: list[str], *checks: pa.Check, **columns: pa.Column) -> pa.DataFrameSchema:
    """The contract of a table. Its ``metadata`` hold the same without types, for a frame that has just been given them:
    to look at a type again costs pandera more than all its other checks.
    """
    bare = {own: _without_type(column) for own, column in columns.items()}
    contract = partial(
        pa.DataFrameSchema, checks=list(checks), name=name, strict=True, ordered=True, unique=key or None
    )
    return contract(columns, coerce=True, metadata={"typed": contract(bare)})


def _without_type(column: pa.Column) -> pa.Column:
    return pa.Column(checks=column.checks, parsers=column.parsers, nullable=column.nullable)


def _text(*choices: str) -> pa.Column:
    return pa.Column("str", pa.Check.isin(choices) if choices else None)


def _words(longest: int = LONGEST) -> pa.Column:
    """Text that the source wrote, or may have had a part in: it enters the table fit for print."""
    return pa.Column("str", parsers=pa.Parser(lambda column: _fit(column, longest)))


def _fit(column: pd.Series[str], longest: int) -> pd.Series[str]:
    return column.map({text: printable(text, longest) for text in column.unique()}).astype("str")


def _number(**checks: Any) -> pa.Column:
    return pa.Column("Float64", nullable=True, **checks)


def _count(*, nullable: bool = False) -> pa.Column:
    return pa.Column("Int64", pa.Check.ge(0), nullable=nullable)


def _flag(*, nullable: bool = False) -> pa.Column:
    return pa.Column("boolean", nullable=nullable)


def _day() -> pa.Column:
    return pa.Column(DAY, nullable=True)


def _instant() -> pa.Column:
    return pa.Column(INSTANT, nullable=True)


#: One enrolled person. Cousin of CDISC ADSL.
SUBJECTS = _table(
    "SUBJECTS",
    ["subject_id"],
    subject_id=_text(),
    enrolled_on=_day(),
    first_dose_at=_instant(),
    first_dose_on=_day(),
    sex=_text("female", "male", "other", "unknown"),
    age_years=_number(),  # completed years at the first IM dose, else on the as-of date
    crps_type=_text("I", "II", "not specified", "no diagnosis"),
    crps_match=_text(),  # the rule that matched: icd-10-cm, icd-10, icd-11, snomed, text or ""
    onset_on=_day(),
    is_treated=_flag(),  # a CRPS diagnosis on record and at least one IM session of racemic ketamine
    has_baseline=_flag(),  # a baseline of the primary measure
    is_analysed=_flag(),  # treated, with a baseline and at least one follow-up of the primary measure
    exclusion=_text(),  # the first step of the cohort flow this person does not pass, or ""
)

ROUTES = ("im", "iv", "sc", "nasal", "oral", "other", "not recorded")

#: One completed administration of racemic ketamine. Cousin of ADEX.
DOSES = _table(
    "DOSES",
    ["source_ref"],
    source_ref=_text(),
    subject_id=_text(),
    given_at=_instant(),
    given_on=_day(),
    route=_text(*ROUTES),
    session=_count(nullable=True),  # 1, 2, ... within the subject; IM only
    series=_count(nullable=True),  # 1, 2, ... within the subject; IM only
    dose_mg=_number(),  # ketamine base
    mg_per_kg=_number(),
    weight_kg=_number(),
    dose_basis=_text(),  # how dose_mg came about: mg, mg/kg x weight, mL x strength, hydrochloride / 1.1533, ...
    flags=_words(400),  # data-quality flags joined by "; "
)

#: One source value: one Observation, component or questionnaire item. Key: source_ref and item.
OBSERVATIONS = _table(
    "OBSERVATIONS",
    ["source_ref", "item"],
    source_ref=_text(),
    item=_text(),  # "" for the value itself, else component code or linkId
    subject_id=_text(),
    measure=_text(),
    value=_number(),  # in the measure's unit
    unit=_text(),
    taken_at=_instant(),  # missing where the source gives a day only
    taken_on=_day(),  # local calendar day as the source wrote it
    status=_text(),
    version=_text(),
    upper_normal=_number(),  # upper limit of normal that the source states, for laboratory values
    derivation=_text(),  # "" as recorded; "lb to kg", "sum of 9 items", ...
)

EVENT_KINDS = ("adverse event", "condition", "discontinuation", "co-treatment", "procedure")

#: One adverse event, harm recorded as a diagnosis, stop of ketamine, co-treatment or procedure. Cousin of ADAE.
EVENTS = _table(
    "EVENTS",
    ["source_ref"],
    source_ref=_text(),
    subject_id=_text(),
    kind=_text(*EVENT_KINDS),
    term=_words(),  # the site's own term, or the class of the codelist for treatments
    onset_at=_instant(),
    onset_on=_day(),
    severity=_text("mild", "moderate", "severe", "not recorded"),
    is_serious=_flag(nullable=True),
    session=_count(nullable=True),  # the IM session it began in, where it began on that session's day
    category=_text(),  # the group of the codelist of harms its codes or words fall into, or ""
    grade=_count(nullable=True),  # a CTCAE grade the source states; never worked out from severity
    ended_on=_day(),
    status=_words(),  # the source's own status of a treatment: "active", "stopped", ...
)

#: One recorded symptom, sign or criterion of CRPS. Key: source_ref and item.
FINDINGS = _table(
    "FINDINGS",
    ["source_ref", "item"],
    source_ref=_text(),
    item=_text(),  # "" for the value itself, else the code of the component
    subject_id=_text(),
    feature=_text(),  # the group of the codelist: "symptom: sensory", "sign: motor", "criteria: clinical", ...
    is_present=_flag(),
    taken_at=_instant(),
    taken_on=_day(),
)

#: One enrolled person: where the CRPS is, since when, how certain, and what had been tried before the first dose.
CONTEXT = _table(
    "CONTEXT",
    ["subject_id"],
    subject_id=_text(),
    limb=_text("upper", "lower", "more than one", "other", "not recorded"),
    side=_text("right", "left", "both", "not recorded"),
    limb_match=_text("code", "words", ""),
    years_since_onset=_number(),  # at the first dose; from a month as from its 15th, never from a year alone
    onset_precision=_text("day", "month", "year", "not recorded"),
    budapest=_text("research", "clinical", "not met", "not known"),  # the strictest criteria met, by the first dose
    n_tried=_count(nullable=True),  # classes tried before the first dose by the protocol's rule
    refractory=_text("yes", "no", "not known"),
)

#: Treated person x class of treatment: before, at and after the first dose.
TREATMENTS = _table(
    "TREATMENTS",
    ["subject_id", "kind", "treatment"],
    subject_id=_text(),
    treatment=_text(),  # the group of the codelist
    kind=_text("co-treatment", "procedure"),
    first_on=_day(),
    is_earlier=_flag(nullable=True),  # begun by the day of the first dose; missing where no record has a day
    is_at_start=_flag(nullable=True),  # going on at the first dose; missing for procedures and unknown ends
    weeks_before=_number(),  # at least so long on record before the first dose
    is_tried=_flag(nullable=True),  # counts for the refractory rule
    source_refs=_text(),
)

INTERCURRENT_KINDS = (
    "treatment started", "treatment restarted", "treatment stopped", "procedure", "other ketamine route",
    "further series", "death",
)  # fmt: skip

#: One thing that happened to a treated person after the day of the first dose and can change how scores are read.
INTERCURRENT = _table(
    "INTERCURRENT",
    ["subject_id", "source_ref", "kind"],
    subject_id=_text(),
    kind=_text(*INTERCURRENT_KINDS),
    term=_words(),  # class of treatment, route, or ""
    happened_on=_day(),  # missing for a death without a date
    study_day=pa.Column("Int64", nullable=True),  # 0 = day of the first IM dose
    source_ref=_text(),
)

#: Treated subject x measure x visit, always complete: a value that is not there is a row that says why. Cousin of BDS.
OUTCOMES = _table(
    "OUTCOMES",
    ["subject_id", "measure", "visit"],
    subject_id=_text(),
    measure=_text(),
    visit=_text(),  # "baseline" or a visit id of the protocol
    value=_number(),
    provisional=_number(),  # of a visit that is not due: what value would be if nothing else came; enters no statistic
    baseline=_number(),
    change=_number(),  # value - baseline
    percent_change=_number(),  # 100 * change / baseline; missing where the baseline is 0
    is_responder_30=_flag(nullable=True),
    is_responder_50=_flag(nullable=True),
    taken_on=_day(),
    study_day=pa.Column("Int64", nullable=True),  # 0 = day of the first IM dose
    state=_text("observed", "missing", "not due"),
    derivation=_text(),  # how the value was chosen, or why there is none
    source_refs=_text(),  # the Observations behind it, joined by a blank
)

#: Report section x statistic: every number a report may print. Cousin of the CDISC analysis results standard (ARD).
ESTIMATES = _table(
    "ESTIMATES",
    ["estimate_id"],
    estimate_id=_text(),  # section/statistic/population/measure/visit/group, "-" where empty
    section=_text(),
    statistic=_text(),
    population=_text(),
    measure=_text(),
    visit=_text(),
    group=_text(),
    n=_count(nullable=True),  # people (or sessions, where the statistic says so) in the denominator
    n_missing=_count(nullable=True),
    k=_count(nullable=True),  # numerator or number of events
    estimate=_number(),
    lower=_number(),
    upper=_number(),
    sd=_number(),
    unit=_text(),
    method=_text(),
    reason=_text(),  # why there is no estimate or no interval
    suppressed=_text("", "low", "c"),  # low: a small cell; c: hidden to protect another
)

_NOTHING_HIDDEN = ESTIMATES.update_columns(
    {"n": {"nullable": False}, "n_missing": {"nullable": False}, "method": {"checks": pa.Check.ne("")}}
)

#: ESTIMATES as analyse makes it, before an edition hides anything: how many, how many are missing, by which method, and
#: an interval or the reason why there is none. A one-sided interval has its upper limit.
FULL_ESTIMATES = _table(
    "ESTIMATES",
    ["estimate_id"],
    pa.Check(
        lambda frame: (frame["reason"] != "") | (frame["estimate"].notna() & frame["upper"].notna()),
        name="an interval or the reason why there is none",
    ),
    **_NOTHING_HIDDEN.columns,
)

#: One refused resource x rule; never the refused value.
REJECTIONS = _table(
    "REJECTIONS",
    ["resource_ref", "rule"],
    resource_ref=_text(),
    resource_type=_text(),
    rule=_text(),
    reason=_words(400),
    stage=_text("pull", "screen", "tabulate", "score"),
)

#: One query x page or file of a pull.
LEDGER = _table(
    "LEDGER",
    ["query_id", "part"],
    query_id=_text(),
    part=_count(),
    resource_type=_text(),
    asked=_count(nullable=True),  # page size asked for, or nothing for a file
    declared=_count(nullable=True),  # what the source said there would be in the whole query
    received=_count(),
    distinct=_count(),  # not seen before in this pull
    accepted=_count(),
    rejected=_count(),
    hole=_words(400),  # fault code and reason, or ""
)

CHANGE_KINDS = ("new", "late", "changed", "entered-in-error", "deleted", "left")

#: One resource type x kind of change since the snapshot before.
CHANGES = _table(
    "CHANGES",
    ["resource_type", "change"],
    resource_type=_text(),
    change=_text(*CHANGE_KINDS),  # late: older than the pull before, but not seen by it; left: of somebody who left
    n=_count(),
)

#: One step of the cohort flow: who is in the box, and who left between it and the next one.
COUNTS = _table(
    "COUNTS",
    ["step"],
    step=_text(),
    order=_count(),
    stage=_text(),
    label=_text(),
    n_subjects=_count(),
    n_left=_count(),  # people in this box who are not in the next one
    reason=_text(),  # why they left
)


def build(schema: pa.DataFrameSchema, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A validated table from row dictionaries, in the schema's column order, sorted by its key.

    Raises:
        pandera.errors.SchemaError: a row breaks the table's contract, which is a defect of the stage; SchemaErrors: a
            value is not of the column's type.
    """
    listed = list(rows)
    return _frame(schema, listed) if listed else _nothing(schema)


def _frame(schema: pa.DataFrameSchema, rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    return finish(schema, pd.DataFrame.from_records(rows, columns=list(schema.columns)))


def _nothing(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """The table without a row, which is checked once."""
    known: dict[str, pd.DataFrame] = schema.metadata
    if "empty" not in known:
        known["empty"] = _frame(schema, [])
    return known["empty"].copy()


def finish(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame checked against its schema and sorted by its key, so that row order never carries meaning."""
    typed: pa.DataFrameSchema = schema.metadata["typed"]
    checked: pd.DataFrame = typed.validate(schema.coerce_dtype(frame.copy(deep=False)), inplace=True)
    return checked.sort_values(list(schema.unique or []), kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class Tables:
    """Everything known about the cohort, one frame per table."""

    subjects: pd.DataFrame
    doses: pd.DataFrame
    observations: pd.DataFrame
    events: pd.DataFrame
    outcomes: pd.DataFrame
    rejections: pd.DataFrame
    ledger: pd.DataFrame
    findings: pd.DataFrame = field(default_factory=lambda: build(FINDINGS, ()))
    context: pd.DataFrame = field(default_factory=lambda: build(CONTEXT, ()))
    treatments: pd.DataFrame = field(default_factory=lambda: build(TREATMENTS, ()))
    intercurrent: pd.DataFrame = field(default_factory=lambda: build(INTERCURRENT, ()))
    changes: pd.DataFrame = field(default_factory=lambda: build(CHANGES, ()))  # since the snapshot before


SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "subjects": SUBJECTS,
    "doses": DOSES,
    "observations": OBSERVATIONS,
    "events": EVENTS,
    "findings": FINDINGS,
    "context": CONTEXT,
    "treatments": TREATMENTS,
    "intercurrent": INTERCURRENT,
    "outcomes": OUTCOMES,
    "rejections": REJECTIONS,
    "ledger": LEDGER,
}
