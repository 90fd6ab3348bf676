"""What the analysis plan names must be there: measures, visits, classes of treatment; and no event may have two rules."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from crps_outcomes.tables import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.plan import Intercurrent, KeySecondary
    from crps_outcomes.study import Study

_FILE = "mappings/protocol.toml: plan"


def plan_mistakes(study: Study) -> Iterator[str]:
    """One message for each thing of the plan that cannot be done, with the key and what would be right."""
    for number, one in enumerate(study.protocol.plan.key_secondary, 1):
        yield from (f"{_FILE}.key_secondary {number}: {wrong}" for wrong in _endpoint_mistakes(study, one))
    yield from _doubles(study)
    words = _terms(study)
    for number, rule in enumerate(study.protocol.plan.intercurrent, 1):
        known = words[rule.event]
        unknown = sorted(set(rule.terms) - known)
        right = f"there are {', '.join(sorted(known))}" if known else "this kind of event takes no terms"
        yield from (f'{_FILE}.intercurrent {number}: terms: no "{term}" of "{rule.event}"; {right}' for term in unknown)


def _endpoint_mistakes(study: Study, one: KeySecondary) -> Iterator[str]:
    outcomes = {name: m for name, m in study.measures.items() if m.role == "outcome" and m.has_baseline}
    visits = [visit.id for visit in study.protocol.visits]
    if one.visit not in visits:
        yield f'visit: no visit "{one.visit}"; there are {", ".join(visits)}'
    if one.measure not in outcomes:
        yield f'measure: no outcome "{one.measure}" with a start score; there are {", ".join(sorted(outcomes))}'
    elif one.summary == "responders" and (
        outcomes[one.measure].range[0] != 0 or outcomes[one.measure].direction == "none"
    ):
        yield f'summary: "{one.measure}" has no percent change, its scale does not start at 0; it should be "mean change"'
    plan = study.protocol.outcomes
    if (one.measure, one.visit, one.summary) == (plan.primary, plan.primary_visit, "mean change"):
        yield "it is the primary endpoint; it should be another measure, visit or summary"


def _doubles(study: Study) -> Iterator[str]:
    plan = study.protocol.plan
    if len(set(plan.key_secondary)) < len(plan.key_secondary):
        yield f"{_FILE}.key_secondary: an endpoint is listed twice"
    for (one, rule), (other, later) in combinations(enumerate(plan.intercurrent, 1), 2):
        if rule.event == later.event and _overlap(rule, later):
            yield f'{_FILE}.intercurrent {one} and {other}: two rules for one "{rule.event}"; their terms should differ'


def _overlap(one: Intercurrent, other: Intercurrent) -> bool:
    return not one.terms or not other.terms or bool(set(one.terms) & set(other.terms))


def _terms(study: Study) -> Mapping[str, frozenset[str]]:
    """The terms each kind of event can have; a codelist that is missing is a mistake told elsewhere."""
    context, exposure = study.protocol.context, study.protocol.exposure

    def groups(name: str) -> frozenset[str]:
        return frozenset(code.group for code in study.codelists.get(name, ()))

    medicines = groups(context.medicine_codelist)
    return {
        "treatment started": medicines,
        "treatment restarted": medicines,
        "treatment stopped": medicines,
        "procedure": groups(context.procedure_codelist),
        "other ketamine route": frozenset(ROUTES) - {exposure.route, "other", "not recorded"},
        "stopped for harm": groups(study.protocol.safety.event_codelist),
        "further series": frozenset(),
        "death": frozenset(),
    }
