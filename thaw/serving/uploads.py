"""The images of a request: its body, the files of a form, or base64 in JSON, within limits of bytes and of time."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

MOST_IMAGES = 256  # in one request
IDLE_SECONDS, BODY_SECONDS = 15, 120  # that a client may send nothing, and that all of a body may take
# What is still read of a body that is too large, and thrown away: a client reads the answer when it has sent its own.
THROWN_AWAY = 8  # times the limit
BODIES = 4  # bodies of the largest size that are held at once; more wait before they are read
FORMS = 'an image as the body, a form with files, or JSON with "image" or "images" in base64'
# The same as /openapi.json has it, where FastAPI finds nothing: the body is read as it comes.
_FILE = {"type": "string", "format": "binary"}
_TEXT = {"type": "string", "contentEncoding": "base64"}
DESCRIBED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _FILE}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"image": _TEXT, "images": {"type": "array", "items": _TEXT}},
                    "minProperties": 1,
                    "maxProperties": 1,
                }
            },
        },
    }
}
_REFUSAL: dict[str, Any] = {
    "description": "One line that says what was expected",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}},
}
REFUSALS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 408, 413, 415, 422, 500, 503), _REFUSAL)


class RefusedError(Exception):
    """A request that can't be answered: the status, and one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """One image of a request."""

    name: str  # of the file, or its number from 1 on where it has none
    data: bytes
    refused: RefusedError | None = None  # why there are no bytes


@dataclass(frozen=True)
class Images:
    """The images of a request."""

    uploads: list[Upload]
    single: bool  # whether it is one by the kind of request, so that the answer is no list


class Room:
    """The bytes of bodies that are held at once, so that many clients, or slow ones, don't take all memory."""

    def __init__(self, most: int) -> None:
        self.free = most
        self.changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait until so many bytes are free, and hold them."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.free >= size)
            self.free -= size

    async def give_back(self, size: int) -> None:
        """Hold so many bytes no more."""
        async with self.changed:
            self.free += size
            self.changed.notify_all()


def declared(request: Request, most: int) -> int:
    """Return how many bytes the body may take: what its head says, or else the limit.

    Raises:
        RefusedError: the head makes no sense, or says more than the limit.
    """
    text = request.headers.get("content-length")
    if text is None:
        return most
    if not text.isdecimal():
        raise RefusedError(400, f"expected a number as Content-Length, received {text:.40}; send the bytes' number")
    return int(text)


async def body(request: Request, most: int) -> AsyncGenerator[bytes]:
    """Yield a body as it comes, and stop where it is too large or too slow.

    Raises:
        RefusedError: 413 or 408.
    """
    if (told := declared(request, most)) > most and "expect" in request.headers:
        raise too_large(told, most)  # the client waits for a word before it sends anything
    stream, size = aiter(request.stream()), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    part = await anext(stream, b"")
                if not part:
                    break
                size += len(part)
                if size <= most:
                    yield part
                elif size > THROWN_AWAY * most:
                    break
    except TimeoutError:
        raise RefusedError(
            408,
            f"expected the body within {BODY_SECONDS} s and no pause above {IDLE_SECONDS} s, received {size:,} bytes; "
            "send it again",
        ) from None
    if size > most:
        raise too_large(size, most)


def too_large(size: int, most: int) -> RefusedError:
    return RefusedError(413, f"expected {most:,} bytes at most, received {size:,} or more; send a smaller image")


async def images(request: Request, most: int) -> Images:
    """Return the images of a request.

    Args:
        most: bytes of its body.

    Raises:
        RefusedError: there is none, there are too many, or they are no images by the kind of the body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = request.headers.get("content-encoding", "").strip().lower()
    if packed not in ("", "identity"):
        raise RefusedError(415, f"expected a body as it is, received Content-Encoding {packed:.40}; send it unpacked")
    parts = body(request, most)
    if kind == "multipart/form-data":
        found = Images(await _of_form(request, parts), single=False)
    else:
        data = b"".join([part async for part in parts])
        if kind == "application/json":
            found = _of_json(data)
        else:
            found = Images([Upload("1", data)] if data else [], single=True)
    if not found.uploads:
        raise RefusedError(400, f"expected {FORMS}, received no image; send one")
    if len(found.uploads) > MOST_IMAGES:
        raise RefusedError(
            413,
            f"expected {MOST_IMAGES} images at most, received {len(found.uploads):,}; send them in several requests",
        )
    return found


async def _of_form(request: Request, parts: AsyncGenerator[bytes]) -> list[Upload]:
    try:
        form: FormData = await MultiPartParser(
            request.headers, parts, max_files=MOST_IMAGES + 1, max_fields=MOST_IMAGES
        ).parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        said = " ".join(str(getattr(error, "message", error)).split())
        raise RefusedError(
            400,
            f"expected a form (multipart/form-data), received what is none: {said:.200}; send files as a browser does",
        ) from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Upload(file.filename or str(number), await file.read()) for number, file in enumerate(files, 1)]
    finally:
        await form.close()


def _of_json(data: bytes) -> Images:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f'expected JSON, received what is none ({error}); send {{"image": BASE64}}') from None
    given = told.keys() & {"image", "images"} if isinstance(told, dict) else set()
    if len(given) != 1:
        received = f"the keys {', '.join(map(str, told)) or 'none':.200}" if isinstance(told, dict) else "no object"
        raise RefusedError(
            400, f'expected JSON with "image" or "images", received {received}; send {{"image": BASE64}}'
        )
    (key,) = given
    texts = told["images"] if key == "images" else [told["image"]]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RefusedError(
            400, f'expected base64 as text under "{key}", received another type; send {{"image": BASE64}}'
        )
    return Images([_decoded(text, number) for number, text in enumerate(texts, 1)], key == "image")


def _decoded(text: str, number: int) -> Upload:
    try:
        data = base64.b64decode(text.rpartition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        said = f"expected base64 as image {number}, received what is none ({error}); encode the file's bytes"
        return Upload(str(number), b"", RefusedError(400, said))
    return Upload(str(number), data)
