"""Writes spec/events.schema.json from the events of the code; with `--print`, to standard output instead.

A field with a default may be missing where the code omits defaults; readers ignore fields and types that they do not know.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from tidelog import events

TARGET = Path(__file__).parent.parent / "spec" / "events.schema.json"


def main() -> None:
    text = schema()
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text)
    else:
        TARGET.write_text(text)


def schema() -> str:
    """The JSON schema of any event, as text that is the same each time."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"tidelog events, version {events.PROTOCOL_VERSION}",
        **msgspec.json.schema(events.AnyEvent),
    }
    return json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
