"""`codegen-lsp` and `python -m codegen_lsp.cli`: the entry of the command line.

An editor waits for `serve`, which needs no library for command lines to be recognised.
"""

from __future__ import annotations

import sys

from codegen_lsp import python_path

SERVE = (["serve"], ["serve", "--stdio"])


def main() -> None:
    """Run the command line, with the packages of its own environment."""
    python_path.prefer_own_packages()
    try:
        if sys.argv[1:] in SERVE:
            from codegen_lsp.cli.stdio_server import serve_on_stdio

            serve_on_stdio()
        from codegen_lsp.cli import app

        app.main()
    except ImportError as error:
        if advice := python_path.hint([f"ImportError: {error}"]):
            print(f"Error: {error}\nWhat to do: {advice}", file=sys.stderr)  # noqa: T201
            raise SystemExit(1) from error
        raise


if __name__ == "__main__":
    main()
