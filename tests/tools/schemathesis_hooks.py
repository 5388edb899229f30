"""What the description says in words because JSON Schema cannot: lengths in bytes."""

import schemathesis
