"""Checks of ``ledger doctor`` for the values of environment variables."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping

from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.errors import ConfigurationError, LedgerError
from ledger.settings import (
    ANALYSIS_SESSIONS,
    BIGQUERY_EMULATOR_GRPC_HOST,
    BIGQUERY_EMULATOR_HOST,
    DEBUG_SESSION_STATES,
    GOOGLE_CLOUD_PROJECT,
    LEDGER_SESSION_DEFAULT_TTL_HOURS,
    LEDGER_SESSION_MAX_TTL_HOURS,
    LEDGER_USER,
    POSTGRES_PORT,
    SETTINGS,
    TERMINAL_COLUMNS,
    Setting,
)

#: Settings whose values are shown. Other settings may be secrets, so the doctor says only that they are set.
PUBLIC_SETTINGS = {setting.name for setting in SETTINGS if setting.shown}
_NAMES = {name for setting in SETTINGS for name in (setting.name, setting.seed_name) if name}
_PREFIX = "LEDGER_"
_LIFETIMES = (LEDGER_SESSION_DEFAULT_TTL_HOURS, LEDGER_SESSION_MAX_TTL_HOURS)
#: Values of a setting that is on or off.
_SWITCH = ("0", "1", "true", "false", "yes", "no", "on", "off")


def examine_settings(environment: Mapping[str, str], *, except_for: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Check the value of every variable that the ledger reads, and yield a finding for each that is set.

    Args:
        environment: The environment variables.
        except_for: Names of variables that are checked elsewhere.
    """
    wrong = _wrong_values(environment)
    for name in sorted(environment.keys() - except_for):
        if name in wrong:
            yield Finding(name, PROBLEM, wrong[name], f"correct or unset {name}")
        elif name in PUBLIC_SETTINGS:
            yield Finding(name, OK, environment[name])
        elif name in _NAMES and name.startswith(_PREFIX):
            yield Finding(name, OK, "set")
        elif name.startswith(_PREFIX):
            near = difflib.get_close_matches(name, _NAMES, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see docs/settings.md"
            yield Finding(name, NOTE, "set, but the ledger reads no variable of this name", remedy)


def _wrong_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the message about each variable whose value would make a program or a command fail, by its name."""
    from ledger.sdk.opening import wrong_settings

    wrong = {setting.name: str(error) for setting, error in wrong_settings(environment)}
    for setting, check in _checks(environment).items():
        text = setting.text(environment)
        if text is None or setting.name in wrong:
            continue
        try:
            message = check(text)
        except LedgerError as error:
            message = str(error)
        if message is not None:
            wrong[setting.name] = message
    return {**_wrong_in_analysis_sessions(environment), **wrong}


def _checks(environment: Mapping[str, str]) -> dict[Setting, Callable[[str], str | None]]:
    """Return a function for each setting. It returns or raises the error of a value; None for a good one."""
    return {
        BIGQUERY_EMULATOR_HOST: lambda _: _emulator(environment),
        BIGQUERY_EMULATOR_GRPC_HOST: lambda _: _emulator(
            {**environment, BIGQUERY_EMULATOR_HOST.name: "localhost:9050"}
        ),
        GOOGLE_CLOUD_PROJECT: _project,
        LEDGER_USER: _user,
        TERMINAL_COLUMNS: lambda text: _whole(TERMINAL_COLUMNS, text),
        POSTGRES_PORT: lambda text: _whole(POSTGRES_PORT, text),
        DEBUG_SESSION_STATES: lambda text: _switch(DEBUG_SESSION_STATES, text),
    }


def _emulator(environment: Mapping[str, str]) -> None:
    from ledger.warehouse.bigquery.settings import emulator

    emulator(environment)


def _project(text: str) -> None:
    from ledger.warehouse.catalog import check_names

    check_names(text, "dataset")


def _user(text: str) -> None:
    from ledger.model.values import check_text

    check_text(text, LEDGER_USER.name)


def _whole(setting: Setting, text: str) -> str | None:
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return None
    return f"{setting.name} is {text!r}; it must be a whole number above 0"


def _switch(setting: Setting, text: str) -> str | None:
    if text.lower() in _SWITCH:
        return None
    return f"{setting.name} is {text!r}; it must be one of {', '.join(_SWITCH)}"


def _wrong_in_analysis_sessions(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the message about each wrong setting of analysis sessions.

    The two lifetimes are compared with each other. Their variables with the prefix are left out, as they apply to all
    sessions and ``wrong_settings`` checks them.
    """
    from ledger.compat.analysis_sessions.settings import SessionSettings

    lifetimes = [each.seed_name for each in _LIFETIMES if environment.get(each.seed_name)]
    others = [each for each in ANALYSIS_SESSIONS.values() if each not in _LIFETIMES]
    groups = [[name] for each in others for name in (each.name, each.seed_name) if environment.get(name)]
    wrong = {}
    for group in [*groups, *([lifetimes] if lifetimes else [])]:
        try:
            SessionSettings.from_environment({name: environment[name] for name in group})
        except ConfigurationError as error:
            wrong.update(dict.fromkeys(group, str(error)))
    return wrong
