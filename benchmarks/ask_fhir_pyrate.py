"""All Observations of some patients with FHIR-PYrate, as its documentation does it: prints their ids as JSON."""

import json
import sys
from importlib.metadata import version

import requests
from fhir_pyrate import Pirate

base, token, patients, page_size = (*sys.argv[1:], "", "", "")[:4]
if base == "version":
    sys.exit(print(version("fhir-pyrate")))
session = requests.Session()
session.headers["Authorization"] = f"Bearer {token}"
with Pirate(base_url=base, auth=session, print_request_url=False) as pirate:
    frame = pirate.steal_bundles_to_dataframe(
        "Observation",
        request_params={"patient": patients, "_count": int(page_size)},
        fhir_paths=[("id", "id"), ("resourceType", "resourceType")],
    )
rows = (
    frame.to_dict("records")
    if hasattr(frame, "to_dict")
    else [row for one in frame.values() for row in one.to_dict("records")]
)
print(json.dumps([f"{row.get('resourceType')}/{row.get('id')}" for row in rows]))
