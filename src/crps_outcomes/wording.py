"""Estimates in words and in table cells. A value never comes without its interval or the reason why it has none.

``_in_words`` gives text for a sentence, ``_in_cell`` the short form under a column head that names the interval.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from crps_outcomes.marks import MEDIAN_RANGE, NO_INTERVAL, NOT_APPLICABLE, NOT_AVAILABLE, PROTECTED
from crps_outcomes.numbers import count, fixed, interval, people, percent, with_interval
from crps_outcomes.traced import first_upper, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crps_outcomes.definitions import Code, Measure, Threshold, Visit
    from crps_outcomes.facts import Estimate


def why_hidden(estimate: Estimate) -> str:
    """Why an estimate has no numbers to print, as the end of a sentence."""
    if estimate.mark == PROTECTED:
        return "it is hidden to protect another count"
    if estimate.mark == NOT_AVAILABLE:
        return estimate.reason or "there are no data"
    return f"fewer than {estimate.mark.removeprefix('<')} people are behind it"


def mean_in_words(estimate: Estimate, decimals: int, *, signed: bool = False, unit: str = "") -> str:
    """Such as "−2.0 points (95% CI −2.5 to −1.5)"."""
    value = _value(estimate, decimals, signed=signed)
    limits = _limits(estimate, decimals, signed=signed)
    return estimate.mark or with_interval(f"{value} {unit}".strip(), limits, estimate.reason or NO_INTERVAL)


def mean_in_cell(estimate: Estimate, decimals: int, *, signed: bool = False) -> str:
    """Such as "−2.0 (−2.5 to −1.5)"."""
    value = _value(estimate, decimals, signed=signed)
    return estimate.mark or with_interval(value, _limits(estimate, decimals, signed=signed), NO_INTERVAL, level="")


def middle_in_cell(estimate: Estimate, decimals: int) -> str:
    """A median change such as "−2.0 (−3.0 to −1.0)", or "−2.0 (range −4.0 to 0.0)" where people are too few for more."""
    value, limits = _value(estimate, decimals, signed=True), _limits(estimate, decimals, signed=True)
    level = "range " if estimate.method == MEDIAN_RANGE else ""
    return estimate.mark or with_interval(value, limits, NO_INTERVAL, level=level)


def mean_or_why(estimate: Estimate, decimals: int) -> str:
    """Such as "−2.0 (−2.5 to −1.5)", or in its place the reason why there is nothing."""
    if estimate.mark == NOT_AVAILABLE and estimate.reason:
        return estimate.reason
    return mean_in_cell(estimate, decimals, signed=True)


def share_in_words(estimate: Estimate) -> str:
    """Such as "48 of 94 (51%, 95% CI 41 to 61)"; under ten people the counts alone, with the reason."""
    if estimate.mark:
        return estimate.mark
    if not estimate.has_interval or estimate.estimate is None or estimate.n is None:
        return with_interval(k_of_n(estimate), "", estimate.reason or NO_INTERVAL)
    limits = f"{percent(estimate.estimate, estimate.n)}, 95% CI {_percent_limits(estimate)}"
    return with_interval(k_of_n(estimate), limits, "", level="")


def share_in_cell(estimate: Estimate) -> str:
    """Such as "48 of 94"."""
    return estimate.mark or k_of_n(estimate)


def share_limits(estimate: Estimate) -> str:
    """Such as "51% (41 to 61)", for the line under "48 of 94"."""
    if estimate.mark or estimate.estimate is None or estimate.n is None:
        return ""
    if not estimate.has_interval:
        return NO_INTERVAL
    return with_interval(percent(estimate.estimate, estimate.n), _percent_limits(estimate), "", level="")


def share_line(estimate: Estimate) -> str:
    """Such as "48 of 94, 51% (41 to 61)" on one line."""
    limits = share_limits(estimate)
    return f"{share_in_cell(estimate)}, {limits}" if limits else share_in_cell(estimate)


def count_and_percent(estimate: Estimate) -> str:
    """Such as "86 (77%)", for describing who is in; the column head gives n."""
    if estimate.mark or estimate.k is None:
        return estimate.mark or NOT_AVAILABLE
    if not estimate.n:
        return count(estimate.k)
    return f"{count(estimate.k)} ({percent(100 * estimate.k / estimate.n, estimate.n)})"


def rate_in_words(estimate: Estimate, per: str) -> str:
    """Such as "14.5 per 100 sessions (95% CI 12.6 to 16.6)"."""
    return mean_in_words(estimate, 1, unit=per)


def quartiles_in_cell(estimate: Estimate, decimals: int) -> str:
    """Such as "46 (39 to 55)": median with lower and upper quartile; under three people nothing."""
    if estimate.mark or estimate.estimate is None:
        return estimate.mark or NOT_AVAILABLE
    return with_interval(fixed(estimate.estimate, decimals), _limits(estimate, decimals), "no quartiles", level="")


def k_of_n(estimate: Estimate) -> str:
    """Such as "48 of 94"."""
    if estimate.k is None:
        return estimate.mark or NOT_AVAILABLE
    return f"{count(estimate.k)} of {count(estimate.n)}" if estimate.n is not None else count(estimate.k)


def counted(n: int | None, mark: str = PROTECTED) -> str:
    """A count, or the mark that stands for a hidden one."""
    return mark if n is None else count(n)


def counted_people(n: int | None) -> str:
    return "a hidden number of people" if n is None else people(n)


def _value(estimate: Estimate, decimals: int, *, signed: bool) -> str:
    return "" if estimate.mark or estimate.estimate is None else fixed(estimate.estimate, decimals, signed=signed)


def _limits(estimate: Estimate, decimals: int, *, signed: bool = False) -> str:
    if estimate.mark or estimate.lower is None or estimate.upper is None:
        return ""
    return interval(estimate.lower, estimate.upper, lambda value: fixed(value, decimals, signed=signed and value > 0))


def _percent_limits(estimate: Estimate) -> str:
    n = estimate.n or 0
    lower, upper = (0.0 if limit is None else limit for limit in (estimate.lower, estimate.upper))
    return interval(lower, upper, lambda value: percent(value, n).removesuffix("%"))


# --- notes under tables ---------------------------------------------------------------------------------------------


def explain(texts: Iterable[str], threshold: int) -> str:
    """What the marks that occur in these texts mean, in a fixed order; "" when none occurs."""
    joined = " ".join(texts)
    meanings = {
        f"<{threshold}": f"<{threshold}: fewer than {threshold}, hidden to protect privacy.",
        PROTECTED: "[c]: hidden so that a small count cannot be worked out.",
        NOT_AVAILABLE: "[x]: not available.",
        NOT_APPLICABLE: "[z]: does not apply.",
        NO_INTERVAL: "No interval: fewer than 10 people, or all values are equal.",
    }
    return " ".join(words for mark, words in meanings.items() if mark in joined)


def sentences(*parts: str) -> str:
    """Non-empty parts joined by a blank."""
    return " ".join(part for part in parts if part)


# --- names ----------------------------------------------------------------------------------------------------------


def capital(text: str) -> str:
    """The text with its first letter in upper case, but for names such as fhir.resources, and a printer's apostrophe."""
    first, _, _ = plain(text).partition(" ")
    start = text if "." in first.rstrip(".") else first_upper(text)
    return start.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def at(visit: Visit) -> str:
    """The visit's label inside a sentence: "week 4"."""
    return visit.label[:1].lower() + visit.label[1:]


def better(measure: Measure) -> str:
    """Which way is better, in words."""
    return {"lower": "lower is better", "higher": "higher is better", "none": "no direction is better"}[
        measure.direction
    ]


def improved(measure: Measure, percent_change: int) -> str:
    """Such as "at least 30% less pain", or the same for a measure that is not pain."""
    if measure.domain == "pain" and measure.direction == "lower":
        return f"at least {percent_change}% less pain"
    return f"at least {percent_change}% improvement in {measure.short.lower()}"


def marked(text: str, state: str) -> str:
    """The text with the state of knowledge beside it, unless it is confirmed."""
    return text if state == "confirmed" else f"{text} [{state}]"


def thresholds_in_words(thresholds: Iterable[Threshold]) -> str:
    """Such as "−30 (percent change, moderate), −50 (percent change, substantial): IMMPACT 2008; −2 (...): ... [unconfirmed]"."""
    by_source = groupby(thresholds, key=lambda threshold: (threshold.source, threshold.state))
    return "; ".join(
        marked(f"{', '.join(f'{_size(one.value)} ({one.kind})' for one in own)}: {source}", state)
        for (source, state), own in by_source
    )


def error_in_words(measure: Measure) -> str:
    """The measurement error of one person and the change that goes beyond it, with state and source."""
    error = measure.error
    if error is None:
        return "The measurement error of one person is not declared for this measure."
    of = f" (SD {error.sd:g}, reliability {error.reliability:g})" if error.standard_error is None else ""
    return (
        f"Measurement error of one person: {fixed(error.of_one_score, 2)} points{of}, so a change of more than "
        f"{fixed(error.reliable_change, 2)} points is called reliable: {marked(error.source, error.state)}."
    )


def _size(value: float) -> str:
    return fixed(value, 0 if value == int(value) else 1)


SYSTEMS = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD-10-CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD-10",
    "http://id.who.int/icd/release/11/mms": "ICD-11",
    "http://www.whocc.no/atc": "ATC",
    "http://standardterms.edqm.eu": "EDQM",
    "http://terminology.hl7.org/CodeSystem/v3-RouteOfAdministration": "HL7 v3",
    "words": "in words:",
}


def system_name(system: str) -> str:
    """The usual short name of a code system; systems this list does not know are local ones."""
    return SYSTEMS.get(system, "local code")


def code_words(code: Code) -> str:
    """Such as "LOINC 72514-3", with the state of knowledge unless confirmed."""
    return marked(f"{system_name(code.system)} {code.code}", code.state)
