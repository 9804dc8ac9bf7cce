"""A profiled program whose host runs 200 ms ahead of its GPU: `queued.py SECONDS events|off`.

Each step waits for room in the queue (region data), and puts 30 ms at 620 W (region a) and 45 ms at 140 W
(region b) into it. Prints the true joules of each region's work, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time

import energyprof
from energyprof.cuda_marks import DeviceMarks
from tests.lab.truth import Truth
from tests.virtual_cuda import VirtualCuda

AHEAD_NS = 200_000_000
WORK = (("a", 620.0, 0.030), ("b", 140.0, 0.045))


def main() -> None:
    seconds, mode = float(sys.argv[1]), sys.argv[2]
    truth = Truth.from_environment()
    cuda = VirtualCuda(uuid=truth.device("gpu:0").uuid.decode().removeprefix("GPU-"))
    ran: list[tuple[str, int, int]] = []
    with energyprof.profile("queued", quiet=True, cuda=mode) as run:
        session = run._session
        assert session is not None
        if mode == "events":  # what it would find by itself on a machine with a GPU
            session.recorder.device = DeviceMarks(session.folder, session._stem, session.journal, cuda)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with run.region("data"):
                ahead_ns = cuda.stream.busy_until_ns - AHEAD_NS
                time.sleep(max(0.0, (ahead_ns - time.monotonic_ns()) / 1e9))
            for name, watts, lasts in WORK:
                with run.region(name):
                    begun, ended = cuda.stream.launch(lasts * random.gauss(1, 0.02))
                    truth.set_power("gpu:0", watts, begun)
                    ran.append((name, begun, ended))
        truth.set_power("gpu:0", 70.0, cuda.stream.busy_until_ns)
        if mode == "off":
            time.sleep(AHEAD_NS / 1e9)
    run.result  # noqa: B018  # waits until it is stored
    joules = {"data": 0.0, "a": 0.0, "b": 0.0}
    for name, begun, ended in ran:
        joules[name] += truth.energy_j("gpu:0", begun, ended)
    print(json.dumps(joules))


if __name__ == "__main__":
    main()
