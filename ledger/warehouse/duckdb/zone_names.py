"""The names of time zones that GoogleSQL takes: those of the tz database.

DuckDB also takes abbreviations with meanings that few expect: BST is Bangladesh, IST is India, PST is Los Angeles in
summer, too. The names here are patterns of regular expressions, because DuckDB compares them when a statement runs.

Source: https://www.iana.org/time-zones, the files ``backward`` and ``etcetera`` among them.
"""

from __future__ import annotations

_AREAS = "Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe|Indian|Mexico|Pacific"
_WITHOUT_AREA = (
    "CET|CST6CDT|Cuba|EET|EST|EST5EDT|Egypt|Eire|Factory|GB|GB-Eire|GMT|GMT[+-]?0|Greenwich|HST|Hongkong|Iceland|Iran|"
    "Israel|Jamaica|Japan|Kwajalein|Libya|MET|MST|MST7MDT|NZ|NZ-CHAT|Navajo|PRC|PST8PDT|Poland|Portugal|ROC|ROK|"
    "Singapore|Turkey|UCT|UTC|Universal|W-SU|WET|Zulu"
)
#: A name, in any case.
NAME = f"(?i:(?:{_AREAS}|US)/.+|{_WITHOUT_AREA})"
#: The name at the end of a text with a time, as the first group.
IN_TEXT = r":\d+(?:\.\d*)?\s+([A-Za-z]\S*)\s*$"


def checked(zone: str, value: str) -> str:
    """Return an expression in DuckDB's SQL that is a value, or fails if a zone is neither empty nor a known name.

    Args:
        zone: An expression.
        value: An expression; NULL has no zone.
    """
    return (
        f"CASE WHEN NOT REGEXP_FULL_MATCH({zone}, '(?:{NAME})?') THEN ERROR('Unknown TimeZone ''' || {zone} || '''') "
        f"ELSE {value} END"
    )
