"""terminado on a free port, which it prints: `PYTHON terminado_server.py WORD …`, a command.

Run by a Python that has terminado, not by ours.
"""

import asyncio
import sys

import tornado.web
from terminado import TermSocket, UniqueTermManager


async def main() -> None:
    manager = UniqueTermManager(shell_command=sys.argv[1:], max_terminals=1000)
    app = tornado.web.Application([(r"/shell", TermSocket, {"term_manager": manager})])
    server = app.listen(0, "127.0.0.1")
    (listener,) = server._sockets.values()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
