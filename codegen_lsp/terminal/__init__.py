"""What the commands of `codegen-lsp` do and print, for a person at a terminal. Knows no protocol."""
