"""The server's paths: ``/predict``, what can be asked about the model, and the page."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from thaw.exports.exported import Exported
from thaw.images.integrity import Unusable
from thaw.serving import answers, monitoring, page, uploads
from thaw.serving.batches import Batches
from thaw.serving.uploads import RefusedError

MOST_RUNNING = 512  # requests to /predict under way; another one is told to come again
# By the kind of ``Unusable``; all others are images that are damaged.
STATUS = {"too_large": 413, "not_an_image": 415, "unsupported": 415, "empty": 400}
DAMAGED = 422
REMEDIES = {
    413: "send a smaller image",
    415: "send a JPEG, PNG, GIF, BMP, WebP or TIFF",
    400: "send the file's bytes",
    DAMAGED: "save the image anew",
}
FULL = "expected memory for the image, received too little; send a smaller image"
LOG = logging.getLogger("uvicorn.error")  # where the server's other faults are
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    request_bytes: int
    image_pixels: int  # width × height


@dataclass
class Server:
    """A model with what serves it."""

    model: Exported
    limits: Limits
    figures: monitoring.Figures
    batches: Batches
    room: uploads.Room
    running: int = 0


def build(model: Exported, limits: Limits) -> FastAPI:
    """Return the application that answers for a model."""
    server = Server(
        model,
        limits,
        monitoring.Figures(model.classes),
        Batches(model, limits.image_pixels),
        uploads.Room(uploads.BODIES * limits.request_bytes),
    )

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.batches.end()

    # Its page of documentation would fetch scripts from elsewhere.
    app = FastAPI(title="Thaw", docs_url=None, redoc_url=None, lifespan=running, redirect_slashes=False)
    _add_paths(app, server)
    _add_errors(app)
    app.add_middleware(_HeadAsGet)
    app.add_middleware(monitoring.Counted, figures=server.figures, known=[route.path for route in app.routes])  # type: ignore[attr-defined]
    return app


class _HeadAsGet:
    """The application, whose HEAD is a GET: what watches servers asks so. The web server sends no body then."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        await self.app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)


def _add_paths(app: FastAPI, server: Server) -> None:
    html, policy = page.of_server(server.model.classes)

    @app.post(
        "/predict",
        summary="Label and probabilities of one image or of many",
        openapi_extra=uploads.DESCRIBED,
        responses=uploads.REFUSALS,
    )
    async def predict(request: Request, top: str = "") -> Response:
        start = time.perf_counter()
        with server.figures.running.track_inprogress():
            try:
                return _json(await _predict(server, request, top))
            finally:
                server.figures.seconds.observe(time.perf_counter() - start)

    @app.get("/health", summary="Whether the model answers")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/labels", summary="The classes in the order of the probabilities")
    async def labels() -> Response:
        return _json({"classes": server.model.classes})

    @app.get("/card", summary="What the model says of itself: classes, input, provenance; and the limits here")
    async def card() -> Response:
        limits = {"request_bytes": server.limits.request_bytes, "image_pixels": server.limits.image_pixels}
        return _json({**server.model.about, "serving": limits | {"images": uploads.MOST_IMAGES}})

    @app.get("/metrics", summary="Counters and times for Prometheus")
    async def metrics() -> Response:
        return Response(server.figures.text(), media_type=monitoring.TYPE, headers=HEADERS)

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        return Response(html, media_type="text/html", headers=HEADERS | {"Content-Security-Policy": policy})


async def _predict(server: Server, request: Request, top: str) -> dict[str, Any]:
    if top and not (top.isdecimal() and len(top) < 10 and int(top) > 0):
        raise RefusedError(
            400, f"expected a number of classes from 1 on as top, received {top:.40}; leave it out for all"
        )
    count = int(top) if top else None
    size = uploads.declared(request, server.limits.request_bytes)
    if server.running >= MOST_RUNNING:
        raise RefusedError(
            503, f"expected {MOST_RUNNING} requests at most at once, received one more; send it again later"
        )
    held = min(size, server.limits.request_bytes)
    server.running += 1
    try:
        try:
            async with asyncio.timeout(uploads.BODY_SECONDS):
                await server.room.take(held)
        except TimeoutError:
            raise RefusedError(
                503, "expected room for the body, received too many at once; send it again later"
            ) from None
        try:
            given = await uploads.images(request, server.limits.request_bytes)
            if given.single:
                return await _answered(server, given.uploads[0], count)
            found = await asyncio.gather(*(_entry(server, each, count) for each in given.uploads))
        finally:
            await server.room.give_back(held)
    finally:
        server.running -= 1
    if all("error" in each for each in found):
        raise RefusedError(found[0]["status"], f"{found[0]['name']}: {found[0]['error']}")
    return {"predictions": found}


async def _entry(server: Server, upload: uploads.Upload, count: int | None) -> dict[str, Any]:
    try:
        return {"name": upload.name} | await _answered(server, upload, count)
    except RefusedError as refused:
        return {"name": upload.name, "error": str(refused), "status": refused.status}
    except MemoryError:
        return {"name": upload.name, "error": FULL, "status": 413}
    except Exception as error:  # of this image; the others of the request are answered
        LOG.exception("an image of a request failed")
        return {"name": upload.name, "error": _fault(error), "status": 500}


async def _answered(server: Server, upload: uploads.Upload, count: int | None) -> dict[str, Any]:
    """Return label and probabilities of an image, and how unlike the training images it is where the model knows that.

    Raises:
        RefusedError: it is no image, or one that can't be used.
    """
    if upload.refused:
        server.figures.refused.labels("no_base64").inc()
        raise upload.refused
    try:
        with server.figures.model_seconds.time():
            answer = await server.batches.answer(upload.data)
    except Unusable as refused:
        server.figures.refused.labels(refused.kind).inc()
        status, kind = STATUS.get(refused.kind, DAMAGED), refused.kind.replace("_", " ")
        raise RefusedError(
            status, f"expected an image, received one of kind {kind}: {refused.reason}; {REMEDIES[status]}"
        ) from None
    except Exception:
        server.figures.refused.labels("server_error").inc()
        raise
    told = answers.told(server.model.classes, answer, count)
    server.figures.answers.labels(told["label"]).inc()
    if told.get("unfamiliar"):
        server.figures.unfamiliar.inc()
    return told


def _add_errors(app: FastAPI) -> None:
    """Say every error in one line of JSON."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return _json({"error": str(error)}, error.status)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return _json({"error": "expected a whole body, received a part of it; send it again"}, 400)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            said = f"expected {allowed} for {request.url.path}, received {request.method}; change the method"
            return _json({"error": said}, error.status_code, error.headers)
        paths = "/predict, /health, /labels, /card, /metrics or /"
        return _json(
            {"error": f"expected {paths}, received {request.url.path:.200}; change the path"}, error.status_code
        )

    @app.exception_handler(MemoryError)
    async def full(_: Request, __: MemoryError) -> Response:
        return _json({"error": FULL}, 413)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        return _json({"error": _fault(error)}, 500)


def _fault(error: Exception) -> str:
    return f"expected an answer, received an error of the server ({type(error).__name__}); see its log"


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, separators=(", ", ": "), default=str) + "\n"
    # What comes from a request may hold half of a character.
    return Response(text.encode("utf-8", "replace"), status, HEADERS | dict(headers or {}), "application/json")
