"""The words of a report that are not the words of its data, in the language of a run; and days as that language writes them.

A catalogue (templates/strings/<language>.toml) holds the furniture of every report: marks, labels, "Figure", "Page". A
report whose sentences stand in the catalogues too says in reports/*.toml in which ``languages``; all others are English.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from crps_outcomes.errors import DefinitionError
from crps_outcomes.numbers import MONTHS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

Language = Literal["en-GB", "en-US", "de"]
Paper = Literal["A4", "Letter"]
LANGUAGES: tuple[str, ...] = get_args(Language)
PAPERS: tuple[str, ...] = get_args(Paper)
ENGLISH: Language = "en-GB"  # of the house, and of every sentence that no catalogue has

_GERMAN_MONTHS = ("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez.")
_DAYS = {"en-GB": ("{day} {month} {year}", MONTHS), "en-US": ("{month} {day}, {year}", MONTHS),
         "de": ("{day}. {month} {year}", _GERMAN_MONTHS)}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """What a report is printed on, in which language, and whether its data travel inside the PDF (PDF/A-3)."""

    lang: str = ENGLISH
    paper: str = "A4"
    archive: bool = False


PLAIN = Form()


class Strings(dict[str, str]):
    """The words of one language by dotted key, such as "label.site". A key that is not there is an error, never a blank."""

    def __init__(self, words: dict[str, str], file: str) -> None:
        super().__init__(words)
        self._file = file

    def __missing__(self, key: str) -> NoReturn:
        raise DefinitionError(f'{self._file}: no string "{key}"; every catalogue should have it')

    def say(self, key: str, **values: object) -> str:
        """The sentence of a key with its ``{places}`` filled in."""
        return self[key].format(**values)


def strings(root: Path, lang: str) -> Strings:
    """The catalogue of a language in a study folder.

    Raises:
        DefinitionError: there is none, it cannot be read, or something in it is not text.
    """
    file = f"templates/strings/{lang}.toml"
    if lang not in LANGUAGES:
        raise DefinitionError(f"language: there is none of that name; there are {', '.join(LANGUAGES)}")
    try:
        with (root / file).open("rb") as catalogue:
            return Strings(dict(_flat(tomllib.load(catalogue), file)), file)
    except FileNotFoundError:
        raise DefinitionError(f"{file}: file not found") from None
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{file}: not valid TOML: {error}") from None


def catalogue_mistakes(root: Path) -> Iterator[str]:
    """What is wrong with the catalogues of a study folder, a line each: one that cannot be read, or lacks what another has."""
    known: dict[str, Strings] = {}
    for lang in LANGUAGES:
        try:
            known[lang] = strings(root, lang)
        except DefinitionError as error:
            yield str(error)
    every = {key for words in known.values() for key in words}
    for lang, words in known.items():
        yield from (f'templates/strings/{lang}.toml: no string "{key}"' for key in sorted(every - words.keys()))


def _flat(table: dict[str, Any], file: str, within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, file, f"{within}{name}.")
        elif isinstance(value, str) and value:
            yield f"{within}{name}", value
        else:
            raise DefinitionError(f"{file}: {within}{name}: should be text in quotation marks, and not empty")


def day(value: date, lang: str) -> str:
    """A date in words: 12 Jun 2026 (en-GB), Jun 12, 2026 (en-US), 12. Juni 2026 (de)."""
    form, months = _DAYS[lang]
    return form.format(day=value.day, month=months[value.month - 1], year=value.year)
