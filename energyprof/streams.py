"""What one channel of a meter said over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.collectors.base import Channel

Times = NDArray[np.int64]


@dataclass
class Stream:
    """All readings of one channel, in the order of time: each read lasted from before_ns to after_ns.

    Attributes
    ----------
    followed
        Whether each expected tick was looked for, and not only what a clock said.
    before_ns, after_ns, value
        Shape (n,); the value in the channel's own unit.
    """

    channel: Channel
    followed: bool
    before_ns: Times
    after_ns: Times
    value: Times
