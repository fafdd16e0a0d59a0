"""What time it is, anywhere: zones by their names, or by the city that names them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from tidelog.apps.tools import ToolFailed

MAX_CHARS: Final = 64

_CITIES: Final = {
    "utc": "UTC", "gmt": "UTC", "世界": "UTC", "北京": "Asia/Shanghai", "beijing": "Asia/Shanghai", "中国": "Asia/Shanghai",
    "china": "Asia/Shanghai", "上海": "Asia/Shanghai", "深圳": "Asia/Shanghai", "广州": "Asia/Shanghai",
    "香港": "Asia/Hong_Kong", "台北": "Asia/Taipei", "东京": "Asia/Tokyo", "日本": "Asia/Tokyo", "首尔": "Asia/Seoul",
    "新加坡": "Asia/Singapore", "伦敦": "Europe/London", "巴黎": "Europe/Paris", "柏林": "Europe/Berlin",
    "莫斯科": "Europe/Moscow", "纽约": "America/New_York", "洛杉矶": "America/Los_Angeles", "旧金山": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles", "悉尼": "Australia/Sydney", "迪拜": "Asia/Dubai", "mumbai": "Asia/Kolkata",
    "delhi": "Asia/Kolkata", "india": "Asia/Kolkata", "germany": "Europe/Berlin", "france": "Europe/Paris",
}  # fmt: skip
"""Places that name no zone of their own, and Chinese names."""


def time_in(place: str, now: datetime | None = None) -> dict[str, Any]:
    """The local time of a zone (`Asia/Tokyo`), a city or an offset-free name such as `UTC`. Raises `ToolFailed`."""
    zone = zone_of(place)
    local = (now or datetime.now(UTC)).astimezone(ZoneInfo(zone))
    offset = f"{local:%z}"
    return {
        "zone": zone, "time": f"{local:%Y-%m-%d %H:%M}", "weekday": f"{local:%A}", "utc_offset": f"{offset[:3]}:{offset[3:5]}",
    }  # fmt: skip


def zone_of(place: str) -> str:
    """The name of the zone. Only names that the system lists are ever opened."""
    wanted = " ".join(place.replace("_", " ").split()).casefold()
    found = _CITIES.get(wanted) or (_zones().get(wanted) if len(wanted) <= MAX_CHARS else None)
    if found is None:
        raise ToolFailed(f"There is no time zone {place[:MAX_CHARS]!r}: name one like Asia/Tokyo, or its city.")
    try:
        ZoneInfo(found)
    except ZoneInfoNotFoundError:
        raise ToolFailed("This server has no data about time zones.") from None
    return found


@cache
def _zones() -> dict[str, str]:
    """Zones by their whole names and by their cities, in small letters. Reads a folder, once."""
    found: dict[str, str] = {}
    for zone in sorted(available_timezones()):
        for name in (zone, zone.rpartition("/")[2]):
            found.setdefault(name.replace("_", " ").casefold(), zone)
    return found
