"""The report as frozen values: every text formatted, every position worked out, nothing left to compute.

Templates print these objects and decide only where on the page they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crps_outcomes.language import ENGLISH, PLAIN, Form
from crps_outcomes.traced import plain

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Run:
    """A piece of a sentence; strong pieces are set in the heavier weight."""

    text: str
    is_strong: bool = False


@dataclass(frozen=True)
class Spark:
    """A small line with its interval band, in points; the large dot is the value the row is about."""

    line: str
    band: str
    dot_x: float
    dot_y: float
    alt: str
    width: float = 88
    height: float = 22
    kind: Literal["spark"] = "spark"


@dataclass(frozen=True)
class Dot:
    """A rate with its interval on a scale shared by the rows of a table, in points."""

    at: float
    low: float
    high: float
    grid: tuple[float, ...]
    alt: str
    width: float = 96
    height: float = 11
    kind: Literal["dot"] = "dot"


@dataclass(frozen=True)
class Months:
    """A small process chart, in points: band between limits and centre line of each segment, the months, and the dots.

    ``bands`` are polygons, ``centres`` and ``line`` polylines; ``dots`` are x, y, radius and state.
    """

    bands: tuple[str, ...]
    centres: tuple[str, ...]
    line: str
    dots: tuple[tuple[float, float, float, str], ...]
    alt: str
    width: float = 108
    height: float = 24
    kind: Literal["months"] = "months"


@dataclass(frozen=True)
class Icons:
    """Two icons side by side: the state of the latest point, and whether the target will be met as things are."""

    state: str
    is_high: bool
    state_alt: str
    target: str
    target_alt: str
    kind: Literal["icons"] = "icons"

    @property
    def alt(self) -> str:
        """Both icons in words."""
        return f"{self.state_alt} {self.target_alt}"


@dataclass(frozen=True)
class Link:
    """A way to another section of the report; its words are the section's short name."""

    section: str
    words: str = ""


@dataclass(frozen=True)
class Cell:
    """One table cell. ``tint`` 1 to 5 shades it by size, 0 leaves it white; the text always says the same.

    Links stand in place of the text; print adds their page.
    """

    text: str
    sub: str = ""
    is_big: bool = False
    tint: int = 0
    drawing: Spark | Dot | Months | Icons | None = None
    links: tuple[Link, ...] = ()

    @property
    def plain(self) -> str:
        """The cell without its drawing, for CSV."""
        parts = (self.text, "; ".join(link.words for link in self.links), self.sub)
        return plain(" ".join(part for part in parts if part))


@dataclass(frozen=True)
class Column:
    """A column head with its width in millimetres of the printed page."""

    label: str
    width_mm: float
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption. Without rows, ``empty`` is printed in its place and it takes no number."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    encoding: str = ""
    note: str = ""
    empty: str = "There are no data for this table."
    style: str = ""
    number: int = 0


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption. Without ``svg``, ``empty`` is printed in its place and it takes no number."""

    title: str
    encoding: str
    svg: str = ""
    empty: str = "There are no data for this figure."
    number: int = 0
    is_small: bool = False  # two stand side by side


@dataclass(frozen=True)
class FlowBox:
    """One box of the cohort flow, ``top`` below the top of the drawing; ``out``: lines beside the arrow that leaves it,
    each with its height below ``top``.
    """

    top: float
    stage: str
    label: str
    count: str
    out: tuple[tuple[float, str], ...] = ()
    is_last: bool = False


@dataclass(frozen=True)
class Flow:
    """The cohort flow; each box counts people."""

    title: str
    encoding: str
    boxes: tuple[FlowBox, ...]
    height: float
    alt: str
    empty: str = "The source tells nothing about how people entered the report."
    number: int = 0


IconKind = Literal["had", "not", "unknown"]


@dataclass(frozen=True)
class Icon:
    """One of the 100 people of an icon array, in points."""

    x: float
    y: float
    kind: IconKind


@dataclass(frozen=True)
class IconArray:
    """A share as 100 people. Without ``icons``, ``sentence`` says why there is none; ``legend``: kind, how many, words."""

    title: str
    sentence: str
    alt: str = ""
    icons: tuple[Icon, ...] = ()
    legend: tuple[tuple[IconKind, str, str], ...] = ()
    tone: Literal["benefit", "harm"] = "benefit"
    width: float = 0
    height: float = 0


@dataclass(frozen=True)
class Section:
    """One section: its finding as a heading, and named pieces for the template of the same stem."""

    id: str
    short: str
    finding: str
    lede: str = ""
    headline: tuple[Run, ...] = ()
    figures: Mapping[str, Figure | Flow] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    arrays: Mapping[str, IconArray] = field(default_factory=dict)
    text: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of a page about one person: what -> its sources


@dataclass(frozen=True)
class ReportModel:
    """A whole report, ready to print. ``identity`` is the hexadecimal digest the PDF is identified by."""

    report: str
    title: str
    subject: str
    kind: str
    running: str
    status: tuple[str, ...]
    meta: tuple[tuple[str, str], ...]
    author: str
    created: str
    identity: str
    sections: tuple[Section, ...]
    draft: str = ""  # what every page of a draft says: that it is one, and what is missing
    rounding: str = ""  # that counts are rounded, where they are
    pulled: str = ""  # how complete the data are, and what changed since the data before
    form: Form = PLAIN  # language of the furniture, paper, attachments
    text_lang: str = ENGLISH  # language of the sentences
    behind: Mapping[str, str] = field(
        default_factory=dict
    )  # id -> what is behind a marked number; none: nothing is marked

    @property
    def contents(self) -> tuple[Section, ...]:
        """The sections page 1 points to: all but the summary it is itself."""
        return self.sections[1:]
