"""What routes are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from app.services import Services


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


def take_place(services: ServicesDep) -> Iterator[None]:
    """Holds one of the service's places while the route runs; raises Overloaded when the queue is full."""
    with services.places.place():
        yield


PlaceDep = Annotated[None, Depends(take_place)]
