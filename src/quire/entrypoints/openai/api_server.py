"""`python -m quire.entrypoints.openai.api_server --model X`: how older scripts start a server."""

import sys

from quire.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["serve", *sys.argv[1:]]))
