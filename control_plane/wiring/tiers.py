"""Tiers and what they allow."""

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.tiers.quota import Quota
from control_plane.tiers.repository import TierRepository
from control_plane.tiers.service import TierService
from control_plane.wiring.resources import Resources


def provide_tiers(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> TierService:
    return TierService(session=session, tiers=TierRepository(session), limits=resources.limits_invalidator)


def provide_quota(session: NamedDependency[AsyncSession]) -> Quota:
    return Quota(TierRepository(session))
