"""`python -m codegen_lsp.inference.worker`: the entry of the inference worker (`process.py`)."""

from __future__ import annotations

from codegen_lsp import python_path


def main() -> None:
    """Run the worker with the packages of its own environment."""
    python_path.prefer_own_packages()
    from codegen_lsp.inference.worker import process

    process.main()


if __name__ == "__main__":
    main()
