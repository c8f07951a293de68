"""The job of `app serve` 2.0.1, as one would write it in Python."""

import contextlib
import os

import asyncpg
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

MESSAGE = """SELECT language, text FROM message_text WHERE language = ANY($1)
             ORDER BY array_position($1, language) LIMIT 1"""


def languages(accept):
    """The primary subtags of an Accept-Language header by weight, then English."""
    ranges = []
    for part in accept.split(",")[:16]:
        tag, _, weight = part.partition(";q=")
        primary = tag.strip().split("-")[0].lower()
        with contextlib.suppress(ValueError):
            if 2 <= len(primary) <= 3 and primary.isalpha() and float(weight or 1) > 0:
                ranges.append((-float(weight or 1), primary))
    return list(dict.fromkeys([tag for _, tag in sorted(ranges, key=lambda r: r[0])] + ["en"]))


async def message(request):
    accept = request.headers.get("accept-language", "")
    row = await request.app.state.pool.fetchrow(MESSAGE, languages(accept))
    return JSONResponse(
        {"message": row["text"], "version": "2.0.1"},
        headers={"Vary": "accept-language", "Content-Language": row["language"],
                 "X-Amzn-Trace-Id": request.headers.get("x-amzn-trace-id", "Root=1-0-0")})


async def ready(request):
    steps = await request.app.state.pool.fetch("SELECT version FROM _sqlx_migrations WHERE success")
    good = {1, 2} <= {step["version"] for step in steps}
    return JSONResponse({"ready": good}, status_code=200 if good else 503)


@contextlib.asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=5) as pool:
        app.state.pool = pool
        yield


app = Starlette(routes=[Route("/", message), Route("/healthz/ready", ready)], lifespan=lifespan)
