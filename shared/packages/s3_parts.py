"""An object that is too large for one request, written to S3 in parts. Nobody sees it before the last call."""

import asyncio
import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

PART_BYTES = 8 * 1024 * 1024
"""S3 takes no part below 5 MiB but the last. Up to this size an object is one request."""
CONCURRENT_PARTS = 3


async def put_in_parts(
    client: Any, *, bucket: str, key: str, data: bytes, digest: str, condition: Mapping[str, str]
) -> None:
    """Write all of it or nothing: what was sent of an upload that fails is taken away again, as far as possible.

    `condition` holds when the object appears, not when its first part is sent. The server compares each part with its
    checksum. Raises what the client raises.
    """
    target = {"Bucket": bucket, "Key": key}
    begun = await client.create_multipart_upload(
        **target, ContentType="application/zip", ChecksumAlgorithm="SHA256", Metadata={"sha256": digest}
    )
    target["UploadId"] = begun["UploadId"]
    slots = asyncio.Semaphore(CONCURRENT_PARTS)

    async def put(number: int, part: bytes) -> dict[str, Any]:
        async with slots:
            checksum = await asyncio.to_thread(_checksum, part)
            stored = await client.upload_part(**target, PartNumber=number, Body=part, ChecksumSHA256=checksum)
        return {"PartNumber": number, "ETag": stored["ETag"], "ChecksumSHA256": checksum}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(put(number, part)) for number, part in enumerate(_parts(data), 1)]
        parts = [task.result() for task in tasks]
        await client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **condition)
    except BaseException as error:
        with suppress(Exception):
            # A rule of the bucket has to remove what a dead server leaves behind; we remove what a failed one does.
            await asyncio.shield(client.abort_multipart_upload(**target))
        if isinstance(error, BaseExceptionGroup):
            # Which part failed is nobody's business: the caller knows one request and its error.
            raise error.exceptions[0] from None
        raise


def _parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PART_BYTES):
        yield data[start : start + PART_BYTES]


def _checksum(part: bytes) -> str:
    return base64.b64encode(hashlib.sha256(part).digest()).decode()
