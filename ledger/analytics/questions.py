"""The views and functions for dashboards as methods, each with its days and filters as typed arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ledger.analytics.summary import Summary, read_summary
from ledger.errors import InvalidInput
from ledger.model.names import did_you_mean
from ledger.model.values import canonical, check_text, check_whole, decode, full_name
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.queries import Shipping, no_progress, warehouse_of
from ledger.warehouse.answer import Answer
from ledger.warehouse.criteria import scalar_texts

#: A day in UTC: a date, or text such as ``2026-11-30``.
Day = date | str
#: Number of days of an answer without a first day.
DAYS = 7
#: Days before the first on which sessions that are still worked in may have begun.
LOOKBACK_DAYS = 8
#: Views over sessions and what is in them, with the columns that order the rows of one session.
VIEWS = {
    "session_metrics": "",
    "session_items": ", occurred_at, item_type, item_id",
    "messages": ", position",
    "tool_calls": ", position",
    "model_calls": ", position",
    "queries": ", position",
    "scores": ", position",
    "errors": ", occurred_at, item_type, item_id",
}
#: The condition that a session has an attribute whose value has one of some texts, as sql/statements/list_sessions.sql.
_HAS_ATTRIBUTE = """session_id IN (
  SELECT session_id FROM session_fields
  WHERE field = 'attribute' AND key = {key} AND created_at >= @first_day AND created_at < @next_day
    AND CASE JSON_TYPE(value)
      WHEN 'string' THEN CONCAT('"', JSON_VALUE(value))
      WHEN 'boolean' THEN JSON_VALUE(value)
      WHEN 'number' THEN IF(
        REGEXP_CONTAINS(JSON_VALUE(value), '[.eE]'),
        FORMAT('%.16e', SAFE_CAST(JSON_VALUE(value) AS FLOAT64)),
        JSON_VALUE(value)
      )
    END IN UNNEST({texts})
)"""
#: Columns that order the rows of one day, for functions with several.
_ORDER_OF_A_DAY = {"user_activity": ("user_id",), "tool_usage": ("tool",), "model_usage": ("provider", "model")}


class Analytics:
    """The views and functions for dashboards, over the warehouse of a ledger.

    Every method returns an ``Answer``: iterate over it, or call its ``to_frame`` (pandas) or ``to_arrow``. Its rows are
    in the order of time. Days are those of UTC, both ends included. Without ``last_day`` the last one is today, without
    ``first_day`` there are seven.

    What each answer counts, and its columns: docs/analytics.md and docs/sql.md. What may be raised is said at
    ``SessionLedger.sql``.

    Args:
        ledger: An open ledger, not the view of one user.
    """

    def __init__(self, ledger: SessionLedger) -> None:
        self._ledger = ledger

    def sessions(
        self,
        first_day: Day | None = None,
        last_day: Day | None = None,
        *,
        user_id: str | None = None,
        attributes: Mapping[str, str | float | bool] | None = None,
    ) -> Answer:
        """Return the metrics of each session that was created on these days.

        Args:
            first_day, last_day: The days of creation.
            user_id: Only sessions of this owner.
            attributes: Only sessions with all of these attributes, which are compared as in ``list_sessions``: ``1``
                equals ``1.0``, and neither ``True`` nor ``"1"``.

        Source: sql/views/session_metrics.sql
        """
        return self.view("session_metrics", first_day, last_day, user_id=user_id, attributes=attributes)

    def view(
        self,
        name: str,
        first_day: Day | None = None,
        last_day: Day | None = None,
        *,
        user_id: str | None = None,
        attributes: Mapping[str, str | float | bool] | None = None,
    ) -> Answer:
        """Return the rows of a view for the sessions that were created on these days.

        Args:
            name: One of ``session_metrics``, ``session_items``, ``messages``, ``tool_calls``, ``model_calls``,
                ``queries``, ``scores`` and ``errors``.
            first_day, last_day: The days of creation.
            user_id: Only sessions of this owner.
            attributes: Only sessions with all of these attributes.

        Raises:
            InvalidInput: There is no such view here, or a day or an attribute cannot be read.
        """
        if name not in VIEWS:
            hint = did_you_mean(str(name), VIEWS, f"There are {', '.join(VIEWS)}.")
            raise InvalidInput(f"Analytics has no view {str(name)[:70]!r}. {hint}")
        conditions, parameters = ["created_at >= @first_day", "created_at < @next_day"], self._days(first_day, last_day)
        if user_id is not None:
            conditions.append("user_id = @user_id")
            parameters["user_id"] = check_text(user_id, "user_id")
        for number, (key, value) in enumerate((attributes or {}).items()):
            conditions.append(_HAS_ATTRIBUTE.format(key=f"@key_{number}", texts=f"@texts_{number}"))
            parameters[f"key_{number}"] = check_text(key, "the name of an attribute")
            parameters[f"texts_{number}"] = _texts_of(key, value)
        statement = f"""
            SELECT * FROM {name} WHERE {" AND ".join(conditions)} ORDER BY created_at, session_id{VIEWS[name]}
        """  # noqa: S608
        return self._ledger.sql(statement, parameters)

    def daily_activity(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return what happened on each day.

        Args:
            first_day, last_day: The days.
            lookback_days: Days before the first on which sessions that are still worked in may have begun.

        Source: sql/functions/daily_activity.sql
        """
        return self._activity("daily_activity", first_day, last_day, lookback_days)

    def user_activity(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return what happened on each day in the sessions of each user; see ``daily_activity``.

        Source: sql/functions/user_activity.sql
        """
        return self._activity("user_activity", first_day, last_day, lookback_days)

    def tool_usage(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return the calls of each tool by day, with failures, retries and latencies; see ``daily_activity``.

        Source: sql/functions/tool_usage.sql
        """
        return self._activity("tool_usage", first_day, last_day, lookback_days)

    def model_usage(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return the calls of each model by day, with tokens, prices and durations; see ``daily_activity``.

        Source: sql/functions/model_usage.sql
        """
        return self._activity("model_usage", first_day, last_day, lookback_days)

    def unpriced_models(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return the models with calls that have no price, the most frequent first; see ``daily_activity``.

        Such a call was recorded without a price, and the price list has none for its model and day, or the call lacks a
        number of tokens. ``SessionLedger.import_model_prices`` adds prices.

        Source: sql/functions/model_usage.sql
        """
        statement = """
            SELECT
              provider, model, CAST(SUM(unpriced_count) AS INT64) AS unpriced_count, MIN(day) AS first_day,
              MAX(day) AS last_day
            FROM model_usage(@first_day, @next_day, @lookback_days)
            WHERE unpriced_count > 0
            GROUP BY provider, model
            ORDER BY unpriced_count DESC, model, provider
        """
        return self._ledger.sql(statement, self._activity_days(first_day, last_day, lookback_days))

    def storage_growth(
        self, first_day: Day | None = None, last_day: Day | None = None, *, lookback_days: int = LOOKBACK_DAYS
    ) -> Answer:
        """Return how much was recorded on each day; see ``daily_activity``.

        Source: sql/functions/storage_growth.sql
        """
        return self._activity("storage_growth", first_day, last_day, lookback_days)

    def outcomes(
        self, first_day: Day | None = None, last_day: Day | None = None, *, attribute: str | None = None
    ) -> Answer:
        """Return how the sessions that were created on these days ended, by each value of each attribute.

        Args:
            first_day, last_day: The days of creation.
            attribute: Only values of this attribute.

        Source: sql/functions/outcomes.sql
        """
        return self._by_attribute("outcomes", first_day, last_day, attribute)

    def attribute_distribution(
        self, first_day: Day | None = None, last_day: Day | None = None, *, attribute: str | None = None
    ) -> Answer:
        """Return how often each attribute has each value; the arguments are those of ``outcomes``.

        Source: sql/functions/attribute_distribution.sql
        """
        return self._by_attribute("attribute_distribution", first_day, last_day, attribute)

    def top_assets(self, first_day: Day | None = None, last_day: Day | None = None) -> Answer:
        """Return which tables the tool calls of the sessions created on these days use, the most frequent first.

        Source: sql/functions/top_assets.sql
        """
        statement = "SELECT * FROM top_assets(@first_day, @next_day) ORDER BY call_count DESC, asset"
        return self._ledger.sql(statement, self._days(first_day, last_day))

    def cohorts(self, first_day: Day | None = None, last_day: Day | None = None) -> Answer:
        """Return how many users come back, by the week of their first session on these days.

        Source: sql/functions/cohorts.sql
        """
        statement = "SELECT * FROM cohorts(@first_day, @next_day) ORDER BY cohort_week, week_number"
        return self._ledger.sql(statement, self._days(first_day, last_day))

    def summary(
        self,
        first_day: Day | None = None,
        last_day: Day | None = None,
        *,
        days: int = DAYS,
        lookback_days: int = LOOKBACK_DAYS,
        shipping: Shipping = no_progress,
    ) -> Summary:
        """Return what these days were like beside as many days before them, as ``ledger stats`` shows it.

        Args:
            first_day, last_day: The days.
            days: Number of days, if ``first_day`` is not given.
            lookback_days: Days before the first of both periods on which sessions that are still worked in may have
                begun.
            shipping: Shows the progress of shipping waiting rows to the warehouse.

        Source: sql/statements/sum_sessions.sql, sql/statements/sum_items.sql, sql/functions/daily_activity.sql
        """
        span = self._days(first_day, last_day, check_whole(days, "days", at_least=1, at_most=100_000))
        lookback = check_whole(lookback_days, "lookback_days", at_most=100_000)
        with warehouse_of(self._ledger, shipping) as warehouse:
            return read_summary(warehouse, span["first_day"], span["next_day"], lookback)

    def _activity(self, name: str, first_day: Day | None, last_day: Day | None, lookback_days: int) -> Answer:
        parameters = self._activity_days(first_day, last_day, lookback_days)
        order = ", ".join(("day", *_ORDER_OF_A_DAY.get(name, ())))
        statement = f"SELECT * FROM {name}(@first_day, @next_day, @lookback_days) ORDER BY {order}"  # noqa: S608
        return self._ledger.sql(statement, parameters)

    def _activity_days(self, first_day: Day | None, last_day: Day | None, lookback_days: int) -> dict[str, Any]:
        """Return the arguments of a function of activity."""
        checked = check_whole(lookback_days, "lookback_days", at_most=100_000)
        return {**self._days(first_day, last_day), "lookback_days": checked}

    def _by_attribute(self, name: str, first_day: Day | None, last_day: Day | None, attribute: str | None) -> Answer:
        parameters = self._days(first_day, last_day)
        condition = ""
        if attribute is not None:
            condition, parameters["name"] = "WHERE name = @name", check_text(attribute, "attribute")
        statement = f"SELECT * FROM {name}(@first_day, @next_day) {condition} ORDER BY name, value"  # noqa: S608
        return self._ledger.sql(statement, parameters)

    def days(self, first_day: Day | None = None, last_day: Day | None = None, count: int = DAYS) -> tuple[date, date]:
        """Return the first and the last day that an answer for these arguments has.

        Args:
            first_day, last_day: The days.
            count: Number of days, if ``first_day`` is not given.

        Raises:
            InvalidInput: A day cannot be read, the first one is after the last or before the year 1, or the last one is
                that of the calendar.
        """
        last = self._ledger._clock().date() if last_day is None else _day(last_day, "last_day")
        if last == date.max:
            raise InvalidInput(f"last_day {last} is the last day of the calendar; name an earlier one.")
        try:
            first = last - timedelta(days=count - 1) if first_day is None else _day(first_day, "first_day")
        except OverflowError as error:
            raise InvalidInput(f"{count} days before {last} begin before the year 1; ask for fewer.") from error
        if first > last:
            raise InvalidInput(f"first_day {first} is after last_day {last}.")
        return first, last

    def _days(self, first_day: Day | None, last_day: Day | None, count: int = DAYS) -> dict[str, Any]:
        """Return the midnights that begin the first day and end the last one; see ``days``."""
        first, last = self.days(first_day, last_day, count)
        return {"first_day": _midnight(first), "next_day": _midnight(last) + timedelta(days=1)}


def _day(value: Day, name: str) -> date:
    if isinstance(value, datetime):
        raise InvalidInput(f"{name} must be a day in UTC such as 2026-11-30, not a time.")
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        shown = f"{value[:70]!r}" if isinstance(value, str) else full_name(value)
        raise InvalidInput(f"{name} must be a date, or text such as 2026-11-30, not {shown}.") from error


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _texts_of(key: str, value: object) -> list[str]:
    """Return the texts that ``_HAS_ATTRIBUTE`` makes of the values that equal ``value``."""
    if not isinstance(value, str | int | float):
        raise InvalidInput(f"An attribute is compared with text, a number or a boolean, not {full_name(value)}.")
    return scalar_texts(decode(canonical(value, f"attribute {key}")))
