"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.services import Services


async def services_of(request: Request) -> Services:
    """A coroutine, since FastAPI runs a plain function in a thread."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
