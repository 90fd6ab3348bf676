"""Rates and shares over sessions, with intervals that allow for several sessions of one person.

One pair of numbers per person comes in: how often it happened and in how many sessions. The model has an intercept
only, so its estimate is the plain rate or share; its robust variance counts people, not sessions, as independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from statsmodels.genmod.families import Binomial, Poisson
from statsmodels.genmod.generalized_linear_model import GLM

from crps_outcomes.estimators import Interval

if TYPE_CHECKING:
    from crps_outcomes.estimators import Values

RATE = "rate per 100, Poisson model with people as clusters (robust variance), t interval with people − 1 degrees of freedom"
SHARE = "share, logistic model with people as clusters (robust variance), t interval with people − 1 degrees of freedom"
LEAST_PEOPLE = 10
LEAST_AFFECTED = 5  # [project rule] with fewer the variance between people is a guess


def rate_by_person(events: Values, sessions: Values) -> Interval:
    """Events per 100 sessions."""
    n, total = len(sessions), float(sessions.sum())
    estimate = 100 * float(events.sum()) / total if total else None
    reason = _too_few(n, int((events > 0).sum()))
    if reason or estimate is None:
        return Interval(n, estimate, None, None, RATE, reason=reason or "no exposure")
    lower, upper = 100 * np.exp(_limits(GLM(events, np.ones(n), family=Poisson(), exposure=sessions), n))
    return Interval(n, estimate, float(lower), float(upper), RATE)


def share_by_person(reached: Values, sessions: Values) -> Interval:
    """Sessions in which something was reached, in percent of the sessions."""
    n, total = len(sessions), float(sessions.sum())
    estimate = 100 * float(reached.sum()) / total if total else None
    reason = _too_few(n, int((reached > 0).sum())) or _too_few(n, int((reached < sessions).sum()))
    if reason or estimate is None:
        return Interval(n, estimate, None, None, SHARE, reason=reason or "nobody in the denominator")
    pairs = np.column_stack([reached, sessions - reached])
    lower, upper = 100 / (1 + np.exp(-_limits(GLM(pairs, np.ones(n), family=Binomial()), n)))
    return Interval(n, estimate, float(lower), float(upper), SHARE)


def _limits(model: GLM, n: int) -> Values:
    """The limits of the one coefficient; each person is a cluster, which brings the factor n / (n - 1) along."""
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": np.arange(n)}, use_t=True)
    return np.asarray(fit.conf_int(0.05)[0], dtype=np.float64)


def _too_few(n: int, affected: int) -> str:
    if n < LEAST_PEOPLE:
        return f"fewer than {LEAST_PEOPLE} people: no interval by person"
    if affected < LEAST_AFFECTED:
        return f"seen, or not seen, in fewer than {LEAST_AFFECTED} people: no interval by person"
    return ""
