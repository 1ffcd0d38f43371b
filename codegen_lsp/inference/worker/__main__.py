"""`python -m codegen_lsp.inference.worker`: the worker process."""

from codegen_lsp.inference.worker.service import main

if __name__ == "__main__":
    main()
