"""Noticing that a client has gone."""

import asyncio

from starlette.types import Receive


class ClientWatch:
    """Watches a request whose body has been read, from construction to `stop`.

    `gone` is a future that is done once the client has closed the connection.
    """

    def __init__(self, receive: Receive) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self.gone.done():
            self.gone.set_result(None)

    def stop(self) -> None:
        """No more news. May be called again."""
        self._task.cancel()
        self.gone.cancel()
