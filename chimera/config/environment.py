"""The CHIMERA_* variables, read once and frozen."""

from __future__ import annotations

import functools

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chimera.config.models import Name
from chimera.config.settings import setting
from chimera.errors import InvalidRequest


class Environment(BaseSettings):
    """Where a program of this machine finds what. Each field is a variable, in upper case."""

    model_config = SettingsConfigDict(env_prefix="CHIMERA_", frozen=True, extra="ignore")

    address: str = setting("CHIMERA_ADDRESS")
    swarm: Name = setting("CHIMERA_SWARM")
    tenant: Name = setting("CHIMERA_TENANT")
    data_dir: str = setting("CHIMERA_DATA_DIR")


@functools.cache
def environment() -> Environment:
    """The variables as they were at the first call. Raises InvalidRequest."""
    try:
        return Environment()
    except ValidationError as fault:
        first = fault.errors()[0]
        name = f"CHIMERA_{first['loc'][0]}".upper()
        raise InvalidRequest(f"{name}: {first['msg']}, got {first['input']!r}") from fault
