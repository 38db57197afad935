"""Answers of BigQuery's REST interface, as Google's client reads them."""

from __future__ import annotations

import json

import requests
from google.api_core import exceptions as api

URL = "https://bigquery.googleapis.com/bigquery/v2/projects/p/queries?prettyPrint=false"


# REST: what the service answers, as the client reads it


def rest(status: int, reason: str, message: str) -> api.GoogleAPICallError:
    """The error that Google's client makes of an answer."""
    answer = requests.Response()
    answer.status_code = status
    answer.request = requests.Request("POST", URL, headers={"Authorization": "Bearer ya29.t0ken"}).prepare()
    errors = [{"message": message, "domain": "global", "reason": reason}]
    answer._content = json.dumps({"error": {"code": status, "message": message, "errors": errors}}).encode()
    answer.headers["Content-Type"] = "application/json; charset=UTF-8"
    answer.encoding = "utf-8"
    return api.from_http_response(answer)
