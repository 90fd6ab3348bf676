"""A small FHIR R4 server that answers from a list of resources and goes wrong where it is told to.

It runs inside a test (`FaultyServer.transport`, for httpx), as an ASGI app (`.app`), or listens on loopback
(`.listen`), with the same behaviour: search, read, Bulk Data export, SMART Backend Services. What goes wrong is an
`Inject`: a fault by its number in the `CATALOGUE`, at a place. `write_folder` does the same to NDJSON files.
"""

from faulty_server.answers import BASE, DATE, Answer, Inject
from faulty_server.export import Lines
from faulty_server.faults import CATALOGUE, VARIANTS, Fault, Variant
from faulty_server.folder import write_folder
from faulty_server.search import PARAMETERS
from faulty_server.server import FaultyServer, Settings
from faulty_server.smart import Smart
from faulty_server.wire import listening

__all__ = [
    "BASE", "CATALOGUE", "DATE", "PARAMETERS", "VARIANTS", "Answer", "Fault", "FaultyServer", "Inject", "Lines",
    "Settings", "Smart", "Variant", "listening", "write_folder",
]  # fmt: skip
