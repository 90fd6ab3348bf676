"""The catalogue of faults: 52 numbers, each with the ways in which it shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from faulty_server.faults.answering import ANSWERING
from faulty_server.faults.bulk import BULK
from faulty_server.faults.data import DATA
from faulty_server.faults.files import FILES
from faulty_server.faults.login import LOGIN
from faulty_server.faults.paging import PAGING
from faulty_server.faults.variant import Variant

__all__ = ["CATALOGUE", "VARIANTS", "Fault", "Variant"]

SOURCES = ("rest", "export", "folder")
TITLES = {
    "F01": "The address of the next page is opaque",
    "F02": "The pages do not end",
    "F03": "A link or redirect leads to another origin",
    "F04": "Rows change while they are read",
    "F05": "The same resource comes twice",
    "F06": "No total",
    "F07": "The total differs from what arrives",
    "F08": "An empty page in between",
    "F09": "Other resources and outcomes among the results",
    "F10": "_include is refused or unbounded",
    "F11": "Pages are smaller than asked for",
    "F12": "A limit on offsets",
    "F13": "Too long a list of values",
    "F14": "The next page of a POST is a GET as long as the form",
    "F15": "A search parameter is ignored",
    "F16": "A shortened resource",
    "F17": "The search expires between pages",
    "F18": "The token is refused in the middle",
    "F19": "A type is forbidden",
    "F20": "Too many requests",
    "F21": "A server error, a slow or a cut answer",
    "F22": "200, and not what was asked for",
    "F23": "An OperationOutcome in one of many shapes",
    "F24": "No such type, or no such resource",
    "F25": "A deletion that nothing tells of",
    "F26": "Dates of change that are no use",
    "F27": "Members of a Group who do not count",
    "F28": "References in other forms",
    "F29": "The cohort is empty or unknown",
    "F30": "One resource that cannot be read",
    "F31": "Content-Location of the kick-off",
    "F32": "The kick-off is refused",
    "F33": "Polling without guidance",
    "F34": "A poll fails",
    "F35": "Done, with errors",
    "F36": "count differs from the lines delivered",
    "F37": "A file is gone",
    "F38": "Files with and without a token",
    "F39": "A file is cut or holds other lines",
    "F40": "The export lists deletions",
    "F41": "The manifest comes in pages",
    "F42": "A type is empty that should not be",
    "F43": "An unknown Group is exported as if it were empty",
    "F44": "Older data of new members are left out",
    "F45": "The manifest lacks or mangles fields",
    "F46": "The export holds more than the cohort",
    "F47": "The job cannot be deleted",
    "F48": "The token endpoint is exactly what discovery says",
    "F49": "Only some kinds of key are taken",
    "F50": "A token of short or unknown life",
    "F51": "Scopes are refused or narrowed",
    "F52": "The token endpoint fails",
}


@dataclass(frozen=True)
class Fault:
    """A row of the catalogue. ``variants``: the ways it shows; the first is meant when only the number is named."""

    code: str
    title: str
    variants: tuple[Variant, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name in SOURCES if any(name in one.sources for one in self.variants))


_ALL = sorted((*PAGING, *ANSWERING, *DATA, *BULK, *FILES, *LOGIN), key=lambda one: one.code)
#: By what an `Inject` calls them: "F21", "F21 cut".
VARIANTS = {one.name: one for one in _ALL}
CATALOGUE = tuple(Fault(code, TITLES[code], tuple(own)) for code, own in groupby(_ALL, key=lambda one: one.code))
