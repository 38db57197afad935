"""Settings of analysis sessions: the six settings of the earlier service, with the same defaults."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ledger.errors import ConfigurationError
from ledger.settings import ANALYSIS_SESSIONS

#: A thousand years in days, so that any time this far from now is within the range of datetime.
_LONGEST_DAYS = 365_000


class SessionSettings(BaseModel):
    """Lifetime, limits, cleanup and retention of analysis sessions.

    ``from_environment`` reads each setting from the variable of the same name in capitals, for example
    ``SESSION_DEFAULT_TTL_HOURS``. A variable with the prefix ``LEDGER_`` before that name takes precedence.

    Attributes:
        session_default_ttl_hours: Default TTL in hours.
        session_max_ttl_hours: Maximum TTL in hours.
        session_cleanup_interval_minutes: Minutes between two cleanup runs; see ``beat_schedule``.
        session_retention_days: Days to keep a session after it ended.
        session_max_queries_per_session: Maximum number of queries in one session.
        session_enable_analytics: Record session metrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_default_ttl_hours: float = Field(24, gt=0)
    session_max_ttl_hours: float = Field(168, gt=0, le=24 * _LONGEST_DAYS)
    session_cleanup_interval_minutes: float = Field(60, gt=0, allow_inf_nan=False)
    session_retention_days: float = Field(30, ge=0, le=_LONGEST_DAYS)
    session_max_queries_per_session: int = Field(1000, ge=1)
    session_enable_analytics: bool = True

    @model_validator(mode="after")
    def _default_within_max(self) -> SessionSettings:
        if self.session_default_ttl_hours > self.session_max_ttl_hours:
            raise ValueError("session_default_ttl_hours is more than session_max_ttl_hours")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> SessionSettings:
        """Return settings read from environment variables. A setting without a variable has its default value.

        Args:
            environment: Variables by name; defaults to those of the process.

        Raises:
            ConfigurationError: A value is invalid; the message names the setting.
        """
        values = {name: text for name, each in ANALYSIS_SESSIONS.items() if (text := each.seed_text(environment))}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the session settings"
            raise ConfigurationError(f"{where}: {first['msg']}. Check {where.upper()} in the environment.") from error
