"""The deployment files: nginx.conf runs in a real nginx before a stand-in for vimi, start.sh in a real shell.

The container files can't be run here: only their grammar and what they refer to is checked.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest

from tests.databases import make_service_folder
from webapp.deployment.hosted_requirements import NOT_HOSTED, hosted_requirements

DEPLOYMENT = Path("webapp/deployment")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")
PICTURE = "/image/" + "0123456789abcdef" * 2
NAME = "study.example.org"
SCRIPT = b"export const nothing = 0;\n" * 200

with_nginx = pytest.mark.skipif(
    not (NGINX and OPENSSL), reason="nginx or openssl is not installed: nginx.conf could not be run"
)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Upstream:
    """A stand-in for a vimi server: it counts what reaches it, and speaks just enough websocket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.note()
                if self.path == "/_stcore/stream" and self.headers["Upgrade"] == "websocket":
                    self.speak()
                elif self.path.startswith("/static/"):
                    self.reply(200, SCRIPT, "text/javascript; charset=utf-8")
                elif self.path.startswith("/image/"):
                    missing = "ffff" in self.path
                    self.reply(404 if missing else 200, b"RIFF" * 500, "image/webp")
                else:
                    self.reply(200, upstream.name.encode(), "text/html")

            def do_POST(self) -> None:
                self.note()
                self.reply(200, self.rfile.read(int(self.headers["Content-Length"])), "application/json")

            def note(self) -> None:
                upstream.asked[self.path] += 1
                upstream.headers.append({name.lower(): value for name, value in self.headers.items()})

            def reply(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Content-Type-Options", "nosniff")
                if kind == "image/webp":
                    self.send_header("Cache-Control", "public, max-age=31536000, immutable")
                    self.send_header("ETag", f'"{self.path}"')
                    self.send_header("Set-Cookie", "_streamlit_xsrf=secret")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def speak(self) -> None:
                """Send back what comes over the websocket, until it ends."""
                from websockets.server import ServerProtocol

                protocol = ServerProtocol()
                lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                protocol.receive_data(f"GET {self.path} HTTP/1.1\r\n{lines}\r\n".encode())
                (request,) = protocol.events_received()
                protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
                while True:
                    for data in protocol.data_to_send():
                        self.connection.sendall(data)
                    received = b"" if protocol.close_expected() else self.connection.recv(65536)
                    if not received:
                        break
                    protocol.receive_data(received)
                    for frame in protocol.events_received():
                        if frame.opcode == 1:  # type: ignore[union-attr]
                            protocol.send_text(f"{upstream.name}: ".encode() + frame.data)  # type: ignore[union-attr]
                self.close_connection = True

            def log_message(self, format: str, *values: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = int(self.server.server_address[1])
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Proxy:
    """A running nginx with the shipped configuration; only places and ports are this test's."""

    def __init__(self, folder: Path, upstreams: list[Upstream]) -> None:
        self.upstreams = upstreams
        self.port, self.plain_port = free_port(), free_port()
        self.log = folder / "access.log"
        self.errors = folder / "error.log"
        subprocess.run(
            [str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
             "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "key.pem", "-out", "certificate.pem"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        (folder / "cache").mkdir()
        text = (DEPLOYMENT / "nginx.conf").read_text(encoding="utf-8")
        servers = "\n".join(f"server 127.0.0.1:{one.port};" for one in upstreams)
        for old, new in {
            r"server app:8501 [^;]*;": servers,
            r"listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            r"listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            r"listen \[::\]:[^;]*;": "",
            r"/etc/nginx/tls/": f"{folder}/",
            r"/var/cache/nginx/vimi": f"{folder}/cache/vimi",
            r"pid /run/nginx.pid;": f"pid {folder}/nginx.pid; daemon off;",
            r"error_log stderr alert;": f"error_log {self.errors} alert;",
            r"access_log off;": f"access_log {self.log} nobody;",
            r"http \{": "http {" + "".join(
                f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        }.items():  # fmt: skip
            text, count = re.subn(old, lambda _, new=new: new, text)  # type: ignore[misc]
            assert count, f"nginx.conf no longer says {old}"
        self.configuration = folder / "nginx.conf"
        self.configuration.write_text(text, encoding="utf-8")
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *more: str) -> list[str]:
        return [str(NGINX), "-p", str(self.folder), "-e", str(self.errors), "-c", str(self.configuration), *more]

    def start(self) -> None:
        checked = subprocess.run(self.command("-t"), capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr, checked.stderr
        self.process = subprocess.Popen(self.command(), stderr=subprocess.DEVNULL)
        ends = monotonic() + 120
        while monotonic() < ends:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
                return
            except OSError:
                sleep(0.05)
        raise AssertionError(f"nginx did not start: {self.errors.read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait(120)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        return self.trust.wrap_socket(raw, server_hostname=NAME)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPSConnection(NAME, self.port, timeout=120)
        connection.sock = self.connect()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def count(self, path: str) -> int:
        return sum(one.asked[path] for one in self.upstreams)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    folder = make_service_folder("vimi-nginx-")
    folder.chmod(0o755)  # nginx's workers give up root, and must still get to the cache
    upstreams = [Upstream("one"), Upstream("two")]
    made = Proxy(folder, upstreams)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for one in upstreams:
            one.stop()
        shutil.rmtree(folder, ignore_errors=True)


# -------------------------------------------------------------------- nginx


@with_nginx
def test_a_picture_goes_through_python_once(proxy: Proxy) -> None:
    first = proxy.ask("GET", PICTURE, headers={"Cookie": "_streamlit_xsrf=mine", "User-Agent": "somebody"})
    assert first[0] == 200
    assert proxy.count(PICTURE) == 1
    for path in (PICTURE, PICTURE + "?again=1"):
        status, headers, body = proxy.ask("GET", path)
        assert (status, body) == (200, first[2])
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert headers["ETag"] and headers["Set-Cookie"] is None and headers["Content-Encoding"] is None
    assert proxy.ask("GET", PICTURE, headers={"If-None-Match": first[1]["ETag"]})[0] == 304
    assert proxy.ask("HEAD", PICTURE)[0] == 200
    assert proxy.count(PICTURE) == 1 and proxy.count(PICTURE + "?again=1") == 0
    seen = next(headers for one in proxy.upstreams for headers in one.headers if "user-agent" not in headers)
    assert "cookie" not in seen
    assert seen["host"].startswith(NAME)


@with_nginx
def test_what_is_no_picture_is_not_kept(proxy: Proxy) -> None:
    missing = "/image/" + "f" * 32
    assert [proxy.ask("GET", missing)[0] for _ in range(2)] == [404, 404]
    assert proxy.count(missing) == 2
    assert proxy.ask("POST", PICTURE, b"x")[0] == 403


@with_nginx
def test_the_websocket_gets_through_and_a_cookie_keeps_it_at_one_server(proxy: Proxy) -> None:
    from websockets.sync.client import connect

    cookie = proxy.ask("GET", "/")[1]["Set-Cookie"]
    assert re.fullmatch(r"vimi_server=[0-9a-f]{32}; Path=/; Secure; HttpOnly; SameSite=Lax", cookie)
    pair = cookie.partition(";")[0]
    assert proxy.ask("GET", "/", headers={"Cookie": pair})[1]["Set-Cookie"] is None
    home = proxy.ask("GET", "/", headers={"Cookie": pair})[2].decode()
    for _ in range(3):
        with connect(
            f"ws://{NAME}/_stcore/stream",  # the line is encrypted already
            sock=proxy.connect(),
            additional_headers={"Cookie": pair},
        ) as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=120) == f"{home}: hello"
    homes = {proxy.ask("GET", "/", headers={"Cookie": f"vimi_server={n:032x}"})[2] for n in range(30)}
    assert homes == {b"one", b"two"}


@with_nginx
def test_addresses_are_neither_handed_on_nor_written_down(proxy: Proxy) -> None:
    forged = {"X-Forwarded-For": "198.51.100.7", "X-Real-IP": "198.51.100.7", "Forwarded": "for=198.51.100.7",
              "X-Vimi-Group": "mine", "User-Agent": "peculiar"}  # fmt: skip
    proxy.ask("GET", "/?PROLIFIC_PID=somebody", headers=forged)
    seen = next(
        headers
        for one in proxy.upstreams
        for headers in reversed(one.headers)
        if headers.get("user-agent") == "peculiar"
    )
    assert not {"x-forwarded-for", "x-real-ip", "forwarded"} & set(seen)
    assert seen["x-forwarded-proto"] == "https"
    assert re.fullmatch(r"g\d\d", seen["x-vimi-group"]), "One of a hundred groups is all that vimi gets to know."
    written = proxy.log.read_text() + (proxy.errors.read_text() if proxy.errors.exists() else "")
    assert " GET / 200 " in written
    for secret in ("127.0.0.1", "somebody", "peculiar", "198.51"):
        assert secret not in written


@with_nginx
def test_scripts_of_pages_go_through_python_once_and_are_compressed(proxy: Proxy) -> None:
    path = "/static/js/index.abc.js"
    for _ in range(3):
        status, headers, body = proxy.ask("GET", path, headers={"Accept-Encoding": "gzip", "Cookie": "a=b"})
        assert status == 200 and headers["Content-Encoding"] == "gzip" and gzip.decompress(body) == SCRIPT
    assert proxy.ask("GET", path)[2] == SCRIPT and proxy.count(path) == 1
    assert proxy.ask("POST", path, b"x")[0] == 403


@with_nginx
def test_sockets_of_one_address_are_limited(proxy: Proxy) -> None:
    """A flood of new sockets is refused after a burst; the page itself is still served."""
    asked = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n".encode() * 299
        + f"GET /_stcore/health HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
    )
    with proxy.connect() as line:
        line.sendall(asked)
        received = b""
        while data := line.recv(65536):
            received += data
    statuses = Counter(re.findall(rb"HTTP/1\.1 (\d+)", received))
    assert statuses[b"429"] > 50, statuses
    assert proxy.ask("GET", "/_stcore/health")[0] == 200


@with_nginx
def test_security_headers_are_not_doubled(proxy: Proxy) -> None:
    for path in ("/", "/admin", PICTURE):
        headers = proxy.ask("GET", path)[1]
        assert headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"]


@with_nginx
def test_answers_are_limited_in_size_and_rate(proxy: Proxy) -> None:
    assert proxy.ask("POST", "/api/answer", b"{}" * 100)[2] == b"{}" * 100
    before = proxy.count("/api/answer")
    assert proxy.ask("POST", "/api/answer", b"x" * 8193)[0] == 413
    assert proxy.count("/api/answer") == before
    wanted = 600
    request = f"POST /api/answer HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with proxy.connect() as line:
        # In one go, since a limit by the second can only be met by somebody who is quick.
        line.sendall(request * (wanted - 1) + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while data := line.recv(65536):
            received += data
    statuses = Counter(re.findall(rb"HTTP/1\.1 (\d+)", received))
    assert set(statuses) == {b"200", b"429"}, statuses
    assert statuses[b"200"] >= 240
    assert statuses.total() == wanted


@with_nginx
def test_plain_http_is_sent_to_https_and_numbers_of_people_are_not_shown(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain_port, timeout=120)
    connection.request("GET", "/?PROLIFIC_PID=a", headers={"Host": NAME})
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("Location")) == (301, f"https://{NAME}/?PROLIFIC_PID=a")
    connection.close()
    assert proxy.ask("GET", "/_stcore/metrics")[0] == 404
    assert proxy.ask("GET", "/_stcore/health")[0] == 200


# -------------------------------------------------------------------- start.sh, the containers


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run start.sh with a vimi that only says how it was called."""
    told = folder / "vimi"
    told.write_text('#!/bin/sh\necho "$@"\necho "$VIMI_DATABASE|${VIMI_ADMIN_HASH:-}|${VIMI_SECRET:-}"\n')
    told.chmod(0o755)
    values = {"PATH": os.environ["PATH"], "VIMI": str(told), "VIMI_SECRETS": str(folder), **environment}
    return subprocess.run(["sh", DEPLOYMENT / "start.sh", *arguments], env=values, capture_output=True, text=True)


def test_the_start_script_reads_secrets_from_files(tmp_path: Path) -> None:
    for name, value in (("database_password", "ab12"), ("laboratory_key", "k"), ("admin_hash", "$argon2id$v=19$x")):
        (tmp_path / name).write_text(value + "\n")
    said = start(tmp_path, "--pilot", VIMI_HOST=NAME)
    assert said.stdout.splitlines() == [
        f"serve /study --address 0.0.0.0 --port 8501 --host {NAME} --behind-proxy --pilot",
        "postgresql://vimi:ab12@database/vimi|$argon2id$v=19$x|k",
    ], said.stderr
    given = start(tmp_path, VIMI_HOST=NAME, VIMI_DATABASE="sqlite:///x", VIMI_STUDY="/else")
    assert given.stdout.startswith("serve /else ") and "\nsqlite:///x|" in given.stdout


def test_the_start_script_needs_the_server_s_name(tmp_path: Path) -> None:
    assert start(tmp_path).returncode != 0


def test_the_container_needs_everything_but_what_builds_studies() -> None:
    project: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    hosted = hosted_requirements(Path("pyproject.toml"))
    left_out = [line for line in project["dependencies"] if NOT_HOSTED.match(line)]
    assert {re.split(r"[<>=\[]", line)[0] for line in left_out} >= {"torch", "torchvision", "timm", "torch-lucent"}
    assert not any("torch" in line for line in hosted)
    assert any(line.startswith("psycopg") for line in hosted)
    assert set(project["dependencies"]) - set(left_out) <= set(hosted)


def test_the_container_files_refer_to_what_is_there() -> None:
    compose = (DEPLOYMENT / "compose.yaml").read_text(encoding="utf-8")
    yaml = pytest.importorskip("yaml", reason="no YAML parser is installed: the grammar of compose.yaml is not checked")
    read = yaml.safe_load(compose)
    assert set(read["services"]) == {"app", "database", "nginx"}
    for service in read["services"].values():
        assert set(service.get("secrets", ())) <= set(read["secrets"])
        assert set(service.get("networks", ())) <= set(read["networks"])
        assert set(service.get("depends_on", ())) <= set(read["services"])
    context = DEPLOYMENT / read["services"]["app"]["build"]["context"]
    assert (context / read["services"]["app"]["build"]["dockerfile"]).is_file()
    lines = (DEPLOYMENT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for line in (line for line in lines if line.startswith("COPY")):
        for name in [part for part in line.split()[1:-1] if not part.startswith("--")]:
            assert (context / name).exists(), name
