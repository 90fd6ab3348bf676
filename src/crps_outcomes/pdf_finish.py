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
    from collections.abc import Iterator, Mapping

PRINT_FLAG = 4
EXTERNAL = "a stream kept in another file"
ACTIVE = ("/JavaScript", "/JS", "/Launch", "/EmbeddedFile", "/EmbeddedFiles", "/Filespec", "/FileAttachment", "/AA",
          "/OpenAction", "/GoToR", "/SubmitForm", "/RichMedia", "/URI", "/EF", "/AF", "/GoToE", "/ImportData", "/Rendition",
          "/Movie", "/Sound", "/3D", "/AcroForm", "/XFA",
          EXTERNAL)  # fmt: skip
EMBEDDED = (
    "/EmbeddedFile",
    "/EmbeddedFiles",
    "/Filespec",
    "/EF",
    "/AF",
)  # in an archive copy these are expected, and checked one by one
#: An archive copy says that it is PDF/UA-1 as well; PDF/A wants a namespace it does not know explained in the same place.
ACCESSIBLE_TOO = b"""<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/"><pdfuaid:part>1</pdfuaid:part></rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>PDF/UA identification</pdfaSchema:schema>
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">
<pdfaProperty:name>part</pdfaProperty:name><pdfaProperty:valueType>Integer</pdfaProperty:valueType>
<pdfaProperty:category>internal</pdfaProperty:category>
<pdfaProperty:description>Part of the PDF/UA standard</pdfaProperty:description>
</rdf:li></rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>
"""


def finish(pdf: bytes, attached: Mapping[str, str] | None = None) -> bytes:
    """The same pages with complete table tags, printable links and plain metadata.

    Args:
        pdf: a tagged PDF.
        attached: texts by name that the file must hold, and no other, if it is an archive copy.

    Raises:
        PipelineError: the file holds a script, an action, a link to the outside, or attachments other than these.
    """
    with pikepdf.open(io.BytesIO(pdf)) as document:
        if attached:
            _check_attached(document, attached)
            _describe_attached(document)
            _clear_ends(document)
        refuse_active(document, ACTIVE if not attached else tuple(name for name in ACTIVE if name not in EMBEDDED))
        _tag_heads(document)
        _print_links(document)
        _plain_metadata(document, is_archive=bool(attached))
        out = io.BytesIO()
        document.save(out, deterministic_id=True, compress_streams=False)
    return out.getvalue()


def _check_attached(document: pikepdf.Pdf, attached: Mapping[str, str]) -> None:
    found = {name: bytes(file.get_file().read_bytes()) for name, file in document.attachments.items()}
    files = [item for item in document.objects if isinstance(item, Dictionary) and "/EF" in item]
    if found != {name: text.encode() for name, text in attached.items()} or len(files) != len(attached):
        raise PipelineError("the archive PDF holds other attachments than the report's own data")


def _describe_attached(document: pikepdf.Pdf) -> None:
    """What an archive asks of an attachment: its kind, both forms of its name, and one mention in the catalogue."""
    files = [item for item in document.objects if isinstance(item, Dictionary) and "/EF" in item]
    for file in files:
        file.F = file.UF
        file.EF.F.Subtype = Name("/application/json" if str(file.UF).endswith(".json") else "/text/csv")
    document.Root.AF = Array(files)


def _clear_ends(document: pikepdf.Pdf) -> None:
    """No compressed stream ends in a carriage return, which strict readers take for the end of its line."""
    for item in document.objects:
        if isinstance(item, pikepdf.Stream) and item.read_raw_bytes().endswith(b"\r"):
            item.write(item.read_bytes())


def refuse_active(document: pikepdf.Pdf, active: tuple[str, ...] = ACTIVE) -> None:
    """A report is paper: nothing in it runs, opens or leads out of it.

    Raises:
        PipelineError: something does; the message names what kind of thing.
    """
    found = sorted({name for item in document.objects for name in _active_names(item)} & {*active})
    if found:
        raise PipelineError(f"the PDF holds {', '.join(found)}; it should hold nothing active and no outside link")


def _active_names(item: Any) -> Iterator[str]:
    """Active names among the keys and names of one object and of what is written directly inside it."""
    if isinstance(item, pikepdf.Stream):
        item = item.stream_dict
        if "/F" in item:
            yield EXTERNAL
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


def _plain_metadata(document: pikepdf.Pdf, *, is_archive: bool) -> None:
    if "/Metadata" in document.Root:
        data = document.Root.Metadata.read_bytes()
        if is_archive:
            data = data.replace(b"</rdf:RDF>", ACCESSIBLE_TOO + b"</rdf:RDF>")
        document.Root.Metadata = document.make_stream(data, Type=Name.Metadata, Subtype=Name.XML)
