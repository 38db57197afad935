"""The gRPC side of the proxy: passes bytes on, whatever the method, and takes AppendRows message by message."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2

BEFORE = {
    "unavailable": (grpc.StatusCode.UNAVAILABLE, "The service is currently unavailable."),
    "quota": (grpc.StatusCode.RESOURCE_EXHAUSTED, "Exceeds quota."),
    "internal": (grpc.StatusCode.INTERNAL, "Internal error encountered."),
    "too_large": (grpc.StatusCode.INVALID_ARGUMENT, "Request payload size exceeds the limit: 10485760 bytes."),
    "reset_before": (
        grpc.StatusCode.ABORTED,
        "Closing the stream because server is restarted. This is expected and client is advised to reconnect.",
    ),
}
LOST = (grpc.StatusCode.UNAVAILABLE, "recvmsg:Connection reset by peer")
IN_RESPONSE = {
    "error_in_response": BEFORE["unavailable"],
    "quota_in_response": BEFORE["quota"],
    "refused_in_response": (grpc.StatusCode.INVALID_ARGUMENT, "The rows cannot be read."),
}

Forward = Callable[[bytes], bytes]


class Refused(Exception):
    """Ends a call with this code and message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Between:
    """What lies between the clients and the emulator. This one forwards everything."""

    def call(self, name: str, request: bytes, forward: Forward) -> bytes:
        """Answer a call of a unary method, or raise Refused."""
        return forward(request)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[bytes, Forward], bytes]]:
        """For an AppendRows stream, what answers each of its messages, or raises Refused."""
        yield lambda request, forward: forward(request)


class _Over(Exception):
    """The emulator has ended the stream."""


OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CONNECTIONS = 64  # an open AppendRows stream holds a thread


def _in_response(kind: str) -> bytes:
    code, message = IN_RESPONSE[kind]
    return types.AppendRowsResponse.serialize({"error": status_pb2.Status(code=code.value[0], message=message)})


def without_rows(request: bytes) -> bytes:
    """What the service remembers of a request that it has refused: the stream and the schema."""
    message = types.AppendRowsRequest.pb(types.AppendRowsRequest.deserialize(request))
    message.ClearField("offset")
    getattr(message, message.WhichOneof("rows")).ClearField("rows")
    return message.SerializeToString()


def remembering(refused: bytes, request: bytes) -> bytes:
    """A request with the stream and the schema of one refused before it, unless it has its own."""
    message = types.AppendRowsRequest.pb(types.AppendRowsRequest.deserialize(request))
    own = getattr(message, message.WhichOneof("rows")).HasField("writer_schema")
    return request if own else refused + request  # two messages end to end are the two merged


def _metadata(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in context.invocation_metadata() if key != "user-agent"]


def _fail_as(error: Any, context: grpc.ServicerContext) -> NoReturn:
    context.set_trailing_metadata(error.trailing_metadata() or ())
    context.abort(error.code(), error.details())


class _Handler(grpc.GenericRpcHandler):
    """Serves any method; without serializers, grpc hands over the bytes as they came."""

    def __init__(
        self,
        upstream: grpc.Channel,
        admit: Callable[[str], str | None],
        count: Callable[[str], None],
        between: Between,
    ) -> None:
        self._upstream, self._admit, self._count, self._between = upstream, admit, count, between

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        name = details.method.rpartition("/")[2]
        if name == "AppendRows":
            return grpc.stream_stream_rpc_method_handler(self._append_rows(details.method))
        if name == "ReadRows":
            return grpc.unary_stream_rpc_method_handler(self._stream(name, details.method))
        return grpc.unary_unary_rpc_method_handler(self._unary(name, details.method))

    def _unary(self, name: str, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        call = self._upstream.unary_unary(method)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            kind = self._admit(name)
            if kind in BEFORE:
                context.abort(*BEFORE[kind])
            try:
                answer = self._between.call(name, request, lambda body: call(body, metadata=_metadata(context)))
            except Refused as refused:
                context.abort(refused.code, refused.message)
            except grpc.RpcError as error:
                _fail_as(error, context)
            if kind == "lost_answer":
                context.abort(*LOST)
            return answer

        return handle

    def _stream(self, name: str, method: str) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        call = self._upstream.unary_stream(method)

        def handle(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            kind = self._admit(name)
            if kind in BEFORE:
                context.abort(*BEFORE[kind])
            answers = call(request, metadata=_metadata(context))
            try:
                for answer in answers:
                    if kind == "lost_answer":
                        break
                    yield answer
            except grpc.RpcError as error:
                _fail_as(error, context)
            finally:
                answers.cancel()
            if kind == "lost_answer":
                context.abort(*LOST)

        return handle

    def _append_rows(self, method: str) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        call = self._upstream.stream_stream(method)

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            self._count("AppendRows connection")
            stack = contextlib.ExitStack()
            forwarded: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            answers, refused = None, b""

            def forward(body: bytes) -> bytes:
                nonlocal answers
                # The first request is queued before the call begins, which would otherwise wait for it.
                forwarded.put(body)
                answers = answers or call(iter(forwarded.get, None), metadata=_metadata(context))
                try:
                    answer = next(answers, None)
                except grpc.RpcError as error:
                    _fail_as(error, context)
                if answer is None:
                    raise _Over
                return answer

            try:
                connection = stack.enter_context(self._between.connection())
                for request in requests:
                    kind = self._admit("AppendRows")
                    if kind == "close":
                        return
                    if kind in BEFORE:
                        context.abort(*BEFORE[kind])
                    if refused:  # it may have been the first, which alone has the schema
                        request, refused = remembering(refused, request), b""
                    if kind in IN_RESPONSE:
                        refused = without_rows(request)
                        yield _in_response(kind)
                        continue
                    answer = connection(request, forward)
                    if kind == "lost_answer":
                        context.abort(*LOST)
                    yield answer
            except _Over:
                return
            except Refused as error:
                context.abort(error.code, error.message)
            finally:
                stack.close()
                forwarded.put(None)
                if answers is not None:
                    answers.cancel()

        return handle


@contextlib.contextmanager
def serve(
    upstream: str,
    admit: Callable[[str], str | None],
    count: Callable[[str], None],
    port: int = 0,
    between: Between | None = None,
) -> Iterator[str]:
    """Forward to the emulator at this address, and yield the proxy's own.

    Args:
        upstream: host:port
        admit: Called once for each request, and each message of AppendRows; the kind of fault it gets.
        count: Called once for each AppendRows stream.
        port: The proxy's own; 0 for any.
        between: Answers each request that was admitted.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool, grpc.insecure_channel(upstream, OPTIONS) as channel:
        server = grpc.server(pool, [_Handler(channel, admit, count, between or Between())], options=OPTIONS)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
