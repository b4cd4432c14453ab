"""/healthz, /readyz, /metrics, /api/v1/freshness and their description; the dashboard comes later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent.vitals import Vitals
from edge_agent.vitals.metrics import CONTENT_TYPE, exposition
from edge_agent.web.openapi import document

logger = logging.getLogger(__name__)

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(vitals: Vitals, readiness: Callable[[], Mapping[str, Any]] | None = None) -> Starlette:
    """The ASGI application.

    `readiness` gives what /readyz tells, as JSON types; its key `ready` decides between 200 and 503.
    Default: `vitals.readiness`.
    """
    ready = readiness or vitals.readiness

    async def healthz(_request: Request) -> Response:
        late = vitals.watchdog.late()
        stalled = [{"stage": stage, "late_seconds": round(over, 1)} for stage, over in late.items()]
        return JSONResponse({"alive": not late, "stalled": stalled}, 503 if late else 200)

    async def readyz(_request: Request) -> Response:
        state = ready()
        return JSONResponse(dict(state), 200 if state["ready"] else 503)

    async def metrics(_request: Request) -> Response:
        return Response(exposition(vitals), media_type=None, headers={"Content-Type": CONTENT_TYPE})

    async def freshness(request: Request) -> Response:
        machine = request.query_params.get("machine")
        if machine is not None and machine not in vitals.machines:
            raise HTTPException(404, "there is no such machine")
        return JSONResponse(vitals.freshness(machine))

    async def openapi(_request: Request) -> Response:
        return JSONResponse(document(vitals.version))

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/api/v1/freshness", freshness),
            Route("/api/v1/openapi.json", openapi),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the response back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the type starlette registers this for
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    # Starlette answers this one outside of our middleware, and raises the error again for the server to log.
    logger.error("%s failed: %s", request.url.path, error)
    return JSONResponse({"error": "internal error; see the log"}, 500, headers=dict(SECURITY_HEADERS))
