"""What an estimate takes where nothing was said: figures with intervals, each with who published them.

The intervals are wide because machines and programs differ; saying a figure narrows the estimate. Where a source
gives several machines or models, the interval reaches from the lowest to the highest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from energyprof.carbon.ranges import Range


@dataclass(frozen=True)
class Assumed:
    """A figure that nobody said: its range, and where it is from."""

    range: Range
    source: str


# Power of a device that computes, as a share of its TDP. Training: TPU v4's mean of production is 0.89 of its
# maximum, v3's 0.84 (Jouppi et al. 2023, ISCA, table 4); a node of eight H100 reaches 0.82 of its rating at most
# (Latif et al. 2025, IEEE Access 13) and 0.76 in computationally heavy work (Newkirk et al. 2025); the training of
# OLMo moved between 0.15 and 0.85 (Morrison et al. 2025, arXiv 2503.05804). TDP, which papers count, is the upper end.
BUSY_TRAINING = Assumed(
    Range(0.80, 0.55, 1.0),
    "Latif et al. 2025, Newkirk et al. 2025 (H100 nodes), Jouppi et al. 2023 (TPUs), Morrison et al. 2025 (OLMo)",
)
# Inference: prompts reach TDP, the generation of tokens stays far below (Patel et al. 2024, ASPLOS); energy by TDP is
# up to 4.1 times too high (Chung et al. 2025, arXiv 2505.06371).
BUSY_INFERENCE = Assumed(
    Range(0.60, 0.24, 0.95), "Patel et al. 2024 (POLCA), Chung et al. 2025 (ML.ENERGY benchmark)"
)
# Idle with a CUDA context: 26 to 66 W above the bare 50 to 75 W of A100, H100 and L40S.
IDLE = Assumed(Range(0.15, 0.08, 0.25), "arXiv 2605.23918 (2026)")
# The fleet's mean of a TPU's machine holds its pauses; its TDP is two to three times the mean.
FLEET = Assumed(Range(1.0, 0.7, 2.0), "its TDP is 2 to 3 times that")
# The rest of the server a device, as a share of the device's TDP: eight H100 of 700 W in a node that draws 8.4 kW at
# most (0.5) and is rated 10.2 kW (0.82). Below: a desktop, or many devices on few processors.
HOST = Assumed(
    Range(0.50, 0.20, 0.82), "Latif et al. 2025: 8 H100 in a node of at most 8.4 kW, rated 10.2 kW"
)
# A device that never waits is at 1. 0.52 is the mean over the jobs of one shared cluster (Jeon et al. 2019, USENIX
# ATC); single jobs lie on both sides of it, and in another cluster most lie far below (Weng et al. 2022, NSDI). 0.2
# stands for a training that mostly waits for its data; who leaves a device idle longer says --utilisation.
UTILISATION = Assumed(
    Range(0.80, 0.20, 1.0),
    "never waiting: 1; Jeon et al. 2019: 0.52, the mean of a shared cluster; Weng et al. 2022: many jobs far below",
)
# GPT-3 21.3 %, MT-NLG 30.2 %, Gopher 32.5 %, PaLM 46.2 % (Chowdhery et al. 2022, arXiv 2204.02311, table 3); Llama 3
# 38 to 43 % (Grattafiori et al. 2024, arXiv 2407.21783); Megatron-LM up to 56.3 % (arXiv 2205.05198). By their model
# card the 1.3 million H100 hours of Llama 3 8B are 16 %; first attempts are often below.
MFU_TRAINING = Assumed(
    Range(0.38, 0.15, 0.56),
    "Chowdhery et al. 2022 (GPT-3 21 %, PaLM 46 %), Llama 3 (38 to 43 %; 8B 16 %), Korthikanti et al. 2022 (56 %)",
)
# Prompts in large batches 76 %; tokens one by one, in small batches, a few per cent.
MFU_INFERENCE = Assumed(
    Range(0.20, 0.03, 0.76), "Pope et al. 2022 (arXiv 2211.05102): 76 % for prompts in large batches"
)
# The mean of US data centres in 2023 by energy is 1.4; that of the operators whom the Uptime Institute asked in 2024
# is 1.56: both are means, and no ends. The largest fleets are below 1.1; in practice it is up to about 2.0, which
# older and cheaper data centres of enterprises come close to (A. Cockcroft, "Cloud PUE: Comparing AWS, Azure and GCP
# Global Regions", The New Stack, January 2025, https://thenewstack.io). A machine below a desk has 1.
PUE = Assumed(
    Range(1.4, 1.0, 2.0),
    "Shehabi et al. 2024 (LBNL; mean of the US 2023); 1 outside a data centre; Cockcroft 2025 (The New Stack): to 2.0",
)
PUE_WHOLE = Assumed(Range(1.0, 1.0, 1.0), "a machine outside a data centre")
# Litres a kWh of the machines, evaporated at the site; US mean of 2023, and that of 2016's report.
WUE = Assumed(Range(0.36, 0.0, 1.8), "Shehabi et al. 2024 (LBNL; US 2023); 1.8 in 2016's report")

# Kaplan et al. 2020 (arXiv 2001.08361, 2.1) and Hoffmann et al. 2022 (arXiv 2203.15556, appendix F): two FLOP a
# parameter and token forward, twice that backward.
FLOP_PER_PARAM_TOKEN_TRAINING = 6.0
FLOP_PER_PARAM_TOKEN_INFERENCE = 2.0
COUNT_SOURCE = "Kaplan et al. 2020, Hoffmann et al. 2022"
