"""Serves web/built on this machine, under the headers that a page of its kind wants.

python web/serve.py --port=8080
"""

import argparse
import functools
import http.server
from pathlib import Path

BUILT = Path(__file__).resolve().parent / "built"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# With these two a page may share memory between threads, and WASM take all cores.
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        headers |= self.server.isolation | {"Cache-Control": "no-cache"}
        for name, value in headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


def make_server(folder=BUILT, port=0, isolated=True):
    """An HTTP server of a folder at the loopback; 0 takes a port that is free."""
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.isolation = ISOLATION if isolated else {}
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    with make_server(port=arguments.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
