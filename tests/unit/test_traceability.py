"""Every printed number is found in ESTIMATES, COUNTS or a definition through its id."""

from __future__ import annotations

import re

import pandas as pd
from cohort_tables import the_study
from printed_numbers import ANY_NUMBER, declared_numbers, is_printed_from, numbers_of, printed, texts
from report_fixture import provenance, releasable

from crps_outcomes.evidence import typeset
from crps_outcomes.stages.compose import compose, with_ids
from crps_outcomes.stages.render import page_html
from crps_outcomes.traced import plain


def model_of(n, edition, source=releasable):
    study = the_study()
    return compose(source(n, edition), study, study.reports["evidence"], provenance(edition), is_traced=True)


def page_of(n, edition, source=releasable):
    return page_html(model_of(n, edition, source), the_study().root / "templates")


def behind(known, edition):
    """Every id of a report with the numbers behind it, or with its text."""
    found = {row["estimate_id"]: numbers_of(row) for row in known.estimates.to_dict("records")}
    for row in known.counts.to_dict("records"):
        for column in ("n_subjects", "n_left", "reason"):
            found[f"counts/{row['step']}/{column}"] = row[column] if column == "reason" else _known(row[column])
    for row in known.rejections.to_dict("records"):
        found[f"rejections/{row['rule']}/{row['reason']}/{row['stage']}"] = _known(row["n"])
    found |= {f"sources/{row['resource_type']}/n": _known(row["n"]) for row in known.sources.to_dict("records")}
    found |= {
        f"changes/{row['resource_type']}/{row['change']}": _known(row["n"]) for row in known.changes.to_dict("records")
    }
    found |= counts_of_rows(known)
    study = with_ids(the_study())
    for piece in (study.protocol, study.measures, study.evidence):
        found |= {key: [value] for key, value in declared_numbers(piece)}
    for name, measure in study.measures.items():
        if measure.error and measure.error.standard_error is None:
            found[f"measure:{name}:error.sd"] += [measure.error.of_one_score, measure.error.reliable_change]
    return found


def counts_of_rows(known):
    """What sections count themselves: rows of ESTIMATES and of definitions, not people."""
    rows, study = known.estimates, the_study()
    known_rows = rows[rows["suppressed"] == ""]
    known_rows = known_rows[known_rows["section"] != "quality"]
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
        "sources/n": _known(sources["n"].sum(skipna=False)),
        **{f"changes/{name}": _known(n) for name, n in changes.items()},
        "evidence/studies": [float(len(study.evidence.studies))],
        "evidence/unconfirmed": [float(sum(one.verified == "no" for one in study.evidence.studies))],
        "evidence/readings": [float(n) for n in range(1, len(study.evidence.studies))],
        "codelists/codes": [float(len(listed))],
        "codelists/unconfirmed": [float(sum(code.state == "unconfirmed" for code in listed))],
        "checklists/items": [float(len(items))],
        "checklists/answered": [float(sum(bool(sections & set(item.sections.split())) for item in items))],
    }


def _known(value):
    return [] if pd.isna(value) else [float(value)]


#: Numbers that are no result and stand in no definition, each with its reason. Read by people; short on purpose.
CONSTANTS = {
    r"95 ?%": "the level of every interval",
    r"1\.96|5 times in 100|at most 5%": "the same level, in a sentence about it",
    r"\b\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}": "a date of the provenance",
    r"(Table|Figure) \d+\.": "its number",
    r"Secondary \d+:": "the place in the plan's order",
    r"items [\w.]+ to [\w.]+\.|(STROBE|RECORD|RECORD-PE) [\d.]+[a-z]?": "items of a checklist",
    r"(at least|At least) 30% less pain|by 30% or more|at least 30% or 50% better|exactly 30%": "the flags of OUTCOMES",
    r"[Pp]er 100 sessions|Grid: [\d, and.]+": "the unit and the scale of a rate",
    r"0\.1 mg/kg|1 mg/kg in total|per 10 mg": "the unit of a slope",
    r"[Ff]ewer than (10|3)\b( people)?|Fewer than 3": "the rule for small numbers",
    r"above 0\.20|more than 0\.20": "the usual edge of a standardised difference",
    r"Below 0:|includes? 0|excludes 0|differed from 0|start score of 0|left of 0%|−1 to 1|0 \(up to \.\.\.\)|^0 \(up to ": "no change, nobody, or an end",
    r"Day 0|; 0 is the first seven days|first 26 weeks": "how days and weeks are counted",
    r"In a simulation study .*": "published with the program, docs/simulation.md",
    r"Published for context: .*": "published, quoted in the words of the section with its source",
    r"SF-36 PF10|ICH E9\(R1\)|SHA-256|HL7 v3|ICD-1[01](-CM)?|CD\d{6}": "names",
    r"^0$": "a cell for which there is no row, so nobody",
    r"moved up to \d\.\d\d": "how far lines of people are moved apart in a drawing",
    r"middle 80%": "the name of a band",
    r"<11: fewer than 11|<11|counts of 1 to 10": "the threshold of the release edition",
}


def declared_texts(known, edition):
    """Texts that come word for word from a definition, a row's own words or the provenance, the longest first."""
    rows, study, origin = known.estimates, the_study(), provenance(edition)
    words = {text for name in ("method", "reason", "group", "measure", "visit") for text in rows[name]}
    declared = {*texts((study.protocol, study.measures, study.codelists, study.evidence, study.checklists))}
    words |= {*declared, *(typeset(text) for text in declared), *texts(origin.record), *known.rules, origin.run_id}
    words |= {f"version {study.protocol.version}", f"version {study.protocol.plan.version}"}
    words |= {f"{name} {version}" for name, version in origin.software.items()}
    words |= {f"n: {one.n}" for one in study.evidence.studies} | {f" {one.year}" for one in study.evidence.studies}
    words |= {text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") for text in words}
    wanted = {plain(text) for text in words if re.search(r"\d", text) and not re.fullmatch(r"[\d.,]{1,4}", text)}
    return sorted(wanted, key=len, reverse=True)


def codes():
    """Codes of four characters or fewer, which count only beside the name of their system."""
    study = the_study()
    listed = [code.code for listing in study.codelists.values() for code in listing]
    return {code for code in listed if re.fullmatch(r"[\d.]{1,4}", code)}


def judged(page, known, edition):
    """The marked numbers that their rows do not hold, and the numbers that nothing stands behind."""
    values, words = behind(known, edition), declared_texts(known, edition)
    wrong, bare = [], []
    for piece in printed(page):
        if piece.refs:
            if not _holds(piece, values):
                wrong.append((piece.text, piece.refs, piece.within))
        elif left := _left(piece.text, words):
            bare.append((left, piece.within))
    return wrong, bare


def _holds(piece, values):
    if any(ref not in values for ref in piece.refs):
        return False
    if isinstance(values[piece.refs[0]], str):
        return piece.text.lower() in values[piece.refs[0]].lower()
    named = re.split(r"[/:, ]+", piece.refs[0])  # a week or a grade out of the row's own key
    return piece.text in named or is_printed_from(piece.text, values, piece.refs)


def _left(text, words):
    for pattern in CONSTANTS:
        text = re.sub(pattern, " ", text)
    for word in words:
        if not re.search(r"\d", text):
            break
        at = text.lower().find(word.lower())
        while at >= 0:
            text = text[:at] + " " + text[at + len(word) :]
            at = text.lower().find(word.lower())
    listed = codes() if re.search(r"RxNorm|SNOMED|LOINC|ATC|EDQM", text) else ()
    return tuple(number for number in ANY_NUMBER.findall(text) if number not in listed)
