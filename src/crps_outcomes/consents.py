"""Which decision about the use of a person's data is in force on a day, by the Consents on record.

A Consent speaks about use when its scope is ``research``, ``patient-privacy``, another one, or none at all; an advance
directive (``adr``) and a consent to ``treatment`` say nothing about it.

- A Consent that is ``rejected`` or ``inactive`` refuses. So does an ``active`` one whose rules deny, or whose policy is
  opting out. Rules for stated purposes count when one of them is research.
- A decision is in force from its ``dateTime`` on, a rule within its period. A permission whose period is over has
  *expired*; a refusal whose period is over refuses no more.
- The latest decision wins. Where it cannot be told which came later, refusal wins over expiry, expiry over permission.
- A permission in general (no scope, or privacy) does not undo a refusal of research, or renew what has expired there;
  a later refusal in general does undo a permission for research.

Nobody is left out for having no Consent on record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from crps_outcomes.fhirtime import has_begun, has_ended, is_month_or_year, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from crps_outcomes import resources as fhir

Answer = Literal["permitted", "expired", "refused"]
_RANK: dict[Answer, int] = {"permitted": 0, "expired": 1, "refused": 2}

#: A Consent in one of these states is a decision; drafts, proposals and errors are none.
_DECIDED = frozenset({"active", "rejected", "inactive"})
_OF_ANOTHER_MATTER = frozenset({"adr", "treatment"})
_ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_RESEARCH = frozenset({
    "HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "DSRCH", "POARCH", "PRECLINTRCH", "TRANSRCH",
})  # fmt: skip
_AFTER_ALL = "~"  # sorts after any date


class Decision(NamedTuple):
    """One answer; decisions sort by when they were made, then refusal last."""

    made_on: str
    made_at: str
    rank: int
    answer: Answer
    is_about_research: bool


class _Rule(NamedTuple):
    """A rule with every period it stands in: its own and those of the rules around it."""

    type: str
    purpose: tuple[fhir.Coding, ...]
    periods: tuple[fhir.Period, ...]


def left_out(
    consents: Sequence[fhir.Consent], whom: Callable[[fhir.Reference], str], day: date, timezone: str
) -> dict[str, Answer]:
    """The people whose decision in force on a day is not a permission: "refused" or "expired" by person.

    Args:
        consents: of anybody, in any order.
        whom: the person a reference names, "" for nobody.
        day: nothing that begins later counts.
        timezone: the clinic's zone.
    """
    made: dict[str, list[Decision]] = {}
    for consent in consents:
        if (person := whom(consent.patient)) and (decision := _decision(consent, day, timezone)):
            made.setdefault(person, []).append(decision)
    answers = {person: _in_force(own) for person, own in made.items()}
    return {person: answer for person, answer in answers.items() if answer != "permitted"}


def _in_force(decisions: Sequence[Decision]) -> Answer:
    about_research = max((one for one in decisions if one.is_about_research), default=None)
    in_general = max((one for one in decisions if not one.is_about_research), default=None)
    if about_research is None or in_general is None:
        return max(decisions).answer
    if in_general.answer == "permitted":
        return about_research.answer
    return max(about_research, in_general).answer


def _decision(consent: fhir.Consent, day: date, timezone: str) -> Decision | None:
    scopes = {coding.code for coding in consent.scope.coding}
    if consent.status not in _DECIDED or (scopes and scopes <= _OF_ANOTHER_MATTER):
        return None
    answer = _answer(consent, day, timezone) if has_begun(consent.date_time, day, timezone) else None
    if answer is None:
        return None
    return Decision(*_made(consent.date_time, answer, timezone), _RANK[answer], answer, "research" in scopes)


def _answer(consent: fhir.Consent, day: date, timezone: str) -> Answer | None:
    if consent.status != "active" or any(one.code.startswith("OPTOUT") for one in consent.policy_rule.coding):
        return "refused"
    stated = [rule for rule in _rules(consent.provision) if rule.type]
    rules = stated or [_Rule("permit", (), (consent.provision.period,))]  # an active Consent without rules permits
    states = {(rule.type, _state(rule, day, timezone)) for rule in rules if _is_about_use(rule)}
    if ("deny", "within") in states:
        return "refused"
    if ("permit", "within") in states:
        return "permitted"
    return "expired" if ("permit", "after") in states else None


def _rules(provision: fhir.Provision) -> Iterator[_Rule]:
    waiting: list[tuple[fhir.Provision, tuple[fhir.Period, ...]]] = [(provision, ())]
    while waiting:  # no recursion: how deep rules are nested is up to the source
        one, around = waiting.pop()
        periods = (*around, one.period)
        yield _Rule(one.type, one.purpose, periods)
        waiting.extend((inner, periods) for inner in one.provision)


def _is_about_use(rule: _Rule) -> bool:
    """A rule for purposes that are all known to be others than research says nothing about it."""
    others = [one.system == _ACT_REASON and one.code not in _RESEARCH for one in rule.purpose]
    return not others or not all(others)


def _state(rule: _Rule, day: date, timezone: str) -> Literal["before", "within", "after"]:
    if any(has_ended(period.end, day, timezone) for period in rule.periods):
        return "after"
    return "within" if all(has_begun(period.start, day, timezone) for period in rule.periods) else "before"


def _made(text: str, answer: Answer, timezone: str) -> tuple[str, str]:
    """Day and instant of a decision; what is not known is as late as can be for a refusal, as early for a permission."""
    unknown = "" if answer == "permitted" else _AFTER_ALL
    found = moment(text, timezone)
    if found.on:
        return found.on.isoformat(), found.at.isoformat() if found.at else unknown
    return (text + unknown if is_month_or_year(text) else unknown), unknown
