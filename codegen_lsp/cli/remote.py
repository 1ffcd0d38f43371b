"""`codegen-lsp remote`: the servers that text may be sent to."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from codegen_lsp.errors import CodegenError

app = typer.Typer(help="Servers that may run the model, and so be sent text.", no_args_is_help=True)

Url = Annotated[str, typer.Argument(metavar="URL", help="Address of the server, as in the setting `remote.url`.")]


@app.command("allow")
def allow(
    url: Url,
    key_file: Annotated[str, typer.Option(metavar="FILE", help="As in the setting `remote.key_file`.")] = "",
    ca_file: Annotated[str, typer.Option(metavar="FILE", help="As in the setting `remote.ca_file`.")] = "",
    allow_http: Annotated[bool, typer.Option("--allow-http", help="As in the setting `remote.allow_http`.")] = False,
    workspace: Annotated[
        bool, typer.Option("--workspace", help="Passages of other files may be sent, too: `remote.send`.")
    ] = False,
) -> None:
    """Confirm a server, with the values that the settings name beside its address."""
    from codegen_lsp.lsp.remote import address_of
    from codegen_lsp.lsp.remote_consent import confirm, consent_file
    from codegen_lsp.settings import RemoteSettings

    send = "document+workspace" if workspace else "document"
    settings = RemoteSettings(url.strip(), key_file.strip(), ca_file.strip(), allow_http, send)
    server = address_of(settings)
    try:
        confirm(settings)
    except OSError as error:
        raise CodegenError(f"{consent_file()} can't be written: {error.strerror or error}.") from error
    typer.echo(f"Text may be sent to {server.name}.")


@app.command("list")
def list_servers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the servers that are confirmed."""
    import attrs

    from codegen_lsp.lsp.remote_consent import confirmed

    servers = confirmed()
    if as_json:
        typer.echo(json.dumps([attrs.asdict(one) for one in servers], indent=2))
        return
    if not servers:
        typer.echo("None: nothing is sent anywhere.")
    for one in servers:
        parts = [
            one.url,
            "text of documents and of other files" if one.send != "document" else "text of documents",
            f"key of {one.key_file}" if one.key_file else "",
            f"certificates of {one.ca_file}" if one.ca_file else "",
            "without encryption, too" if one.allow_http else "",
        ]
        typer.echo("; ".join(filter(None, parts)))


@app.command("forget")
def forget(url: Url) -> None:
    """Remove a server: it is asked about again before it is used."""
    from codegen_lsp.lsp import remote_consent

    if not remote_consent.forget(url.strip()):
        raise CodegenError(f"{url} is not confirmed.", "See `codegen-lsp remote list`.")
    typer.echo(f"No text is sent to {url.strip()}. Servers that use it do so until they are started again.")
