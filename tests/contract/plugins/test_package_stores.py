"""What every package store promises, of a directory and of a real S3 server."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.local.ports import free_port
from shared.errors import PluginLoadFailed, StoreUnavailable
from shared.ids import new_id
from shared.packages import PackageStore, digest_of, package_key
from shared.packages.opening import open_store
from shared.packages.s3 import S3Store
from shared.settings import PackageStoreSettings

DATA = b"PK\x03\x04 a package"
NOWHERE = PackageStoreSettings(
    storage_root=None,
    s3_bucket_name=None,
    s3_endpoint_url=None,
    s3_region="us-east-1",
    s3_access_key_id=None,
    s3_secret_access_key=None,
)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.xdist_group("s3"))])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> PackageStoreSettings:
    if request.param == "directory":
        return msgspec.structs.replace(NOWHERE, storage_root=tmp_path / "packages")
    endpoint: Any = request.getfixturevalue("s3_endpoint")
    return msgspec.structs.replace(
        NOWHERE,
        s3_bucket_name=endpoint.bucket,
        s3_endpoint_url=endpoint.url,
        s3_region=endpoint.region,
        s3_access_key_id=endpoint.access_key_id,
        s3_secret_access_key=endpoint.secret_access_key,
    )


@pytest.fixture
async def store(settings: PackageStoreSettings) -> AsyncIterator[PackageStore]:
    store = open_store(settings)
    yield store
    await store.close()


@pytest.fixture
def key() -> str:
    return package_key(new_id(), "com.acme.weather", "1.0.0+local-1")


async def test_what_is_put_comes_back(store: PackageStore, key: str) -> None:
    await store.put(key, DATA)

    assert await store.get(key, digest=digest_of(DATA)) == DATA


async def test_putting_again_replaces(store: PackageStore, key: str) -> None:
    await store.put(key, b"older")
    await store.put(key, DATA)

    assert await store.get(key, digest=digest_of(DATA)) == DATA


async def test_a_package_of_many_mebibytes_comes_back_and_is_replaced_as_a_whole(store: PackageStore, key: str) -> None:
    """Above 8 MiB an S3 object is written in parts."""
    large, larger = os.urandom(17 * 1024**2), os.urandom(25 * 1024**2)

    for data in (large, DATA, large, larger):
        await store.put(key, data)
        assert await store.get(key, digest=digest_of(data)) == data


async def test_bytes_that_are_not_of_the_expected_digest_are_never_handed_out(store: PackageStore, key: str) -> None:
    await store.put(key, b"tampered with")

    with pytest.raises(PluginLoadFailed, match="not the one that was uploaded"):
        await store.get(key, digest=digest_of(DATA))


async def test_what_is_not_there_is_said_to_be_missing(store: PackageStore, key: str) -> None:
    with pytest.raises(PluginLoadFailed, match="missing"):
        await store.get(key, digest=digest_of(DATA))


async def test_deleting_removes_and_may_be_repeated(store: PackageStore, key: str) -> None:
    other = key.replace("1.0.0", "2.0.0")
    for stored in (key, other):
        await store.put(stored, DATA)

    for _ in range(2):
        await store.delete(key)

    with pytest.raises(PluginLoadFailed):
        await store.get(key, digest=digest_of(DATA))
    assert await store.get(other, digest=digest_of(DATA)) == DATA


async def test_a_store_that_works_says_so(store: PackageStore) -> None:
    await store.check()


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd", "a//b", "", ".hidden", "a/b\x00"])
async def test_a_key_never_leaves_the_directory(tmp_path: Path, key: str) -> None:
    store = open_store(msgspec.structs.replace(NOWHERE, storage_root=tmp_path / "packages"))

    with pytest.raises(ValueError, match="not a key"):
        await store.put(key, DATA)
    assert not list(tmp_path.rglob("*"))


async def test_a_directory_holds_whole_packages_only(tmp_path: Path) -> None:
    store = open_store(msgspec.structs.replace(NOWHERE, storage_root=tmp_path))
    await store.put("a/plugin.zip", DATA)

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["plugin.zip"]


async def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_living_ones_stays(tmp_path: Path) -> None:
    store = open_store(msgspec.structs.replace(NOWHERE, storage_root=tmp_path))
    (tmp_path / "a").mkdir()
    forgotten, written_now = tmp_path / "a" / ".put-forgotten", tmp_path / "a" / ".put-now"
    for file in (forgotten, written_now):
        file.write_bytes(b"half of a pack")
    os.utime(forgotten, (0, 0))

    await store.put("a/plugin.zip", DATA)

    assert (forgotten.exists(), written_now.exists()) == (False, True)


@pytest.mark.parametrize("kind", ["directory", "s3", pytest.param("wrong key", marks=pytest.mark.xdist_group("s3"))])
async def test_a_store_that_is_away_is_unavailable_and_nothing_else(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "directory":
        (tmp_path / "file").write_text("not a directory")
        settings = msgspec.structs.replace(NOWHERE, storage_root=tmp_path / "file" / "packages")
    else:
        keys = {"s3_access_key_id": "a", "s3_secret_access_key": "b"}
        url = f"http://127.0.0.1:{free_port()}"
        if kind == "wrong key":
            endpoint: Any = request.getfixturevalue("s3_endpoint")
            url = endpoint.url
            keys["s3_access_key_id"] = endpoint.access_key_id
        settings = msgspec.structs.replace(NOWHERE, s3_bucket_name="absent", s3_endpoint_url=url, **keys)
    store = open_store(settings)

    with pytest.raises(StoreUnavailable):
        await store.put("a/plugin.zip", DATA)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()


async def test_the_same_bytes_put_at_once_by_two_are_there_once(store: PackageStore, key: str) -> None:
    await asyncio.gather(*(store.put(key, DATA) for _ in range(5)))

    assert await store.get(key, digest=digest_of(DATA)) == DATA


@pytest.mark.parametrize("data", [DATA, bytes(9 * 1024**2)], ids=["whole", "in parts"])
async def test_an_object_that_was_replaced_in_between_is_not_overwritten_unseen(
    s3_endpoint: Any, key: str, data: bytes
) -> None:
    """What the server itself says to a write that expects something else."""
    settings = msgspec.structs.replace(
        NOWHERE,
        s3_bucket_name=s3_endpoint.bucket,
        s3_endpoint_url=s3_endpoint.url,
        s3_access_key_id=s3_endpoint.access_key_id,
        s3_secret_access_key=s3_endpoint.secret_access_key,
    )
    store = S3Store(settings)
    await store.put(key, b"first")

    async with store._errors(key) as client:
        new = await store._stored(client, key, data, digest_of(data), {"IfNoneMatch": "*"})
        other = await store._stored(client, key, data, digest_of(data), {"IfMatch": '"0123"'})
        unfinished = (await client.list_multipart_uploads(Bucket=s3_endpoint.bucket)).get("Uploads", [])

    assert (new, other) == (False, False)
    assert [upload["Key"] for upload in unfinished if upload["Key"] == key] == []
    assert await store.get(key, digest=digest_of(b"first")) == b"first"
    await store.close()
