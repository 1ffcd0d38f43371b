"""`python -m codegen_lsp.cli`: the command line without an installed script."""

from codegen_lsp.cli.app import main

if __name__ == "__main__":
    main()
