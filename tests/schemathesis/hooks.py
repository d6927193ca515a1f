"""What schemathesis is taught for this API: lines of JSON, and that nothing is given for an invalid key."""

import json
import os

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    items = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(item) for item in items).encode()


if os.environ.get("REMIT_KEY_IS_INVALID"):

    @schemathesis.check
    def nothing_for_an_invalid_key(_context, response, case):
        definition = case.operation.definition.raw
        if definition.get("security") != []:
            assert response.status_code >= 400, "an invalid key was let in"
