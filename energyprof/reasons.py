"""Why a number is missing, or what to know about it: one list of codes, each with what a user can do.

The codes are stored in the dataset (columns `reason` and `flags`), so their spelling never changes.
Plain strings and a dict: this module is read at the start of a run in the user's own process.
"""

from __future__ import annotations

NO_PERMISSION = "no_permission"
NOT_SUPPORTED = "not_supported"
BELOW_RESOLUTION = "below_resolution"
SENSOR_GAP = "sensor_gap"
COUNTER_RESET = "counter_reset"
DEVICE_LOST = "device_lost"
METERS_DISAGREE = "meters_disagree"
SHARED_DEVICE = "shared_device"
MIG_PARENT_POWER = "mig_parent_power"
MODELLED_ONLY = "modelled_only"
PHASE_LOCKED = "phase_locked"
COLLINEAR = "collinear"
CLOCK_SUSPENDED = "clock_suspended"
RECOVERED = "recovered"
VIRTUALISED_COUNTER = "virtualised_counter"
OVERLAP = "overlap"
IN_PROCESS = "in_process"
ASSUMED_LOCATION = "assumed_location"
INTENSITY_FALLBACK = "intensity_fallback"
LACK_OF_FIT = "lack_of_fit"
DEVICE_TIMES = "device_times"
DEVICE_CLOCK = "device_clock"
LAYERS_TIMED = "layers_timed"
NOT_SEEN = "not_seen"
NOT_ALONE = "not_alone"
NO_STEPS = "no_steps"
FEW_STEPS = "few_steps"

MEANING: dict[str, str] = {
    NO_PERMISSION: "the meter is there but may not be read; `energyprof doctor` prints the remedy",
    NOT_SUPPORTED: "this machine or device has no such meter",
    BELOW_RESOLUTION: "shorter than the meter's tick; make the region longer or repeat it",
    SENSOR_GAP: "the meter gave no reading for longer than it should",
    COUNTER_RESET: "the counter went back to zero or wrapped more often than can be known",
    DEVICE_LOST: "the device stopped answering during the run",
    METERS_DISAGREE: "two meters of one device differ by more than their stated accuracy",
    SHARED_DEVICE: "other programs used the device at the same time",
    MIG_PARENT_POWER: "power is the whole GPU's, not the MIG slice's",
    MODELLED_ONLY: "nothing was measured; every joule is from a model",
    PHASE_LOCKED: "the loop runs in step with the sensor; vary its period",
    COLLINEAR: "the readings cannot tell this region from the others; make it longer, or run longer",
    CLOCK_SUSPENDED: "the machine slept during the run",
    RECOVERED: "sealed after the meter had been killed; what came after its last reading is missing",
    VIRTUALISED_COUNTER: "the counter comes from a hypervisor, which may estimate it",
    OVERLAP: "regions of several threads ran at once; their joules overlap",
    IN_PROCESS: "no metering process could be started; a thread read the meters instead",
    ASSUMED_LOCATION: "no place was given: the world average intensity; say country= or --country",
    INTENSITY_FALLBACK: "for some of the run the intensity that was asked for was not to be had; another stands in",
    LACK_OF_FIT: "the model of constant power a region does not fit the readings",
    DEVICE_TIMES: "when some regions ran on the GPU is not known; host times stand in for them",
    NOT_SEEN: "the layer worked where it could not be followed: in compiled code, or in another thread",
    LAYERS_TIMED: "layers were timed or FLOPs counted in this step: it is a little slower, and in no mean",
    NO_STEPS: "the run counted no steps; iterate over `run.steps(...)`",
    FEW_STEPS: "too few steps ran, or they were too short for the meters, to forecast the whole training",
    NOT_ALONE: "the layer cannot be called outside its model; what it raised is printed",
    DEVICE_CLOCK: "the GPU's clock and the host's went apart; host times stand in where they did",
}
