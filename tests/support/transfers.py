"""A small stand-in for BigQuery's Data Transfer Service, which Google's real client asks over gRPC.

It keeps the scheduled queries of projects and locations, and refuses what the service is documented to refuse.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.cloud.bigquery_datatransfer import DataTransferServiceClient
from google.cloud.bigquery_datatransfer_v1.services.data_transfer_service.transports import (
    DataTransferServiceGrpcTransport,
)
from google.cloud.bigquery_datatransfer_v1.types import datatransfer, transfer
from google.protobuf import empty_pb2

SERVICE = "google.cloud.bigquery.datatransfer.v1.DataTransferService"
PARENT = re.compile(r"projects/[^/]+/locations/[a-z0-9-]+")
PAGE = 2


class TransferService:
    """The schedules that are there, by name, and the requests in the order in which they came.

    Attributes:
        failing: Called with the name of each method; may raise ``Refusal``.
    """

    def __init__(self) -> None:
        self.configs: dict[str, transfer.TransferConfig] = {}
        self.asked: list[str] = []
        self.accounts: dict[str, str] = {}
        self.failing: Callable[[str], object] = lambda method: None
        self._numbers = itertools.count(1)

    def add(self, parent: str, **parts: Any) -> str:
        """Add a schedule that somebody made; return its name."""
        name = f"{parent}/transferConfigs/{next(self._numbers)}"
        updated_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=len(self.configs))
        usual = {"name": name, "data_source_id": "scheduled_query", "update_time": updated_at}
        self.configs[name] = transfer.TransferConfig(**{**usual, **parts})
        return name

    def list_transfer_configs(self, request: datatransfer.ListTransferConfigsRequest) -> Any:
        """A page of the schedules of a location."""
        self._check(PARENT.fullmatch(request.parent), grpc.StatusCode.INVALID_ARGUMENT, "parent")
        found = [
            config
            for name, config in sorted(self.configs.items())
            if name.startswith(f"{request.parent}/") and config.data_source_id in request.data_source_ids
        ]
        start = int(request.page_token or 0)
        more = str(start + PAGE) if len(found) > start + PAGE else ""
        return datatransfer.ListTransferConfigsResponse(
            transfer_configs=found[start : start + PAGE], next_page_token=more
        )

    def create_transfer_config(self, request: datatransfer.CreateTransferConfigRequest) -> transfer.TransferConfig:
        """A new schedule; the service gives it its name."""
        config = request.transfer_config
        self._check(PARENT.fullmatch(request.parent), grpc.StatusCode.INVALID_ARGUMENT, "parent")
        self._check(config.data_source_id == "scheduled_query", grpc.StatusCode.INVALID_ARGUMENT, "data source")
        self._check(config.params.get("query"), grpc.StatusCode.INVALID_ARGUMENT, "query")
        self._check(config.schedule, grpc.StatusCode.INVALID_ARGUMENT, "schedule")
        parts = {"display_name": config.display_name, "schedule": config.schedule, "params": dict(config.params)}
        name = self.add(request.parent, **parts)
        self.accounts[name] = request.service_account_name
        return self.configs[name]

    def update_transfer_config(self, request: datatransfer.UpdateTransferConfigRequest) -> transfer.TransferConfig:
        """Change the parts that the mask names, and no others."""
        changed = self._named(request.transfer_config.name)
        for path in request.update_mask.paths:
            if path == "service_account_name":
                self.accounts[changed.name] = request.service_account_name
            else:
                setattr(changed, path, getattr(request.transfer_config, path))
        return changed

    def delete_transfer_config(self, request: datatransfer.DeleteTransferConfigRequest) -> Any:
        """Remove a schedule."""
        del self.configs[self._named(request.name).name]
        return empty_pb2.Empty()

    def _named(self, name: str) -> transfer.TransferConfig:
        self._check(name in self.configs, grpc.StatusCode.NOT_FOUND, f"Requested entity was not found: {name}")
        return self.configs[name]

    def _check(self, holds: object, code: grpc.StatusCode, detail: str) -> None:
        if not holds:
            raise Refusal(code, detail)


class Refusal(Exception):
    """What the service answers in place of a result."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


_METHODS: dict[str, tuple[Any, Any]] = {
    "ListTransferConfigs": (
        datatransfer.ListTransferConfigsRequest,
        datatransfer.ListTransferConfigsResponse,
    ),
    "CreateTransferConfig": (datatransfer.CreateTransferConfigRequest, transfer.TransferConfig),
    "UpdateTransferConfig": (datatransfer.UpdateTransferConfigRequest, transfer.TransferConfig),
    "DeleteTransferConfig": (datatransfer.DeleteTransferConfigRequest, None),
}


@contextmanager
def served(service: TransferService) -> Iterator[Callable[[], DataTransferServiceClient]]:
    """Serve the stand-in over gRPC for a block, and yield a function that connects Google's client to it."""
    handlers = {name: _handler(service, name, *types) for name, types in _METHODS.items()}
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()

        def connect() -> DataTransferServiceClient:
            channel = grpc.insecure_channel(f"127.0.0.1:{port}")
            return DataTransferServiceClient(transport=DataTransferServiceGrpcTransport(channel=channel))

        try:
            yield connect
        finally:
            server.stop(None).wait()


def _handler(service: TransferService, name: str, request: Any, response: Any) -> Any:
    method = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()

    def answer(asked: Any, context: grpc.ServicerContext) -> Any:
        service.asked.append(name)
        try:
            service.failing(name)
            return getattr(service, method)(asked)
        except Refusal as refusal:
            context.abort(refusal.code, str(refusal))

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.deserialize,
        response_serializer=response.serialize if response else empty_pb2.Empty.SerializeToString,
    )
