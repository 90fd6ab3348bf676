"""Every printed number is found in ESTIMATES, COUNTS or a definition through its id."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from cohort_tables import the_study
from printed_numbers import ANY_NUMBER, declared_numbers, is_printed_from, numbers_of, printed, texts
from report_fixture import provenance, releasable

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
    study = with_ids(the_study())
    for piece in (study.protocol, study.measures, study.evidence):
        found |= {key: [value] for key, value in declared_numbers(piece)}
    return found


def _known(value):
    return [float(value)] if value == value and value is not None else []


#: Numbers that are no result and stand in no definition, each with its reason.
CONSTANTS = {
    r"95 ?%|95% CI": "the level of every interval",
    r"(Table|Figure) \d+\.": "its number",
}


def declared_texts(known, edition):
    """Texts that come word for word from a definition, a row's own words or the provenance, the longest first."""
    rows = known.estimates
    words = {text for name in ("method", "reason", "group", "measure", "visit") for text in rows[name]}
    words |= {*texts(replace_study()), *texts(provenance(edition).record), *known.rules}
    wanted = {plain(text) for text in words if re.search(r"\d", text) and not re.fullmatch(r"[\d.,]{1,4}", text)}
    return sorted(wanted, key=len, reverse=True)


@cache
def replace_study():
    study = the_study()
    return (study.protocol, study.measures, study.codelists, study.evidence, study.checklists, study.reports)


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
    return is_printed_from(piece.text, values, piece.refs)


def _left(text, words):
    for pattern in CONSTANTS:
        text = re.sub(pattern, " ", text)
    for word in words:
        if not re.search(r"\d", text):
            break
        at = text.lower().find(word.lower())
        while at >= 0:
            text = text[:at] + " " + text[at + len(word):]
            at = text.lower().find(word.lower())
    return tuple(ANY_NUMBER.findall(text))
