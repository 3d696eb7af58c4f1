"""Wraps every method once, at start: what an interceptor would do on each call, without an interceptor's cost."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import grpc

from anabranch_rpc.calls import Call, Context, Method, Policy

__all__ = ["wrap"]


def wrap(name: str, handler: grpc.RpcMethodHandler[Any, Any], policy: Policy) -> grpc.RpcMethodHandler[Any, Any]:
    """The same method under `policy`. Raises TypeError for a handler that is not async."""
    streams_in, streams_out = handler.request_streaming, handler.response_streaming
    behavior = _behavior(handler)
    deserialize = handler.request_deserializer or bytes
    method = Method(name, behavior, deserialize, policy)
    if not (inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)):
        raise TypeError(f"{name}: a handler is `async def`; {behavior!r} would block the event loop")
    serializer = handler.response_serializer
    if streams_in and streams_out:
        return grpc.stream_stream_rpc_method_handler(_stream(method, streams_in=True), None, serializer)
    if streams_in:
        return grpc.stream_unary_rpc_method_handler(_unary(method, streams_in=True), None, serializer)
    if streams_out:
        return grpc.unary_stream_rpc_method_handler(_stream(method, streams_in=False), None, serializer)
    return grpc.unary_unary_rpc_method_handler(_unary(method, streams_in=False), None, serializer)


def _behavior(handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        behavior = getattr(handler, kind)
        if behavior is not None:
            return behavior
    raise TypeError("a method handler without a method")


def _unary(method: Method, *, streams_in: bool) -> Any:
    async def answer(raw: Any, context: Context) -> Any:
        call = Call(method, context)
        try:
            await call.open()
            return await method.handler(_parsed(call, raw) if streams_in else call.parse(raw), context)
        except BaseException as error:  # noqa: BLE001  every way out of a handler becomes a status
            await call.fail(error)
        finally:
            call.close()

    return answer


def _stream(method: Method, *, streams_in: bool) -> Any:
    generator = inspect.isasyncgenfunction(method.handler)

    async def answer(raw: Any, context: Context) -> None:
        call = Call(method, context)
        try:
            await call.open()
            request = _parsed(call, raw) if streams_in else call.parse(raw)
            if not generator:
                await method.handler(request, _Writing(call, context))
                return
            responses = method.handler(request, context)
            try:
                async for response in responses:
                    await call.write(response)
            finally:
                # Its `finally` blocks run now, not when the garbage collector finds it.
                await responses.aclose()
        except BaseException as error:  # noqa: BLE001  every way out of a handler becomes a status
            await call.fail(error)
        finally:
            call.close()

    return answer


class _Writing:
    """A handler's context whose `write` is the call's own."""

    def __init__(self, call: Call, context: Context) -> None:
        self.write = call.write
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _parsed(call: Call, raw: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for message in raw:
        yield call.parse(message)
