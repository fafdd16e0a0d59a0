from datetime import datetime
from zoneinfo import ZoneInfo

from openai import pydantic_function_tool
from pydantic import BaseModel


class Add(BaseModel):
    """Add two numbers."""

    a: float
    b: float

    def run(self) -> float:
        return self.a + self.b


class Clock(BaseModel):
    """Tell the time in a zone such as Asia/Tokyo."""

    zone: str

    def run(self) -> str:
        return datetime.now(ZoneInfo(self.zone)).isoformat(timespec="minutes")


KINDS: dict[str, type[Add] | type[Clock]] = {"Add": Add, "Clock": Clock}
TOOLS = [pydantic_function_tool(kind) for kind in KINDS.values()]


def run_tool(name: str, arguments: str) -> float | str:
    """What the tool gives, or what was wrong with the call: models err, and try again when they are told."""
    try:
        return KINDS[name].model_validate_json(arguments).run()
    except KeyError:  # no such tool, or no such zone
        return f"There is no {name}({arguments}); there are the tools {', '.join(KINDS)}."
