"""The logo of a plugin: who sees it, and which pictures are taken."""

import struct
from typing import Any

import pytest

from tests.fakes.plugin_packages import package, plugin_source, zipped
from tests.integration.control_plane.callers import Caller, World
from tests.integration.plugins.uploads import ADMIN, codes, plugins_of, upload


def png(width: int = 64, height: int = 64, size: int = 200) -> bytes:
    """The beginning of a picture, which is all that is looked at."""
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)).ljust(size, b"\0")


def with_logo(logo: bytes, **options: Any) -> bytes:
    return zipped({"calc/plugin.py": plugin_source(**options), "calc/logo.png": logo})


async def test_a_logo_is_shown_to_whoever_sees_the_plugin_and_to_nobody_else(world: World, root: Caller) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    logo = png()
    own = await upload(tenant.admin, plugins_of(tenant), with_logo(logo))
    system = await upload(root, ADMIN, with_logo(logo, pid="com.system.time"))
    without = await upload(tenant.admin, plugins_of(tenant), package(pid="com.acme.plain"))

    shown = await tenant.admin.get(own["logo_url"])

    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, logo, "image/png")
    assert (shown.headers["x-content-type-options"], shown.headers["cache-control"][:7]) == ("nosniff", "private")
    assert "sandbox" in shown.headers["content-security-policy"]
    again = await tenant.admin.call("GET", own["logo_url"], headers={"If-None-Match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    # A system plugin has a logo for everybody, at a place that each may reach.
    listed = {row["pid"]: row for row in (await other.admin.get(plugins_of(other))).json()["items"]}
    assert listed["com.system.time"]["logo_url"] == f"{plugins_of(other)}/{system['id']}/logo"
    assert (await other.admin.get(listed["com.system.time"]["logo_url"])).content == logo
    assert (await root.get(system["logo_url"])).content == logo
    # Another organization's is not there, whichever way it is asked for.
    assert (await other.admin.get(own["logo_url"])).status_code in (403, 404)
    assert (await other.admin.get(f"{plugins_of(other)}/{own['id']}/logo")).status_code == 404
    assert without["logo_url"] is None
    assert (await tenant.admin.get(f"{plugins_of(tenant)}/{without['id']}/logo")).status_code == 404


@pytest.mark.parametrize(
    ("logo", "code"),
    [
        (b"<svg onload='alert(1)'/>", "not_a_png"),
        (b"<html>".ljust(100), "not_a_png"),
        (png(width=100_000), "too_large"),
        (png(height=0), "too_large"),
        (png(size=256 * 1024 + 1), "too_large"),
    ],
)
async def test_a_logo_that_is_no_small_picture_is_refused(world: World, logo: bytes, code: str) -> None:
    tenant = await world.tenant()

    problem = await upload(tenant.admin, plugins_of(tenant), with_logo(logo), 422)

    assert codes(problem) == {("logo.png", code)}
