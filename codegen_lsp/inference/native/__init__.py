"""The forward pass in C: `decoder.c`, how it is compiled (`build`), and how it is called (`decoder`)."""
