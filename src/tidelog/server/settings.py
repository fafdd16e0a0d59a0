"""Settings from the environment: one prefix, every name known. Arguments win over them."""

from __future__ import annotations

import os
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidelog.errors import InvalidRequest

PREFIX: Final = "TIDELOG_"


class Settings(BaseSettings):
    """What `tidelog serve` reads from `TIDELOG_…` and, in the working directory, from `.env`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore")

    store: str = "sqlite:///tidelog.db"
    """The URL of the store: `memory:` or `sqlite:///file.db`."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = Field(default=1, ge=1)
    """Processes that serve, all on one port and one store."""
    docs: str | None = None
    """A folder or file of documents for `/rag`."""
    model: str | None = None
    """The language model of the built-in applications. Keys and addresses come from the providers' own variables."""
    api_keys: SecretStr | None = None
    """Who may use the built-in applications: a file with lines `name:key`, or such a list with commas."""
    drain_timeout: float = 10.0
    """Seconds that live runs get when the server goes."""
    log_level: str = "info"


def load() -> Settings:
    """The settings. Raises `InvalidRequest` that names a variable which nobody reads."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise InvalidRequest(f"Unknown setting {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
    return Settings()
