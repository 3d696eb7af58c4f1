"""HTTP servers in the process's own event loop: the operators' endpoint, and a service's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from anabranch_observability import CONTENT_TYPE, exposition

__all__ = ["HttpServer", "operators_app"]

_STOP_SECONDS = 3


class HttpServer:
    """An ASGI app on `listen` ("host:port"). Signals stay the process's affair."""

    def __init__(self, app: ASGIApp, *, listen: str) -> None:
        """Opens nothing."""
        self._listen = listen
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Bind and serve. Raises OSError with a sentence when the address cannot be had."""
        host, _, port = self._listen.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), int(port)))
        except OSError as error:
            listener.close()
            raise OSError(f"cannot listen on {self._listen}: {error.strerror}") from error
        self.address = f"{host}:{listener.getsockname()[1]}"
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"http {self.address}")
        await self._server.serving.wait()

    async def stop(self) -> None:
        """Finish what is being answered, three seconds at most, and close. Idempotent."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM drains the whole process, in its order; uvicorn takes no part in it."""
        yield


def operators_app(unready: Callable[[], list[str]], *, max_lag: Callable[[], float]) -> Starlette:
    """`/livez`, `/readyz`, `/metrics`.

    Alive means that the event loop answers; the health of dependencies is no part of it, and only shows in `/readyz`.
    """

    async def livez(_request: Request) -> Response:
        return JSONResponse({"alive": True, "loop_lag_max_seconds": round(max_lag(), 4)})

    async def readyz(_request: Request) -> Response:
        reasons = unready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(_request: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])
