"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from threadpoolctl import threadpool_limits

from app import problems
from app.api import (
    answers,
    collections,
    deletions,
    documents,
    explain,
    golden,
    health,
    indexes,
    jobs,
    learning,
    search,
    similar,
    tags,
    trees,
)
from app.api.idempotency import IdempotencyMiddleware
from app.api.middleware import GuardMiddleware, HeadMiddleware, RequestIdMiddleware
from app.places import PlacesMiddleware
from app.services import Services

BOUNDED = frozenset(
    {"/v1/search", "/v1/explain", "/v1/similar", "/v1/tags", "/v1/answer", "/v1/golden/run", "/v1/diagnose"}
)
"""What takes a place: the work that keeps a core busy."""

AREAS = (
    health,
    collections,
    documents,
    deletions,
    jobs,
    search,
    explain,
    similar,
    tags,
    answers,
    indexes,
    trees,
    golden,
    learning,
)
"""The modules whose `router` makes up the API, in the order of the pages of its description."""

DESCRIPTION = "Answers over your own documents, with a checked footnote on every sentence."


def create_app(services: Services, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application over services that the caller opened and will close.

    It answers to these host names and to addresses; to any name when there are none.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.encoders.get(services.encoder_spec())  # the first request must not wait for the model
        services.indexes.warm()
        # Requests are what runs side by side. A product of small matrices gains no time from a second thread,
        # and its waiting took as much of the processor as the work: 57 ms a search in place of 31.
        with threadpool_limits(1, user_api="blas"):
            yield

    app = FastAPI(
        title="Footnote",
        version=version("footnote"),
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=problems.RESPONSES,
    )
    app.state.services = services
    app.add_middleware(HeadMiddleware)
    app.add_middleware(PlacesMiddleware, places=services.places, paths=BOUNDED)
    keep = timedelta(hours=services.settings.server.idempotency_hours)
    app.add_middleware(IdempotencyMiddleware, services=services, keep=keep, exempt=BOUNDED)
    app.add_middleware(GuardMiddleware, hosts=hosts)
    app.add_middleware(RequestIdMiddleware, registry=services.registry)
    problems.install(app)
    for area in AREAS:
        app.include_router(area.router)

    page = (Path(__file__).parent / "api" / "page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def web_page() -> str:
        return page

    return app
