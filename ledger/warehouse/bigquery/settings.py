"""The dataset and options of a ``bigquery://`` URL, and the emulator set in the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from ledger.errors import ConfigurationError
from ledger.settings import BIGQUERY_EMULATOR_GRPC_HOST, BIGQUERY_EMULATOR_HOST, Setting
from ledger.warehouse import catalog

#: Default maximum number of bytes that one statement may read. With on-demand pricing,
#: reading 100 GiB costs some 60 US cents.
MAXIMUM_BYTES_BILLED = 100 * 2**30
#: Default time for which a call with transient errors is retried, in seconds.
RETRY_TIMEOUT = 60.0
#: Default port of an emulator's Storage API.
EMULATOR_GRPC_PORT = 9060
#: Maps the name that an option had before release 0.2 to its present name. The old names remain valid.
_RENAMED = {"patience": "retry_timeout"}
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
_ADDRESS = re.compile(r"(?:http://)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/?")

TransportName = Literal["storage", "insertall"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset for the ledger's tables, and its options.

    Attributes:
        project: The project; if empty, it is taken from the environment or the credentials.
        name: Name of the dataset.
        strict: True if new sessions are strict (appends compare versions in a transaction), False if lenient.
        transport: ``storage`` (Storage Write API) or ``insertall`` (for networks without gRPC).
        location: Location of jobs; None lets BigQuery choose it.
        maximum_bytes_billed: Maximum number of bytes that one statement may read.
        retry_timeout: Time for which a call with transient errors is retried, in seconds.
        labels: Labels of every job, in addition to the ledger's own.
        lookup_maximum_bytes_billed: ``maximum_bytes_billed`` of look-ups by session id and of strict appends. BigQuery
            compares it with all blocks of the sessions' days, although it reads only those of the sessions.
        maximum_bytes_billed_per_day: Maximum number of bytes that all statements over the dataset may be billed for in
            a day (UTC), before further ones that only read are refused; None for no maximum. Look-ups by session id and
            statements that write are counted, and never refused.
    """

    project: str
    name: str
    strict: bool = False
    transport: TransportName = "storage"
    location: str | None = None
    maximum_bytes_billed: int = MAXIMUM_BYTES_BILLED
    retry_timeout: float = RETRY_TIMEOUT
    labels: Mapping[str, str] = field(default_factory=dict)
    lookup_maximum_bytes_billed: int = MAXIMUM_BYTES_BILLED
    maximum_bytes_billed_per_day: int | None = None

    @property
    def url(self) -> str:
        """The URL of the dataset, without options."""
        return f"bigquery://{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Emulator:
    """Addresses of a BigQuery emulator: ``rest`` is ``http://host:port``, ``grpc`` is ``host:port``."""

    rest: str
    grpc: str


def parse(rest: str) -> Dataset:
    """Parse the part of a URL after ``bigquery://``, such as ``project/dataset?appends=strict``.

    Raises:
        ConfigurationError: A name or an option is wrong; the message lists the options.
    """
    path, _, query = rest.partition("?")
    project, separator, dataset = path.partition("/")
    if not separator or not dataset:
        raise ConfigurationError(
            f"The ledger's URL is bigquery://{rest}; it must look like bigquery://PROJECT/DATASET."
        )
    catalog.check_names(project or "default-project", dataset)
    pairs = [(_RENAMED.get(name, name), value) for name, value in parse_qsl(query, keep_blank_values=True)]
    options = dict(pairs)
    if repeated := sorted({name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1}):
        raise ConfigurationError(f"The ledger's URL has {', '.join(repeated)} more than once; remove one.")
    appends = _choice(options, "appends", "lenient", "strict")
    insert_all = _choice(options, "transport", "storage", "insertall") == "insertall"
    location = options.pop("location", None)
    check_location(location)
    budget = int(_number(options, "maximum_bytes_billed", MAXIMUM_BYTES_BILLED, whole=True))
    of_lookups = max(budget, MAXIMUM_BYTES_BILLED)
    of_day = int(_number(options, "maximum_bytes_billed_per_day", 0, whole=True)) or None
    parsed = Dataset(
        project,
        dataset,
        strict=appends == "strict",
        transport="insertall" if insert_all else "storage",
        location=location,
        maximum_bytes_billed=budget,
        lookup_maximum_bytes_billed=int(_number(options, "lookup_maximum_bytes_billed", of_lookups, whole=True)),
        maximum_bytes_billed_per_day=of_day,
        retry_timeout=_number(options, "retry_timeout", RETRY_TIMEOUT),
        labels=labels_of(pair for pair in options.pop("labels", "").split(",") if pair),
    )
    if options:
        raise ConfigurationError(
            f"The ledger's URL has an unknown option {', '.join(sorted(options))}; the options are appends, transport, "
            "location, maximum_bytes_billed, lookup_maximum_bytes_billed, maximum_bytes_billed_per_day, "
            "retry_timeout and labels."
        )
    return parsed


def emulator(environment: Mapping[str, str] | None = None) -> Emulator | None:
    """Return the addresses of the emulator that the environment variables name; None if they name no emulator.

    Raises:
        ConfigurationError: An address is not ``host:port``; the message names the setting.
    """
    host = BIGQUERY_EMULATOR_HOST.text(environment)
    if not host:
        return None
    name, port = _address(BIGQUERY_EMULATOR_HOST, host)
    grpc = BIGQUERY_EMULATOR_GRPC_HOST.text(environment) or f"{name}:{EMULATOR_GRPC_PORT}"
    grpc_name, grpc_port = _address(BIGQUERY_EMULATOR_GRPC_HOST, grpc)
    return Emulator(f"http://{name}:{port}", f"{grpc_name}:{grpc_port}")


def labels_of(pairs: Iterable[str]) -> dict[str, str]:
    """Parse labels written as ``name=value``.

    Raises:
        ConfigurationError: BigQuery does not allow one of the labels.
    """
    labels = {}
    for pair in pairs:
        if not _LABEL.fullmatch(pair):
            raise ConfigurationError(
                f"{pair!r} is not a label; write one like team=analytics: lower-case letters, digits, - and _, at most "
                "63 on each side."
            )
        name, _, value = pair.partition("=")
        labels[name] = value
    return labels


def check_location(location: str | None) -> None:
    """Raise ConfigurationError unless ``location`` is None or looks like a location."""
    if location is not None and not location.replace("-", "").isalnum():
        raise ConfigurationError(f"{location!r} is not a location; write one like US, EU or europe-west3.")


def _address(setting: Setting, value: str) -> tuple[str, int]:
    address = _ADDRESS.fullmatch(value.strip())
    if address is None or not 0 < int(address[2]) < 65536:
        raise ConfigurationError(f"{setting.name} is {value!r}; it must be an address such as localhost:9050.")
    return address[1], int(address[2])


def _choice(options: dict[str, str], name: str, default: str, *others: str) -> str:
    value = options.pop(name, default).lower()
    if value not in (default, *others):
        choices = " or ".join((default, *others))
        raise ConfigurationError(f"The ledger's URL says {name}={value}; it must be {choices}.")
    return value


def _number(options: dict[str, str], name: str, default: float, *, whole: bool = False) -> float:
    text = options.pop(name, None)
    if text is None:
        return default
    form = r"[0-9]{1,18}" if whole else r"[0-9]{1,18}(\.[0-9]{1,6})?"
    if not re.fullmatch(form, text) or float(text) == 0:
        number = "whole number" if whole else "number"
        raise ConfigurationError(f"The ledger's URL says {name}={text}; it must be a {number} above 0.")
    return float(text)
