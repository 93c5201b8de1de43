"""The stack's S3 server: nanio, with a word of its own for a disk that is full.

`python -m deploy.local.store_server serve …` takes nanio's own options. nanio answers 500 to whatever the
operating system refuses, which clients try again for minutes; 507 says that this is no use.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from nanio import app, cli
from nanio.errors import S3Error
from starlette.requests import Request
from starlette.responses import Response

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StorageFull(S3Error):  # type: ignore[misc]  # untyped package
    """As MinIO answers in the same place."""

    code = "XMinioStorageFull"
    message = "The disk is full."
    http_status = 507


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        raise error
    full = StorageFull(resource=request.url.path)
    return Response(full.to_xml(), full.http_status, media_type="application/xml")


def main() -> int:
    """nanio's command with its application changed; one process, so that the change is seen."""
    build = app.build_app

    def with_refusal(*settings: Any) -> Any:
        made = build(*settings)
        made.add_exception_handler(OSError, _refused)
        return made

    app.build_app = with_refusal
    return int(cli.main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
