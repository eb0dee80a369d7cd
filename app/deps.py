"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.services import Services


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
