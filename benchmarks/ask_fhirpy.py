"""All Observations of some patients with fhirpy, as its documentation does it: prints their ids as JSON."""

import json
import sys
from importlib.metadata import version

from fhirpy import SyncFHIRClient

base, token, patients, page_size = (*sys.argv[1:], "", "", "")[:4]
if base == "version":
    sys.exit(print(version("fhirpy")))
client = SyncFHIRClient(base, authorization=f"Bearer {token}")
found = client.resources("Observation").search(patient=patients).limit(int(page_size)).fetch_all()
print(json.dumps([f"{one.resource_type}/{one.get('id')}" for one in found]))
