"""Packages in a bucket of S3 or anything that speaks it. aiobotocore is slow to import, so that waits for first use."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from shared.errors import PluginLoadFailed, StoreUnavailable
from shared.packages import digest_of
from shared.packages.s3_parts import PART_BYTES, put_in_parts
from shared.settings import PackageStoreSettings

CONNECT_SECONDS = 3
READ_SECONDS = 20
ATTEMPTS = 3

_NOT_MET = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("NoSuchKey", "404", "NotFound")


class S3Store:
    """One client for the life of the process; it holds its own connections."""

    def __init__(self, settings: PackageStoreSettings) -> None:
        if settings.s3_bucket_name is None:
            raise ValueError("an S3 store needs a bucket name")
        self._bucket = settings.s3_bucket_name
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def put(self, key: str, data: bytes) -> None:
        """Every write says what it expects to find, nothing or exactly the object it replaces, so that of two writers
        one is told and none is overwritten unseen. The server compares what it got with the digest.
        """
        digest = await asyncio.to_thread(digest_of, data)
        async with self._errors(key) as client:
            condition: dict[str, str] = {"IfNoneMatch": "*"}
            for _ in range(ATTEMPTS):
                if await self._stored(client, key, data, digest, condition):
                    return
                # Something is there: what a crash left behind, or an upload that ended a moment ago.
                found = await client.head_object(Bucket=self._bucket, Key=key)
                if found.get("Metadata", {}).get("sha256") == digest:
                    return
                condition = {"IfMatch": found["ETag"]}
        raise StoreUnavailable(f"the package {key} is being written by somebody else")

    async def _stored(self, client: Any, key: str, data: bytes, digest: str, condition: dict[str, str]) -> bool:
        """False when the condition does not hold."""
        from botocore.exceptions import ClientError

        try:
            if len(data) > PART_BYTES:
                await put_in_parts(client, bucket=self._bucket, key=key, data=data, digest=digest, condition=condition)
                return True
            await client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                ContentType="application/zip",
                ChecksumSHA256=base64.b64encode(binascii.unhexlify(digest)).decode(),
                Metadata={"sha256": digest},
                **condition,
            )
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) in _NOT_MET:
                return False
            raise
        return True

    async def get(self, key: str, *, digest: str) -> bytes:
        async with self._errors(key) as client:
            answer = await client.get_object(Bucket=self._bucket, Key=key)
            async with answer["Body"] as body:
                data: bytes = await body.read()
        if await asyncio.to_thread(digest_of, data) != digest:
            raise PluginLoadFailed(f"the package {key} is not the one that was uploaded")
        return data

    async def delete(self, key: str) -> None:
        async with self._errors(key) as client:
            await client.delete_object(Bucket=self._bucket, Key=key)

    async def delete_below(self, prefix: str) -> None:
        async with self._errors(prefix) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{prefix}/")
            async for page in pages:
                # One by one: deletions in bulk need a checksum that not every server knows.
                for found in page.get("Contents", ()):
                    await client.delete_object(Bucket=self._bucket, Key=found["Key"])

    async def check(self) -> None:
        try:
            async with self._errors(self._bucket) as client:
                await client.head_bucket(Bucket=self._bucket)
        except PluginLoadFailed:
            raise StoreUnavailable(f"the bucket {self._bucket} does not exist") from None

    async def close(self) -> None:
        self._client = None
        await self._stack.aclose()

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                # 70 to 290 ms of imports and service descriptions.
                create, config = await asyncio.to_thread(_imports)
                self._client = await self._stack.enter_async_context(
                    create(
                        "s3",
                        region_name=self._settings.s3_region,
                        endpoint_url=self._settings.s3_endpoint_url,
                        aws_access_key_id=self._settings.s3_access_key_id,
                        aws_secret_access_key=self._settings.s3_secret_access_key,
                        config=config,
                    )
                )
            return self._client

    @asynccontextmanager
    async def _errors(self, key: str) -> AsyncIterator[Any]:
        """A client, and its errors as ours."""
        client = await self._open()
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield client
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise PluginLoadFailed(f"the package {key} is missing from the store") from error
            raise StoreUnavailable(f"the package store refused the request ({code})") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"the package store does not answer ({type(error).__name__})") from error


def _imports() -> tuple[Any, Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # Other servers than AWS do not all know the checksums newer clients send unasked; ours are given explicitly.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"max_attempts": ATTEMPTS, "mode": "standard"},
    )
    return get_session().create_client, config
