"""What a report may print: the numbers behind every id, the texts that hold numbers of their own, and a few constants.

`judged` holds a page against it: a marked number must be one of its row, a bare one must stand in a declared text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
from cohort_tables import the_study
from printed_numbers import ANY_NUMBER, declared_numbers, is_printed_from, numbers_of, printed, texts

from crps_outcomes.evidence import typeset
from crps_outcomes.language import day, strings
from crps_outcomes.numbers import month
from crps_outcomes.stages.compose import with_ids
from crps_outcomes.traced import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Known:
    """What is known by id: numbers, and texts that a mark may name; ``words`` may stand anywhere, the longest first."""

    numbers: Mapping[str, list[float]]
    named: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    lang: str = "en-GB"
    shares: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # k, n, n_missing


def known_of(releasable, origin) -> Known:
    """What a report of releasable numbers may print, whatever its kind."""
    of_months = origin.report == "quality"
    values = {row["estimate_id"]: _behind(row) for row in releasable.estimates.to_dict("records")}
    named = {}
    for row in releasable.counts.to_dict("records"):
        values |= {f"counts/{row['step']}/{column}": _number(row[column]) for column in ("n_subjects", "n_left")}
        named[f"counts/{row['step']}/reason"] = (row["reason"],)
    for row in releasable.rejections.to_dict("records"):
        values[f"rejections/{row['rule']}/{row['reason']}/{row['stage']}"] = _number(row["n"])
    values |= {f"sources/{row['resource_type']}/n": _number(row["n"]) for row in releasable.sources.to_dict("records")}
    values |= {
        f"changes/{row['resource_type']}/{row['change']}": _number(row["n"])
        for row in releasable.changes.to_dict("records")
    }
    values |= _counts_of_rows(releasable, of_months=of_months) | _declared()
    if releasable.restatement:
        told, named_then = _restated(releasable.restatement)
        values, named = values | told, named | named_then
    listed, of_list = _action_list(releasable.actions)
    lang = origin.form.lang
    counted = releasable.estimates.dropna(subset=["k", "n", "n_missing"])
    shares = {
        row["estimate_id"]: (int(row["k"]), int(row["n"]), int(row["n_missing"])) for row in counted.to_dict("records")
    }
    words = words_of(origin, releasable.estimates, releasable.rules, _of_the_last_report(releasable.restatement))
    return Known(values | listed, named | of_list, words, lang, shares)


def _behind(row) -> list[float]:
    """The numbers of a row; a line of a chart is printed cut to its scale, a share also as people of 100."""
    found = numbers_of(row)
    if (row["section"], row["statistic"]) == ("quality", "centre"):
        top = 100.0 if row["unit"] == "%" else float("inf")
        found += [min(max(value, 0.0), top) for value in found]
    if not pd.isna(row["k"]) and not pd.isna(row["n"]) and row["n"] and 0 < row["k"] < row["n"]:
        found.append(float(_of_hundred(row["k"], row["n"])))
    return found


def _of_hundred(k, n) -> int:
    return min(max(round(100 * k / n), 1), 99)


def _declared() -> dict[str, list[float]]:
    """The numbers of the study folder; a day of a visit is also printed as its week."""
    study = with_ids(the_study())
    pieces = (study.protocol, study.measures, study.evidence)
    found = {key: [value] for piece in pieces for key, value in declared_numbers(piece)}
    for name, measure in study.measures.items():
        if measure.error and measure.error.standard_error is None:
            found[f"measure:{name}:error.sd"] += [measure.error.of_one_score, measure.error.reliable_change]
    for place, visit in enumerate(study.protocol.visits, 1):
        found[f"protocol:visits.{place}.day"].append(visit.day / 7)
    return found


def _counts_of_rows(known, *, of_months: bool) -> dict[str, list[float]]:
    """What sections count themselves: rows of ESTIMATES and of definitions, not people."""
    rows, study = known.estimates, the_study()
    known_rows = rows[rows["suppressed"] == ""]
    known_rows = known_rows if of_months else known_rows[known_rows["section"] != "quality"]
    with_interval = known_rows[known_rows[["estimate", "lower", "upper"]].notna().all(axis=1)]
    readings = known_rows[(known_rows["section"] == "endpoints") & (known_rows["statistic"] == "reading")]
    smd = known_rows[(known_rows["section"] == "participants") & (known_rows["statistic"] == "smd")][
        "estimate"
    ].dropna()
    sources, changes = known.sources, known.changes.groupby("change")["n"].sum()
    listed = [code for listing in study.codelists.values() for code in listing]
    items = [item for part in study.checklists.values() for item in part]
    sections = set(study.reports["evidence"].sections)
    return {
        "estimates/intervals": [float((~with_interval["method"].str.startswith("median (")).sum())],
        "endpoints/readings": [
            float(((readings["group"] != "primary") & ~readings["reason"].str.startswith("descriptive: ")).sum())
        ],
        "participants/notable": [float((smd.abs() > 0.20).sum())],
        "participants/compared": [float(len(smd))],
        "sources/types": [float(len(sources))],
        "sources/holes": [float((sources["hole"] != "").sum())],
        "sources/n": _number(sources["n"].sum(skipna=False)),
        **{f"changes/{name}": _number(n) for name, n in changes.items()},
        "evidence/studies": [float(len(study.evidence.studies))],
        "evidence/unconfirmed": [float(sum(one.verified == "no" for one in study.evidence.studies))],
        "evidence/readings": [float(n) for n in range(1, len(study.evidence.studies))],
        "codelists/codes": [float(len(listed))],
        "codelists/unconfirmed": [float(sum(code.state == "unconfirmed" for code in listed))],
        "checklists/items": [float(len(items))],
        "checklists/answered": [float(sum(bool(sections & set(item.sections.split())) for item in items))],
    }


def _restated(told) -> tuple[dict[str, list[float]], dict[str, tuple[str, ...]]]:
    """What is told of the last report: its rows, people and records by reason, and the texts of rules that changed."""
    values = {row["estimate_id"]: _behind(row) for row in told.then.to_dict("records")}
    for one in told.reasons:
        numbers = {"people": one.n_people, "records": one.n_records, "scores": one.n_scores}
        values |= {f"restatement/{one.kind}/{name}": [float(n)] for name, n in numbers.items()}
    for name, why in told.whys.items():
        values |= {f"restatement/why/{name}/{kind}": [float(n)] for kind, n in why.people}
    if told.again:
        values |= {"restatement/n_same": [float(told.again.n_same)], "restatement/n": [float(told.again.n)]}
    values["restatement/figures"] = [float(len(told.whys))]
    values["restatement/differ"] = [float(n) for n in range(len(told.whys) + 1)]  # test_sections counts them
    named: dict[str, tuple[str, ...]] = {
        f"restatement/plan/{number}.{place}": (one.entry, one.before, one.after)
        for number, change in enumerate(told.plan, 1)
        for place, one in enumerate(change.differences, 1)
    }
    words = (*told.study, *told.code, *(" ".join(one) for one in told.versions), *texts(told.files))
    return values, named | {"restatement/rules": words}


def _of_the_last_report(told) -> set[str]:
    """Its run, and the months its figures are about."""
    if told is None:
        return set()
    return {told.run_id} | {month(one) for one in told.then["visit"] if re.fullmatch(r"\d{4}-\d\d", one)}


def _action_list(actions) -> tuple[dict[str, list[float]], dict[str, tuple[str, ...]]]:
    """The action list: its counts, and each matter by kind, code and day."""
    if actions is None:
        return {}, {}
    values = {"actions/n": [float(len(actions))], "actions/people": [float(len(set(actions["code"])))]}
    values |= {f"actions/{kind}/n": [float(n)] for kind, n in actions["kind"].value_counts().items()}
    named: dict[str, tuple[str, ...]] = {}
    for row in actions.to_dict("records"):
        own = f"actions/{row['kind']}/{row['code']}/{row['since_on']:%Y-%m-%d}"
        values.setdefault(own, []).append(float(row["days"]))
        days = tuple(day(row[name].date(), "en-GB") for name in ("since_on", "until_on") if not pd.isna(row[name]))
        named[own] = (*named.get(own, ()), row["code"], row["what"], *days)
    return values, named


def _number(value) -> list[float]:
    return [] if pd.isna(value) else [float(value)]


# --- one person -----------------------------------------------------------------------------------------------------


def known_of_person(person, page) -> Known:
    """What the page of one person may print, read from the person's own tables; open items are rows of the page's last."""
    own, plan = person.tables, the_study().protocol
    scores = own.outcomes[own.outcomes["value"].notna()]
    values = {f"outcomes/{row['measure']}/{row['visit']}": [row["value"]] for row in scores.to_dict("records")}
    named = {}
    held = own.doses[own.doses["session"].notna()]
    for session, doses in held.groupby("session"):
        # one administration a session in these cohorts
        values[f"doses/session/{session}"] = [float(session), *doses["dose_mg"].dropna(), *doses["mg_per_kg"].dropna()]
        began = day(doses["given_on"].iloc[0].date(), "en-GB")
        named[f"doses/session/{session}/day"] = (f"{session}: {began}",)
    n = held["session"].nunique()
    values |= {"doses/sessions": [float(n)], "doses/earlier sessions": [float(n - 12)]}
    for kind, of_kind in own.events.groupby("kind"):
        for term, same in of_kind.groupby("term"):
            values[f"events/{kind}/{term}"] = [float(len(same)), float(same["is_serious"].fillna(value=False).sum())]
    harms = own.events[own.events["kind"].isin(["adverse event", "condition", "discontinuation"])]
    values["events"] = [float(len(harms))]
    values["open items"] = [float(len(page.sections[-1].tables["open"].rows))]
    values |= dict(_readings(own, plan))
    return Known(values | _declared(), named, words_of(person.provenance, days=_days_of(person)))


def _readings(own, plan):
    """Readings by session: of one day, as these cohorts have one session a day."""
    sessions = own.doses[own.doses["session"].notna()].groupby("session")["given_on"].first()
    seen = own.observations.set_index(["measure", "taken_on"])["value"]
    watched = set()
    for session, on in sessions.items():
        for name, measure in (
            ("before", plan.safety.systolic), ("systolic", plan.safety.systolic),
            ("oxygen", plan.safety.oxygen_saturation), ("dissociation", plan.safety.dissociation),
        ):  # fmt: skip
            if (measure, on) in seen.index:
                yield f"observations/{name}/{session}", [float(value) for value in seen.loc[[(measure, on)]]]
                watched |= {session} if name == "systolic" else set()
    yield "observations/systolic", [float(len(watched))]


def _days_of(person) -> set[str]:
    """Every day of the person's tables, and the planned ones."""
    frames = (person.tables.doses, person.tables.events, person.tables.observations, person.tables.outcomes)
    days = {at.date() for frame in frames for name in frame if name.endswith("_on") for at in frame[name].dropna()}
    first = person.first_dose_on
    planned = {at for visit in person.visits for at in (visit.day, *visit.window_days)} | {0}
    days |= {(pd.Timestamp(first) + pd.Timedelta(days=at)).date() for at in planned}
    return {day(one, "en-GB") for one in days} | {person.code}


# --- words ----------------------------------------------------------------------------------------------------------

#: Numbers that are no result and stand in no definition, each with its reason. Read by people; short on purpose.
CONSTANTS = {
    r"95 ?%": "the level of every interval",
    r"1\.96|5 times in 100|at most 5%": "the same level, in a sentence about it",
    r"(Table|Figure|Tabelle|Abbildung) \d+\.": "its number",
    r"Secondary \d+:": "the place in the plan's order",
    r"(at least|At least) 30% less pain|by 30% or more|at least 30% or 50% better|exactly 30%": "the flags of OUTCOMES",
    r"[Pp]er 100 sessions|Grid: [\d, and.]+": "the unit and the scale of a rate",
    r"0\.1 mg/kg|1 mg/kg in total|per 10 mg": "the unit of a slope",
    r"([Ff]ewer than|Under) (10|3)\b( people)?|Fewer than 3": "the rule for small numbers",
    r"above 0\.20|more than 0\.20": "the usual edge of a standardised difference",
    r"Below 0:|includes? 0|excludes 0|differed from 0|start score of 0|left of 0%|−1 to 1|0 \(up to \.\.\.\)|^0 \(up to ": "no change, nobody, or an end",
    r"Day 0|; 0 is the first seven days|first 26 weeks": "how days and weeks are counted",
    r"In a simulation study .*": "published with the program, docs/simulation.md",
    r"Published for context: .*": "published, quoted in the words of the section with its source",
    r"SF-36 PF10|ICH E9\(R1\)|SHA-256|HL7 v3|ICD-1[01](-CM)?|CD\d{6}": "names",
    r"^0$": "a cell for which there is no row, so nobody",
    r"moved up to \d\.\d\d": "how far lines of people are moved apart in a drawing",
    r"middle 80%": "the name of a band",
    r"<11: fewer than 11|<11|(count|counts|count is) (of )?1 to 10": "the threshold of the release edition",
    r"[Bb]elow 13 (months|dots)|limits from 13": "points from which a chart has limits",
    r"\b7 (rising or falling|on one side)|2\.66 mean moving ranges|fewer than 20 are": "the rules of process charts",
    r"last 12 complete months": "the length of a table",
    r"behind page 1": "the first page",
    r"(Fewer than|Weniger als) 25 ": "people from which the sheet has pictures",
    r"95 of 100 unchanged people": "what a reliable change is",
}

CHECKLIST_ITEMS = r"items [\w.]+ to [\w.]+\.|(STROBE|RECORD|RECORD-PE) [\d.]+[a-z]?"


def words_of(
    origin, estimates: pd.DataFrame | None = None, rules: Iterable[str] = (), days: Iterable[str] = ()
) -> tuple[str, ...]:
    """Texts that come word for word from a definition, a row's own words, the catalogue or the provenance, the longest first."""
    study, lang = the_study(), origin.form.lang
    own = [] if estimates is None else [estimates[name] for name in ("method", "reason", "group", "measure", "visit")]
    words = {text for column in own for text in column}
    declared = {*texts((study.protocol, study.measures, study.codelists, study.evidence, study.checklists))}
    words |= {*declared, *(typeset(text) for text in declared), *texts(origin.record), *rules, origin.run_id, *days}
    said = strings(study.root, lang)
    for kind in ("protocol", "example_protocol"):
        words.add(said.say(f"data.{kind}", id=study.protocol.id, version=study.protocol.version))
    words |= {f"version {study.protocol.version}", f"version {study.protocol.plan.version}"}
    words |= {f"{name} {version}" for name, version in origin.software.items()}
    words |= {f"n: {one.n}" for one in study.evidence.studies} | {f" {one.year}" for one in study.evidence.studies}
    words |= {text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") for text in words}
    words |= {
        day(date.fromisoformat(one), lang)
        for text in texts(origin.record)
        for one in re.findall(r"\d{4}-\d\d-\d\d", text)
    }
    if origin.report == "plain":  # whose sentences stand in the catalogue, with places for numbers that are marked
        words |= {part.strip() for text in said.values() for part in re.split(r"\{\w+\}", text)}
    wanted = {plain(text) for text in words if re.search(r"\d", text) and not re.fullmatch(r"[\d.,]{1,4}", text)}
    return tuple(sorted(wanted, key=len, reverse=True))


@cache
def _pattern(word: str) -> re.Pattern[str]:
    """The word where it is no part of a longer number."""
    before = r"(?<!\d)(?<!\d\.)" if word[0].isdigit() else ""
    after = r"(?!\.?\d)" if word[-1].isdigit() else ""
    return re.compile(f"{before}{re.escape(word)}{after}", re.IGNORECASE)


@cache
def _codes() -> frozenset[str]:
    """Codes of four characters or fewer, which count only beside the name of their system."""
    listed = [code.code for listing in the_study().codelists.values() for code in listing]
    return frozenset(code for code in listed if re.fullmatch(r"[\d.]{1,4}", code))


# --- judging --------------------------------------------------------------------------------------------------------


def judged(page: str, known: Known) -> tuple[list, list]:
    """The marked numbers that their rows do not hold, and the numbers that nothing stands behind."""
    wrong, bare = [], []
    for piece in printed(page):
        if piece.refs:
            if not _holds(piece, known):
                wrong.append((piece.text, piece.refs, piece.within))
        elif left := _left(piece.text, known.words):
            bare.append((left, piece.within))
    return wrong, bare


def _holds(piece, known: Known) -> bool:
    ref = piece.refs[0]
    is_named = ref not in known.numbers or not re.fullmatch(r"[\d.,]+", piece.text)
    if is_named and any(piece.text.lower() in text.lower() for text in known.named.get(ref, ())):
        return True
    if any(one not in known.numbers for one in piece.refs):
        return False
    keys = re.split(r"[/:, ]+", ref)  # a week, a grade or a month out of the row's own key
    keys += [month(key) for key in keys if re.fullmatch(r"\d{4}-\d\d", key)]
    text = piece.text.translate(str.maketrans(",.", ".,")) if known.lang == "de" else piece.text
    return (
        text in keys
        or is_printed_from(text, known.numbers, piece.refs)
        or _is_rest_of_hundred(piece.text, piece.refs, known)
    )


def _is_rest_of_hundred(text: str, refs, known: Known) -> bool:
    """Whether it is what is left of 100 people without those of the first row, and without those of whom nothing is known."""
    rows = [known.shares.get(ref) for ref in refs]
    if not text.isdigit() or None in rows:
        return False
    k, n, _ = rows[0]
    had = _of_hundred(k, n) if 0 < k < n else 100 * k // n
    unknown = (
        {0} if len(rows) == 1 else {_of_hundred(missing, n) for _, _, missing in rows for _, n, _ in rows if missing}
    )
    return 100 - int(text) - had in unknown


def _left(text: str, words: tuple[str, ...]) -> tuple[str, ...]:
    text = re.sub(CHECKLIST_ITEMS, " ", text)
    for word in words:
        if not re.search(r"\d", text):
            return ()
        if word.lower() in text.lower():
            text = _pattern(word).sub(" ", text)
    for pattern in CONSTANTS:
        text = re.sub(pattern, " ", text)
    listed = _codes() if re.search(r"RxNorm|SNOMED|LOINC|ATC|EDQM", text) else ()
    return tuple(number for number in ANY_NUMBER.findall(text) if number not in listed)
