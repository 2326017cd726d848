"""A development server for any container with Python: a page, events, a WebSocket, large bodies."""

from agent.docker import Engine

SOURCE = r'''
import base64, hashlib, http.server, socketserver, sys, time

PAGE = b"""<!doctype html><title>Shop</title><h1>The shop</h1><p id=ws></p><p id=sse></p>
<script>
document.cookie = "theirs=1";
const socket = new WebSocket(`ws://${location.host}/ws`, ["echo"]);
socket.onopen = () => socket.send("said");
const tell = (id, text) => (document.getElementById(id).textContent = text);
socket.onmessage = (event) => tell("ws", `${event.data} by ${socket.protocol}`);
new EventSource("/sse").onmessage = (event) => tell("sse", event.data);
</script>"""

class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, data, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/ws":
            return self.echo()
        if self.path == "/sse":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"data: an event\n\n")
                time.sleep(0.5)
        if self.path == "/cookies":
            return self.say(str(self.headers.get("Cookie")).encode())
        if self.path.startswith("/give/"):
            return self.say(b"0123456789abcdef" * (int(self.path[6:]) // 16))
        self.say(PAGE, "text/html")

    def do_POST(self):
        rest, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while rest:
            data = self.rfile.read(min(rest, 65536))
            rest -= len(data)
            digest.update(data)
        self.say(digest.hexdigest().encode())

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.send_header("Sec-WebSocket-Protocol", "echo")
        self.end_headers()
        while True:
            first, second = self.rfile.read(2)
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(second & 127)))
            self.wfile.write(bytes([first, len(data)]) + data)
            if first & 15 == 8:
                self.close_connection = True
                return

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

Server(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
'''
START = '(setsid python3 -c "$1" "$2" >/dev/null 2>&1 &)'


async def start_app(engine: Engine, workspace: str, port: int) -> None:
    """Let an app listen on 127.0.0.1 in a workspace's container."""
    (container,) = await engine.find({"samovar.workspace": workspace})
    words = ["sh", "-c", START, "sh", SOURCE, str(port)]
    done = await engine.run(container, words, user="dev", folder="/tmp")
    assert done.code == 0, done.complaint


async def stop_app(engine: Engine, workspace: str) -> None:
    """End it."""
    (container,) = await engine.find({"samovar.workspace": workspace})
    await engine.run(container, ["pkill", "-f", "socketserver"], user="dev", folder="/tmp")
