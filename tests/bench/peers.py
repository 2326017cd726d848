"""Programs of others to compare with: terminado, in an environment of its own, and nginx."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.setup import may_install
from bot.state import state_dir
from tests.bench.row import NotRun
from tests.fakes.serving import free_port

TERMINADO = ("terminado==0.18.1", "tornado==6.6.1")
"""The server of terminals that Jupyter has; newest of both in November 2026."""


def terminado() -> Path:
    """Return a Python that has terminado."""
    folder = state_dir() / "tools" / "bench" / TERMINADO[0].replace("==", "-")
    python = folder / "bin" / "python"
    if not python.exists():
        if not may_install():
            raise NotRun("terminado is not installed, and nothing may be")
        _make(folder, TERMINADO)
    return python


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    half = folder.with_name(f"{folder.name}.half")
    uv = str(Path(sys.executable).parent / "uv")
    for words in (
        ("venv", "--clear", "--relocatable", str(half)),
        ("pip", "install", "--python", str(half / "bin" / "python"), *packages),
    ):
        done = subprocess.run((uv, *words), capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotRun(f"{packages[0]} cannot be installed: {done.stderr.strip()[-200:]}")
    half.rename(folder)


NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  map $http_upgrade $passed_on {{ default upgrade; "" ""; }}
  upstream behind {{ server 127.0.0.1:{behind}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://behind; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $passed_on;
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""


@contextmanager
def nginx(behind: int) -> Iterator[int]:
    """Run an nginx in front of a port of this machine; give its own port."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).is_file():
        raise NotRun("nginx; apt-get install nginx-light")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="samovar-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, behind=behind, port=port))
        process = subprocess.Popen([program, "-c", str(config)])
        try:
            while not _listens(port):
                if process.poll() is not None:
                    raise NotRun("nginx does not start")
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
