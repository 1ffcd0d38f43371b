"""The `codegen-lsp` command line."""
