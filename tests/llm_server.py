"""A scripted OpenAI-compatible server on a loopback port, for tests over real HTTP.

    with LlmServer([Reply(text="Paris is the capital [1].")]) as server:
        ...  # base_url=server.base_url; server.requests has what was asked

Each request takes the next reply of the script; the last one repeats.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted reply.

    `text` is sent in pieces of `piece_chars` characters, each after `pause_seconds`; `silent_seconds` pass
    before the status line. `body` replaces the whole body as it is; one that is no stream is sent in such
    pieces where there are pauses. `ending` is how a stream ends: as it
    should, without its end mark, or with the connection closed amid a chunk. `echo_prompt` sends the
    user's message back instead of `text`.
    """

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stream: bool = True
    piece_chars: int = 4
    pause_seconds: float = 0.0
    silent_seconds: float = 0.0
    body: str | None = None
    content_type: str | None = None
    ending: Literal["done", "no_mark", "broken"] = "done"
    finish_reason: str | None = "stop"
    usage: bool = True
    echo_prompt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the server was asked."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def user(self) -> str:
        return next(str(m["content"]) for m in self.body["messages"] if m["role"] == "user")


class LlmServer:
    """Runs in threads of its own between `__enter__` and `__exit__`."""

    def __init__(self, script: Sequence[Reply]) -> None:
        self.script = list(script)
        self.requests: list[Request] = []
        self.was_left = threading.Event()  # set when a client went away in the middle
        self._closing = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> LlmServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def wait(self, seconds: float) -> None:
        """Sleeps, but not longer than the test lives."""
        if seconds:
            self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet: that a client goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: LlmServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(path=self.path, headers=dict(self.headers), body=body)
        reply = self.owner.take(request)
        self.owner.wait(reply.silent_seconds)
        try:
            self._reply(reply, request.user if reply.echo_prompt else reply.text)
        except OSError:  # the client has gone: that is what some tests are about
            self.close_connection = True
            self.owner.was_left.set()

    def _reply(self, reply: Reply, text: str) -> None:
        if reply.body is not None or reply.status != 200:
            body = reply.body if reply.body is not None else json.dumps({"error": {"code": "scripted"}})
            self._whole(reply, body, reply.content_type or "application/json")
        elif not reply.stream:
            self._whole(reply, json.dumps(_completion(text, reply)), "application/json")
        else:
            self._stream(reply, text)

    def _whole(self, reply: Reply, body: str, content_type: str) -> None:
        data = body.encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        n_bytes = reply.piece_chars if reply.pause_seconds else len(data)
        for at in range(0, len(data), n_bytes):
            self.owner.wait(reply.pause_seconds)
            self.wfile.write(data[at : at + n_bytes])

    def _stream(self, reply: Reply, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(text), reply.piece_chars):
            self.owner.wait(reply.pause_seconds)
            self._event({"choices": [{"index": 0, "delta": {"content": text[at : at + reply.piece_chars]}}]})
        if reply.ending == "broken":
            self.wfile.write(b"ff\r\ndata: {")
            self.close_connection = True
            return
        if reply.ending == "done":
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]})
            if reply.usage:
                self._event({"choices": [], "usage": _USAGE})
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, value: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(value)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test output quiet."""


_USAGE = {"prompt_tokens": 120, "completion_tokens": 12, "total_tokens": 132}


def _completion(text: str, reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": _USAGE,
    }
