"""A short run of the fuzzer."""

from __future__ import annotations

import pytest

from tests import needs

needs.extra("serve")

from tests.http.fuzz.__main__ import shown
from tests.http.fuzz.campaign import campaign, marked_server


@pytest.mark.slow
async def test_some_hundred_malformed_requests() -> None:
    with marked_server() as (server, log, mark):
        report = await campaign(server, log, mark, 300, 17)
    assert not report.problems, shown(report)
    assert report.right >= 5
    assert len(report.sent) >= 10
