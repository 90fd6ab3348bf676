"""Why a resource or value was refused: the closed list of rules, and the rows they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes.tables import REJECTIONS, build

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

#: rule -> (stage, what it means in the reader's words)
RULES: dict[str, tuple[str, str]] = {
    "duplicate": ("pull", "the same version of the same resource arrived more than once"),
    "superseded": ("pull", "a newer version of the same resource exists"),
    "unreadable": ("pull", "not JSON, or not a FHIR resource"),
    "not-valid-fhir": ("screen", "fhir.resources rejects it"),
    "tolerated-deviation": (
        "screen",
        "used all the same: a fault in an element nothing here reads, by a declared tolerance",
    ),
    "status-missing": ("screen", "no status"),
    "status-not-accepted": ("screen", "its status says it must not count (entered in error, preliminary, not done)"),
    "subject-missing": ("screen", "it names no patient"),
    "subject-not-enrolled": ("screen", "it belongs to somebody who is not enrolled"),
    "merged-record": ("screen", "a patient record that was merged into another one of the same person"),
    "date-in-future": ("screen", "dated after the day the data are as of"),
    "no-measure-takes-code": ("tabulate", "no measure of the study takes its code"),
    "wrong-code": ("tabulate", "a code that looks like another one and is not that"),
    "panel-of-members": ("tabulate", "a panel without a value of its own; its members are read by themselves"),
    "scale-not-stated": ("tabulate", "a code that serves several scales, and the source does not state which"),
    "value-missing": ("tabulate", "no value of the declared kind"),
    "data-absent": ("tabulate", "the source says why there is no value"),
    "two-values": ("tabulate", "two values where one was declared"),
    "value-not-exact": ("tabulate", "a value with a comparator such as < or >"),
    "value-out-of-range": ("tabulate", "outside the range the measure declares"),
    "raw-score-under-t-code": ("tabulate", "a raw sum recorded under the code of a T-score"),
    "value-between-steps": ("tabulate", "a value between two steps of the scale"),
    "unit-unknown": ("tabulate", "a unit the measure does not declare and UCUM cannot convert"),
    "answer-unknown": ("tabulate", "an answer that is not in the measure's list"),
    "items-missing": ("tabulate", "fewer items answered than the scoring rule needs"),
    "questionnaire-unknown": ("tabulate", "a questionnaire no measure of the study scores"),
    "table-missing": ("score", "the table its score is looked up in is not supplied"),
    "score-does-not-apply": ("score", "the score does not apply to this person"),
    "score-undefined": ("score", "the answers leave the score undefined"),
    "total-disagrees-with-items": ("score", "the recorded total differs from the sum of the items"),
    "date-missing": ("tabulate", "no date"),
    "date-too-coarse": ("tabulate", "a month or year where a day is needed"),
    "amended-elsewhere": ("tabulate", "an amended record of the same moment stands in its place"),
    "same-value-twice": ("tabulate", "the same value of the same moment under another id"),
    "medication-missing": ("tabulate", "it names a Medication the source does not hold"),
    "not-ketamine": ("tabulate", "an administration of another drug"),
    "not-racemic-ketamine": ("tabulate", "esketamine: never pooled with racemic ketamine"),
    "dose-missing": ("tabulate", "an administration without a dose"),
    "dose-unit-unknown": ("tabulate", "a dose unit that cannot be read as mg, mg/kg or mL"),
    "dose-volume-without-strength": ("tabulate", "a volume whose strength nobody states"),
    "dose-weight-missing": ("tabulate", "a dose per kilogram without a weight in the time allowed"),
    "dose-out-of-range": ("tabulate", "a dose outside the range the protocol declares"),
    "not-crps-diagnosis": ("tabulate", "a diagnosis other than CRPS, and no listed harm"),
    "no-evidence-of-exposure": ("tabulate", "an order or statement of ketamine: no evidence that it was given"),
    "only-planned": ("tabulate", "a request that is only proposed, or not to be carried out"),
    "not-a-treatment-of-interest": ("tabulate", "a treatment no codelist of the study names"),
}


@dataclass(frozen=True)
class Rejection:
    """One refused resource and the rule that refused it. ``detail`` adds a path or unit-free hint, never a value."""

    resource_ref: str
    rule: str
    detail: str = ""

    @property
    def row(self) -> dict[str, str]:
        stage, meaning = RULES[self.rule]
        return {
            "resource_ref": self.resource_ref,
            "resource_type": self.resource_ref.split("/", maxsplit=1)[0],
            "rule": self.rule,
            "reason": f"{meaning} ({self.detail})" if self.detail else meaning,
            "stage": stage,
        }


def rejection_table(rejections: Iterable[Rejection]) -> pd.DataFrame:
    """REJECTIONS, one row per resource and rule; the first detail stands when a resource breaks a rule twice."""
    first: dict[tuple[str, str], Rejection] = {}
    for rejection in rejections:
        first.setdefault((rejection.resource_ref, rejection.rule), rejection)
    return build(REJECTIONS, (rejection.row for rejection in first.values()))
