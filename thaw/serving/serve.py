"""``thaw serve``: answer over HTTP with the exported model, and show a page where images are dropped."""

import argparse
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.catalog import export_formats

HOST, PORT = "127.0.0.1", 8000
REQUEST_MB = 32  # a photograph of 50 megapixels takes about 25 as a JPEG
# Seconds: that a connection is kept without a request, and that requests may go on once the server is told to end.
KEEP_ALIVE, GRACE = 5, 30
EXAMPLES = """\
examples:
  thaw serve                                          # on 127.0.0.1, port 8000
  thaw serve --port 0 --format onnx
  thaw serve --host 0.0.0.0 --max-mb 8                # open to the network: put it behind a proxy"""


def add(commands: Any) -> None:
    """Add ``serve`` to the command ``thaw``."""
    command = commands.add_parser(
        "serve",
        help="answer over HTTP with the exported model, and show a page",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--model", type=Path, default=paths.EXPORTED, help="exported model (default: %(default)s)")
    command.add_argument(
        "--format",
        choices=tuple(export_formats.FORMATS),
        default="",
        help="which of the exported formats to ask (default: the one that is loaded first)",
    )
    command.add_argument(
        "--host", default=HOST, help="address to listen at; 0.0.0.0 is open to the network (default: %(default)s)"
    )
    command.add_argument("--port", type=int, default=PORT, help="0: any that is free (default: %(default)s)")
    command.add_argument(
        "--max-mb", type=_positive, default=REQUEST_MB, metavar="MB", help="size of a request (default: %(default)g)"
    )
    command.add_argument(
        "--max-megapixels", type=_positive, metavar="N", help="of an image (default: as many as in training)"
    )
    command.set_defaults(run=_serve)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {text}")
    return value


def _serve(options: argparse.Namespace) -> None:
    from thaw.exports import formats  # noqa: PLC0415 -- which who asks for help need not wait for

    warnings.simplefilter("ignore")  # what Pillow warns of is either refused or harmless
    model = formats.load(options.model, options.format)
    import uvicorn  # noqa: PLC0415 -- a second, with FastAPI, which the check of the model need not wait for

    from thaw.serving import app  # noqa: PLC0415

    wanted = options.max_megapixels
    most = min(int(wanted * 1e6), model.reading.max_pixels) if wanted else model.reading.max_pixels
    application = app.build(model, app.Limits(int(options.max_mb * 2**20), most))
    with _listening(options.host, options.port) as listening:
        config = uvicorn.Config(
            application,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn sends itself the signal again when it has ended
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        # To standard error: nobody reads answers from standard output, and who waits for this line gets it at once.
        print(f"thaw serve: http://{shown}:{port} (Ctrl-C stops it)", file=sys.stderr, flush=True)
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the address is taken, or none of this machine; one line.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port: expected 0 to 65535, received {port}; choose another")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(
            f"expected a free address, received {host}:{port} ({error.strerror or error}); choose another with --port "
            "or --host"
        ) from None
