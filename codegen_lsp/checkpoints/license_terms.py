"""Which licences let anybody use a model for anything, and which need the user's consent first."""

from __future__ import annotations

from attrs import frozen

from codegen_lsp.checkpoints.card_metadata import UNKNOWN
from codegen_lsp.checkpoints.hub_errors import WEBSITE

PERMISSIVE = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "ncsa", "zlib"),
    *("unlicense", "cc0-1.0", "wtfpl", "postgresql", "bsl-1.0", "ecl-2.0", "afl-3.0", "artistic-2.0"),
)
"""Identifiers, from https://huggingface.co/docs/hub/repositories-licenses, of licences that ask for no more
than a notice."""


@frozen
class LicenseTerms:
    """The licence of a model that is to be pulled."""

    name: str
    """As the model card or the catalogue states it."""
    needs_consent: bool
    address: str
    """Where it can be read."""

    @property
    def question(self) -> str:
        """Return the rest of a sentence that begins with the model's name, on what the user is to agree to."""
        if self.name == UNKNOWN:
            return f"states no licence, so that nothing permits its use but what its owner says at {self.address}"
        return f"is licensed as {self.name}. Its terms: {self.address}"


def terms_of(license: str, repository: str) -> LicenseTerms:
    """Return the terms of a licence by its identifier in a model card. One that is not known needs consent."""
    return LicenseTerms(license, license.lower() not in PERMISSIVE, f"{WEBSITE}/{repository}")
