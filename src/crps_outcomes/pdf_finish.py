"""The last pass over a PDF: what the layout engine leaves out of the tags, and a refusal of anything active.

Table heads get their Scope, heads can be found by name (IDTree), links are printable, and the metadata are readable
without decompression. The same input gives the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pikepdf
from pikepdf import Array, Dictionary, Name

from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRINT_FLAG = 4
ACTIVE = ("/JavaScript", "/JS", "/Launch", "/EmbeddedFile", "/EmbeddedFiles", "/Filespec", "/FileAttachment", "/AA",
          "/OpenAction", "/GoToR", "/SubmitForm", "/RichMedia", "/URI", "/EF", "/AF", "/GoToE", "/ImportData", "/Rendition",
          "/Movie", "/Sound", "/3D", "/AcroForm", "/XFA")  # fmt: skip


def finish(pdf: bytes) -> bytes:
    """The same pages with complete table tags, printable links and plain metadata.

    Raises:
        PipelineError: the file holds a script, an attachment, an action or a link to the outside.
    """
    with pikepdf.open(io.BytesIO(pdf)) as document:
        refuse_active(document)
        _tag_heads(document)
        _print_links(document)
        _plain_metadata(document)
        out = io.BytesIO()
        document.save(out, deterministic_id=True, compress_streams=False)
    return out.getvalue()


def refuse_active(document: pikepdf.Pdf) -> None:
    """A report is paper: nothing in it runs, opens or leads out of it.

    Raises:
        PipelineError: something does; the message names what kind of thing.
    """
    found = sorted({name for item in document.objects for name in _active_names(item)})
    if found:
        raise PipelineError(f"the PDF holds {', '.join(found)}; it should hold nothing active and no outside link")


def _active_names(item: Any) -> Iterator[str]:
    """Active names among the keys and names of one object and of what is written directly inside it."""
    if isinstance(item, pikepdf.Stream):
        item = item.stream_dict
        if "/F" in item:
            yield "a stream kept in another file"
    if isinstance(item, Dictionary):
        yield from (key for key in item.keys() if key in ACTIVE)  # noqa: SIM118 - a pikepdf dictionary iterates oddly
        children: list[Any] = [item[key] for key in item.keys()]  # noqa: SIM118
    elif isinstance(item, Array):
        children = [*item]
    else:
        children = []
    for child in children:
        if isinstance(child, Name):
            yield from (name for name in ACTIVE if str(child) == name)
        elif isinstance(child, (Dictionary, Array)) and not child.is_indirect:
            yield from _active_names(child)


def _tag_heads(document: pikepdf.Pdf) -> None:
    root = document.Root.get("/StructTreeRoot")
    if root is None:
        return
    names: list[tuple[bytes, Any]] = []
    for element, within in _elements(root, ""):
        if element.get("/S") == Name.TH and "/A" in element:
            element.A.Scope = Name.Column if within == "/THead" else Name.Row
        if "/ID" in element:
            names.append((bytes(element.ID), element))
    pairs = [
        part for key, element in sorted(names, key=lambda name: name[0]) for part in (pikepdf.String(key), element)
    ]
    if pairs:
        root.IDTree = Dictionary(Names=Array(pairs))


def _elements(node: Any, within: str) -> Iterator[tuple[Any, str]]:
    """Every structure element below a node, with the table part (THead, TBody) it stands in."""
    kids = node.get("/K")
    for kid in kids if isinstance(kids, Array) else [kids]:
        if isinstance(kid, Dictionary) and "/S" in kid:
            part = str(kid.S) if str(kid.S) in {"/THead", "/TBody"} else within
            yield kid, part
            yield from _elements(kid, part)


def _print_links(document: pikepdf.Pdf) -> None:
    for page in document.pages:
        for annotation in page.get("/Annots", ()):
            annotation.F = int(annotation.get("/F", 0)) | PRINT_FLAG


def _plain_metadata(document: pikepdf.Pdf) -> None:
    if "/Metadata" in document.Root:
        data = document.Root.Metadata.read_bytes()
        document.Root.Metadata = document.make_stream(data, Type=Name.Metadata, Subtype=Name.XML)
