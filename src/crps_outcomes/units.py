"""Quantities into a measure's unit: what is declared, what UCUM can convert, and nothing else."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure
    from crps_outcomes.resources import Quantity

#: Spellings that are not UCUM but leave no doubt; anything else must be UCUM.
SPELLINGS = {"mcg": "ug", "µg": "ug", "μg": "ug", "ml": "mL", "mmHg": "mm[Hg]"}


def unit_of(quantity: Quantity) -> str:
    """The unit as UCUM code, else as printed, in UCUM spelling; "" for none."""
    written = (quantity.code or quantity.unit).strip()
    return SPELLINGS.get(written, written)


def factor(unit: str, target: str) -> float | None:
    """What to multiply a value in ``unit`` by to get ``target``; None when UCUM knows no such conversion."""
    return 1.0 if unit == target else _ucum_factor(unit, target)


def into_measure_unit(value: float, unit: str, measure: Measure) -> tuple[float, str] | None:
    """The value in the measure's unit with the derivation to record, or None for a unit that is not declared."""
    if unit == measure.unit or unit in measure.accepted_units:
        return value, ""
    if not measure.convert_units or not unit:
        return None
    times = factor(unit, measure.unit)
    return None if times is None else (value * times, f"{unit} to {measure.unit}")


@lru_cache(maxsize=256)
def _ucum_factor(unit: str, target: str) -> float | None:
    import pint  # noqa: PLC0415 - two seconds to load, and most cohorts need no conversion
    from ucumvert.parser import InvalidUcumError  # noqa: PLC0415

    registry = _registry()
    try:
        return float((1.0 * registry.from_ucum(unit)).to(registry.from_ucum(target)).magnitude)
    except (pint.PintError, InvalidUcumError):
        return None


@lru_cache(maxsize=1)
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # noqa: PLC0415

    return PintUcumRegistry()
