"""Time until something happens, when for some people the end was not seen: Kaplan-Meier and what is read from it.

The estimates and their Greenwood variance come from statsmodels. The log-log band, the median rule and the mean up to
a horizon are thin formulas here, because statsmodels has no log-log band. Source: Klein and Moeschberger, Survival
Analysis, sections 4.2 to 4.5. Shares are in percent, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight

from crps_outcomes.estimators import TOLERANCE, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

KAPLAN_MEIER = "Kaplan-Meier, log-log interval (Greenwood)"
MEDIAN = "Kaplan-Meier median: first time at which 50 % or less remain; limits from the log-log band"
MEAN = "mean time up to a horizon: area under the Kaplan-Meier curve, normal interval (Greenwood)"

_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """A survival curve: one entry per distinct event time, ascending; between two entries it is flat, before the first 1.

    ``durations`` and ``is_event`` have one entry per person. ``survival`` and its pointwise 95 % band ``lower`` and
    ``upper`` are shares of 1; the band is nan where the curve has come to 0. ``at_risk`` counts people whose duration
    is not below the time.
    """

    durations: Values
    is_event: NDArray[np.bool_]
    times: Values
    survival: Values
    lower: Values
    upper: Values
    at_risk: NDArray[np.int64]
    events: NDArray[np.int64]

    @property
    def n(self) -> int:
        return len(self.durations)

    @property
    def longest(self) -> float:
        """The longest duration seen, whether or not it ended in an event; 0 for nobody."""
        return float(self.durations.max(initial=0.0))

    @property
    def is_finished(self) -> bool:
        """Whether the curve has come to 0, so that it is known at any later time too."""
        return bool(len(self.survival)) and float(self.survival[-1]) <= TOLERANCE


class AtRisk(NamedTuple):
    """What had happened before a time: the three counts add up to everybody."""

    time: float
    at_risk: int
    events: int
    censored: int


def kaplan_meier(durations: Values, is_event: NDArray[np.bool_]) -> KaplanMeier:
    """The curve of people with these durations; a duration of 0 is allowed. An event and a censoring at one time: event first.

    Raises:
        ValueError: a duration is negative or not a number.
    """
    if not np.all(durations >= 0):
        raise ValueError("durations: every one should be a number of 0 or more")
    if not is_event.any():
        none = np.array([], dtype="float64")
        counts = none.astype("int64")
        return KaplanMeier(durations, is_event, none, none, none, none, counts, counts)
    found = SurvfuncRight(durations, is_event.astype("int64"))
    survival = np.asarray(found.surv_prob, dtype=np.float64)
    lower, upper = _log_log_band(survival, np.asarray(found.surv_prob_se, dtype=np.float64))
    at_risk, events = (np.rint(counts).astype("int64") for counts in (found.n_risk, found.n_events))
    return KaplanMeier(durations, is_event, np.asarray(found.surv_times), survival, lower, upper, at_risk, events)


def _log_log_band(survival: Values, error: Values) -> tuple[Values, Values]:
    """The pointwise band that is symmetric on the scale of log(-log S): it never leaves 0 to 1."""
    is_inside = survival > TOLERANCE
    inside = np.where(is_inside, survival, 0.5)
    spread = np.where(is_inside, error, np.nan) / (inside * -np.log(inside))
    band = (inside ** np.exp(_Z * spread), inside ** np.exp(-_Z * spread))
    return band[0], band[1]


def share_at(curve: KaplanMeier, time: float) -> Interval:
    """The share in percent to whom it has not happened by ``time``. n counts everybody on the curve."""
    if curve.n == 0:
        return Interval(0, None, None, None, KAPLAN_MEIER, reason="nobody to follow")
    if time > curve.longest and not curve.is_finished:
        return Interval(curve.n, None, None, None, KAPLAN_MEIER, reason="nobody was followed so long")
    place = int(np.searchsorted(curve.times, time + TOLERANCE)) - 1
    if place < 0:
        return Interval(curve.n, 100.0, None, None, KAPLAN_MEIER, reason="no event until then: no interval")
    share = 100 * float(curve.survival[place])
    if share <= TOLERANCE:
        return Interval(curve.n, 0.0, None, None, KAPLAN_MEIER, reason="nobody is left: no interval")
    return Interval(curve.n, share, 100 * float(curve.lower[place]), 100 * float(curve.upper[place]), KAPLAN_MEIER)


def median_time(curve: KaplanMeier) -> Interval:
    """The first time at which the share is 50 % or less, with the times at which the band's limits come there.

    A limit that the band does not reach is missing, and the reason says so.
    """
    if curve.n == 0:
        return Interval(0, None, None, None, MEDIAN, reason="nobody to follow")
    middle, low, high = (_first_at_half(curve, shares) for shares in (curve.survival, curve.lower, curve.upper))
    if middle is None:
        return Interval(curve.n, None, None, None, MEDIAN, reason="not reached: more than half remain")
    reason = "" if high is not None else "the upper limit is not reached"
    return Interval(curve.n, middle, low, high, MEDIAN, reason=reason)


def _first_at_half(curve: KaplanMeier, shares: Values) -> float | None:
    reached = curve.times[shares <= 0.5 + TOLERANCE]
    return float(reached[0]) if len(reached) else None


def mean_time(curve: KaplanMeier, horizon: float) -> Interval:
    """The mean time without the event, counting nobody beyond ``horizon`` (restricted mean survival time).

    There is none when nobody was followed to the horizon. The variance is the sum over event times of the squared area
    still to come x events / (at risk x (at risk - events)).
    """
    if curve.n == 0:
        return Interval(0, None, None, None, MEAN, reason="nobody to follow")
    if horizon > curve.longest and not curve.is_finished:
        return Interval(curve.n, None, None, None, MEAN, reason="nobody was followed to the horizon")
    is_before = curve.times < horizon
    steps = np.concatenate([[0.0], curve.times[is_before], [horizon]])
    areas = np.diff(steps) * np.concatenate([[1.0], curve.survival[is_before]])
    mean = float(areas.sum())
    to_come = np.cumsum(areas[::-1])[::-1][1:]
    at_risk, events = curve.at_risk[is_before], curve.events[is_before]
    is_open = at_risk > events  # where nobody is left there is no area to come either
    weights = events[is_open] / (at_risk[is_open] * (at_risk[is_open] - events[is_open]))
    spread = _Z * float(np.sqrt(np.sum(to_come[is_open] ** 2 * weights)))
    if spread <= TOLERANCE:
        return Interval(curve.n, mean, None, None, MEAN, reason="no spread before the horizon: no interval")
    return Interval(curve.n, mean, max(mean - spread, 0.0), min(mean + spread, horizon), MEAN)


def risk_table(curve: KaplanMeier, times: Sequence[float]) -> tuple[AtRisk, ...]:
    """Who is still at risk at each time, and how many events and censorings came before it; they add up to n."""
    earlier = (curve.durations < time - TOLERANCE for time in times)
    return tuple(
        AtRisk(time, int((~before).sum()), int((before & curve.is_event).sum()), int((before & ~curve.is_event).sum()))
        for time, before in zip(times, earlier, strict=True)
    )
