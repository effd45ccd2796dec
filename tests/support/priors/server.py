"""A web server on 127.0.0.1 that knows ranges and validators, and misbehaves when told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server holds and does.

    Attributes:
        content: of the one file, at any path.
        etag: its validator.
        ranges: whether parts can be had.
        cut_after: bytes after which the connection is closed once; None sends everything.
        status: instead of the file, where it is not 200.
        asked: Range headers of the requests so far, None for the whole.
        port: where it listens.
    """

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    cut_after: int | None = None
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    def url(self, name: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def serving(content: bytes) -> Iterator[Site]:
    """Serve bytes while the block runs."""
    site = Site(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.headers.get("Range"))
            if site.status != 200:
                self.send_error(site.status)
                return
            self._send(self._first())

        def _first(self) -> int:
            wanted = self.headers.get("Range")
            same = self.headers.get("If-Range", site.etag) == site.etag
            return int(wanted[6:].split("-")[0]) if wanted and site.ranges and same else 0

        def _send(self, first: int) -> None:
            total = len(site.content)
            if first >= total > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = site.content[first:]
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", site.etag)
            self.end_headers()
            if site.cut_after is not None:
                body, site.cut_after = body[: site.cut_after], None
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
