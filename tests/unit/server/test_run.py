"""What keeps a server from starting, told before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from quire.core.config import engine_config
from quire.core.errors import ConfigError
from quire.server.config import ServerConfig
from quire.server.run import run
from quire.server.state import ServerState


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ssl_certfile": "missing"}, "--ssl-certfile missing, --ssl-keyfile None: .*No such file"),
        ({"ssl_certfile": "no.pem", "ssl_keyfile": "no.pem"}, "TLS cannot be set up with"),
        ({"ssl_keyfile": "no.pem"}, "--ssl-keyfile needs --ssl-certfile"),
        ({"uds": "no/such/folder"}, "cannot listen on no/such/folder: No such file"),
    ],
)
def test_options_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.pem").write_text("x")
    with pytest.raises(ConfigError, match=message):
        run(ServerState(engine_config(), ServerConfig(host="127.0.0.1", port=0, **options)))


def test_a_server_needs_a_tokenizer() -> None:
    with pytest.raises(ConfigError, match="needs a tokenizer; leave skip_tokenizer_init off"):
        ServerState(engine_config(skip_tokenizer_init=True), ServerConfig())
