"""The short part of the chaos suite: each fault once, from a fixed seed, held as short as it may be.

What is asserted is what has to hold on any machine. How long recoveries take is in the report, beside their limits;
`make chaos` holds them to it, on a machine that has nothing else to do.
"""

import pytest

from lab.cluster import Cluster
from lab.shell import STATE
from tests.chaos import report
from tests.chaos.campaign import Campaign
from tests.chaos.nemesis import FAULTS
from tests.chaos.result import Plan

SEED = 1
FOLDER = STATE / "chaos-short"


@pytest.mark.timeout(1200)
async def test_every_invariant_survives_every_fault(cluster: Cluster) -> None:
    if cluster.nodes[0].management.version() < (3, 11):
        pytest.skip("its group, and restarting streams, need RabbitMQ 3.11")
    result = await Campaign(Plan(SEED, rate=50, brisk=True), cluster, FOLDER).run()
    report.write(result, FOLDER)
    where = f"seed {SEED}, see {FOLDER}/report.html"
    print(where)
    assert [f"{one.invariant}: {one.text}" for one in result.violations] == [], where
    happened = {fault for episode in result.episodes for fault in episode.faults}
    assert happened == {fault.name for fault in FAULTS}, where
