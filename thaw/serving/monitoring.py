"""What a server counts and times, for Prometheus: requests, images, labels, seconds."""

from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Seconds. A small network answers within a millisecond, a large photograph is decoded in a fifth of a second.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Figures:
    """The figures of one server."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("thaw_requests", "Requests answered", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "thaw_request_seconds",
            "Seconds from a request's head to its answer, /predict only",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "thaw_image_seconds",
            "Seconds to decode an image and to run the model",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("thaw_requests_running", "Requests to /predict under way", registry=self.registry)
        self.answers = Counter("thaw_answers", "Images by the label given", ["label"], registry=self.registry)
        self.refused = Counter(
            "thaw_images_refused", "Images without an answer, by why", ["why"], registry=self.registry
        )
        self.unfamiliar = Counter(
            "thaw_unfamiliar", "Images answered that are unlike the training images", registry=self.registry
        )
        for name in classes:
            self.answers.labels(name)

    def text(self) -> bytes:
        """Return all of them as Prometheus reads it."""
        return generate_latest(self.registry)


class Counted:
    """The application, with its answers counted by path and status."""

    def __init__(self, app: ASGIApp, figures: Figures, known: Collection[str]) -> None:
        self.app, self.figures, self.known = app, figures, frozenset(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.known else "other"  # or anybody could make names

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.figures.requests.labels(path, message["status"]).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except Exception:
            self.figures.requests.labels(path, 500).inc()  # which is answered outside of what is counted here
            raise
