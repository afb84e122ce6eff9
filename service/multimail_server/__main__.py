"""The command `multimail-server`: serve, keys, doctor, fsck."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from multimail_server import commands, settings
from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Coroutine


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multimail-server",
        description="Self-hosted contact intelligence and mail for AI agents. Settings are environment variables; "
        "see the README.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="run the service until Ctrl-C")
    serve.add_argument("--workers", metavar="N", help="how many processes serve (default: MULTIMAIL_WORKERS, or 1)")
    serve.add_argument("--json", action="store_true", help="say where everything is as one line of JSON")
    serve.set_defaults(run=lambda given: lambda config: commands.serve(config, as_json=given.json))
    keys = verbs.add_parser("keys", help="make, list and revoke API keys, beside a running service")
    key_verbs = keys.add_subparsers(dest="key_verb", required=True, metavar="VERB")
    create = key_verbs.add_parser("create", help="make a key and print it, once")
    create.add_argument("--account", default="main", help="the account it belongs to (default: main)")
    create.add_argument("--agent", required=True, help="the agent's name, as it shows in the log")
    create.add_argument("--scopes", default="read,write,send", help="read,write,send,admin,oversight")
    create.set_defaults(
        run=lambda given: lambda config: commands.create_key(config, given.account, given.agent, given.scopes)
    )
    listing = key_verbs.add_parser("list", help="list keys; a key itself is stored nowhere")
    listing.add_argument("--account", default="", help="only this account's")
    listing.set_defaults(run=lambda given: lambda config: commands.list_keys(config, given.account))
    revoke = key_verbs.add_parser("revoke", help="revoke a key; it stops working within five seconds")
    revoke.add_argument("key_id", help="the key's id, key_…")
    revoke.set_defaults(run=lambda given: lambda config: commands.revoke_key(config, given.key_id))
    verbs.add_parser("doctor", help="check the set-up and say what to do").set_defaults(run=lambda _: commands.doctor)
    verbs.add_parser("fsck", help="prove that counters equal logs and numbers have no gaps").set_defaults(
        run=lambda _: commands.fsck
    )
    return parser


def main() -> None:
    """Runs one command; the exit code tells how it went."""
    given = _parser().parse_args()
    workers = getattr(given, "workers", None)
    config = settings.from_environment(**({"workers": workers} if workers is not None else {}))
    work: Coroutine[None, None, int] = given.run(given)(config)
    try:
        with asyncio.Runner(loop_factory=commands.loop_factory()) as runner:
            sys.exit(runner.run(work))
    except DomainError as error:
        raise SystemExit(f"multimail-server: {error.message}") from None


if __name__ == "__main__":
    main()
