/* A libnvidia-ml.so.1 whose boards draw the power that truth.h tells, read with a real sensor's faults:
 * the energy counter ticks with a period, a phase and jitter; power fields are means over a window,
 * refreshed at a phase of their own. The real pynvml and the peers run on it unchanged. */
#include "truth.h"

enum { OK = 0, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, LOST = 15, UNINITIALIZED = 1 };
struct handle { int index, mig; };
typedef struct handle *device_t;

static struct lab *lab;
static struct handle handles[LAB_DEVICES][3];

static int begin(device_t h, const struct lab_device **d, int64_t *now) {
    if (!lab) return UNINITIALIZED;
    if (!h) return BAD_ARGUMENT;
    *d = &lab->device[h->index];
    if ((*d)->call_delay_us) usleep((useconds_t)(*d)->call_delay_us);
    *now = lab_now();
    if ((*d)->lost_at_ns && *now >= (*d)->lost_at_ns) return LOST;
    return OK;
}
#define BEGIN const struct lab_device *d; int64_t now; int rc = begin(h, &d, &now); if (rc) return rc;

static double mean_w(const struct lab_device *d, int64_t now, double window_s) {
    double since = (now - lab->base_ns) / 1e9 - d->refresh_phase_s;
    int64_t end = lab->base_ns + (int64_t)((floor(since / d->refresh_s) * d->refresh_s + d->refresh_phase_s) * 1e9);
    int64_t start = end - (int64_t)(window_s * 1e9);
    return (lab_energy(lab, d, end, NULL) - lab_energy(lab, d, start, NULL)) / window_s;
}

static int64_t counter_mj(const struct lab_device *d, int64_t now) {
    if (d->stuck_at_ns && now > d->stuck_at_ns) now = d->stuck_at_ns;
    int64_t tick = lab_last_tick(lab, (int)(d - lab->device), now);
    double energy = lab_energy(lab, d, tick, NULL);
    if (d->reset_at_ns && tick >= d->reset_at_ns) return (int64_t)((energy - lab_energy(lab, d, d->reset_at_ns, NULL)) * 1e3);
    return d->start_units + (int64_t)floor(energy * 1e3);
}

/* A board that loses energy by being read (RTX 4090: -76 % at 10 ms, -13 % at 100 ms, -1.6 % at 1 s; Dauner et al.,
 * HotCarbon 2026): each read costs what was drawn since the one before, up to 13 ms of it and at most 76 %. What is shown
 * changes at the ticks alone. In the driver this is common to all readers; here each process has its own. */
static int64_t undercounted_mj(const struct lab_device *d, int64_t now) {
    static struct { int64_t read_ns, tick_ns, shown_mj; double lost_j; } seen[LAB_DEVICES];
    int index = (int)(d - lab->device);
    int64_t tick = lab_last_tick(lab, index, now);
    if (seen[index].read_ns) {
        double since = (now - seen[index].read_ns) / 1e9, lost = since * 0.76 < 0.013 ? since * 0.76 : 0.013;
        double drawn = lab_energy(lab, d, now, NULL) - lab_energy(lab, d, seen[index].read_ns, NULL);
        seen[index].lost_j += since > 0 ? drawn * lost / since : 0;
    }
    seen[index].read_ns = now;
    if (tick != seen[index].tick_ns) {
        int64_t value = d->start_units + (int64_t)floor((lab_energy(lab, d, tick, NULL) - seen[index].lost_j) * 1e3);
        if (value > seen[index].shown_mj) seen[index].shown_mj = value;
        seen[index].tick_ns = tick;
    }
    return seen[index].shown_mj;
}

int nvmlInit_v2(void) {
    const char *path = getenv("ENERGYPROF_LAB");
    if (!lab) lab = path ? lab_open(path, 0) : NULL;
    return lab ? OK : UNINITIALIZED;
}
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case LOST: return "GPU is lost";
    default: return "Error";
    }
}
static int text(char *out, unsigned size, const char *value) { snprintf(out, size, "%s", value); return OK; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(out, size, "580.00.lab"); }
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { return text(out, size, "13.580.00"); }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 13000; return OK; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { if (!lab) return UNINITIALIZED; *n = (unsigned)lab->gpus; return OK; }
int nvmlDeviceGetCount(unsigned *n) { return nvmlDeviceGetCount_v2(n); }
static device_t handle_of(int index, int mig) {
    handles[index][mig] = (struct handle){index, mig};
    return &handles[index][mig];
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device_t *h) {
    if (!lab) return UNINITIALIZED;
    if (i >= (unsigned)lab->gpus) return BAD_ARGUMENT;
    *h = handle_of((int)i, 0);
    return OK;
}
int nvmlDeviceGetHandleByIndex(unsigned i, device_t *h) { return nvmlDeviceGetHandleByIndex_v2(i, h); }
static void uuid_of(device_t h, char *out) {
    const char *uuid = lab->device[h->index].uuid;
    if (h->mig) snprintf(out, 96, "MIG-%s-%d", uuid + 4, h->mig); else snprintf(out, 96, "%s", uuid);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *h) {
    if (!lab) return UNINITIALIZED;
    for (int i = 0; i < lab->gpus; i++)
        for (int m = 0; m <= (lab->device[i].mig ? 2 : 0); m++) {
            char mine[96];
            uuid_of(handle_of(i, m), mine);
            if (strcmp(mine, uuid) == 0) { *h = handle_of(i, m); return OK; }
        }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(device_t h, char *out, unsigned size) { BEGIN; char u[96]; uuid_of(h, u); return text(out, size, u); }
int nvmlDeviceGetName(device_t h, char *out, unsigned size) { BEGIN; return text(out, size, d->name); }
int nvmlDeviceGetIndex(device_t h, unsigned *i) { BEGIN; *i = (unsigned)h->index; return h->mig ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetMinorNumber(device_t h, unsigned *i) { BEGIN; *i = (unsigned)h->index; return OK; }
int nvmlDeviceGetBrand(device_t h, unsigned *b) { BEGIN; *b = d->geforce ? 5 : 14; return OK; }
int nvmlDeviceGetArchitecture(device_t h, unsigned *a) { BEGIN; *a = 9; return OK; }
int nvmlDeviceGetCudaComputeCapability(device_t h, int *a, int *b) { BEGIN; *a = 9; *b = 0; return OK; }

int nvmlDeviceGetTotalEnergyConsumption(device_t h, unsigned long long *mj) {
    BEGIN;
    if (d->no_permission) return NO_PERMISSION;
    if (!d->energy_supported || h->mig) return NOT_SUPPORTED;
    *mj = (unsigned long long)(d->undercounts ? undercounted_mj(d, now) : counter_mj(d, now));
    return OK;
}
int nvmlDeviceGetPowerUsage(device_t h, unsigned *mw) {
    BEGIN;
    if (d->no_permission) return NO_PERMISSION;
    if (h->mig) return NOT_SUPPORTED;
    *mw = (unsigned)(mean_w(d, now, 1.0) * 1e3);
    return OK;
}
struct field { unsigned id, scope; int64_t timestamp_us, latency_us; unsigned type; int rc; union { double d; unsigned ui; unsigned long long ull; } v; };
int nvmlDeviceGetFieldValues(device_t h, int count, struct field *f) {
    BEGIN;
    for (int i = 0; i < count; i++) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        f[i].timestamp_us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
        f[i].latency_us = 1;
        f[i].type = 1;
        f[i].rc = d->no_permission ? NO_PERMISSION : OK;
        if (h->mig || (f[i].scope && !(f[i].scope == 1 && d->grace))) f[i].rc = NOT_SUPPORTED;
        else if (f[i].id == 186 && d->fields_supported) f[i].v.ui = (unsigned)(mean_w(d, now, d->window_s) * 1e3);
        else if (f[i].id == 185 && d->fields_supported) f[i].v.ui = (unsigned)(mean_w(d, now, 1.0) * 1e3);
        else if (f[i].id == 83 && d->energy_supported) { f[i].type = 3; f[i].v.ull = (unsigned long long)counter_mj(d, now); }
        else f[i].rc = NOT_SUPPORTED;
    }
    return OK;
}
int nvmlDeviceGetTemperature(device_t h, int sensor, unsigned *c) {
    BEGIN; (void)sensor;
    double w; lab_energy(lab, d, now, &w);
    *c = (unsigned)(30 + w / 15);
    return OK;
}
struct temperature { unsigned version; unsigned sensor; int celsius; };
int nvmlDeviceGetTemperatureV(device_t h, struct temperature *t) {
    unsigned c; int rc = nvmlDeviceGetTemperature(h, 0, &c);
    t->celsius = (int)c;
    return rc;
}
int nvmlDeviceGetUtilizationRates(device_t h, unsigned *rates) {
    BEGIN;
    double w; lab_energy(lab, d, now, &w);
    rates[0] = w > 150 ? 100 : 0; rates[1] = rates[0] / 2;
    return h->mig ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetClockInfo(device_t h, int type, unsigned *mhz) { BEGIN; (void)type; *mhz = 1980; return OK; }
int nvmlDeviceGetMaxClockInfo(device_t h, int type, unsigned *mhz) { BEGIN; (void)type; *mhz = 1980; return OK; }
static int limit(device_t h, unsigned *mw) { BEGIN; *mw = 700000; return h->mig ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetEnforcedPowerLimit(device_t h, unsigned *mw) { return limit(h, mw); }
int nvmlDeviceGetPowerManagementLimit(device_t h, unsigned *mw) { return limit(h, mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(device_t h, unsigned *mw) { return limit(h, mw); }
int nvmlDeviceGetPowerManagementLimitConstraints(device_t h, unsigned *a, unsigned *b) { *a = 200000; return limit(h, b); }
int nvmlDeviceGetPersistenceMode(device_t h, unsigned *on) { BEGIN; *on = 1; return OK; }
int nvmlDeviceGetComputeMode(device_t h, unsigned *mode) { BEGIN; *mode = 0; return OK; }
int nvmlDeviceGetMigMode(device_t h, unsigned *now_, unsigned *next) { BEGIN; *now_ = *next = (unsigned)d->mig; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(device_t h, unsigned *n) { BEGIN; *n = d->mig ? 2 : 0; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device_t h, unsigned i, device_t *mig) {
    BEGIN;
    if (!d->mig || i >= 2) return NOT_FOUND;
    *mig = handle_of(h->index, (int)i + 1);
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t h, device_t *parent) {
    BEGIN;
    if (!h->mig) return BAD_ARGUMENT;
    *parent = handle_of(h->index, 0);
    return OK;
}
int nvmlDeviceIsMigDeviceHandle(device_t h, unsigned *yes) { BEGIN; *yes = h->mig > 0; return OK; }
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(device_t h, struct memory *m) {
    BEGIN;
    *m = (struct memory){80ull << 30, 79ull << 30, 1ull << 30};
    return OK;
}
static int nobody(device_t h, unsigned *count) { BEGIN; *count = 0; return OK; }
enum { INSUFFICIENT_SIZE = 7 };
struct user { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(device_t h, unsigned *n, struct user *out) {
    BEGIN;
    unsigned used = 0;
    for (int i = 0; i < 2; i++) if (d->user_pid[i]) {
        if (out && used < *n) out[used] = (struct user){(unsigned)d->user_pid[i], 1 << 20, ~0u, ~0u};
        used++;
    }
    int fits = used == 0 || (out && used <= *n);
    *n = used;
    return fits ? OK : INSUFFICIENT_SIZE;
}
struct use { unsigned pid; unsigned long long time_us; unsigned sm, mem, enc, dec; };
int nvmlDeviceGetProcessUtilization(device_t h, struct use *out, unsigned *n, unsigned long long since_us) {
    BEGIN;
    unsigned used = 0;
    for (int i = 0; i < 2; i++) if (d->user_pid[i]) {
        if (out && used < *n)
            out[used] = (struct use){(unsigned)d->user_pid[i], since_us + 1000000, (unsigned)d->user_busy[i], 0, 0, 0};
        used++;
    }
    int fits = used == 0 || (out && used <= *n);
    *n = used;
    return used == 0 ? NOT_FOUND : fits ? OK : INSUFFICIENT_SIZE;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t h, unsigned *n, void *p) { (void)p; return nobody(h, n); }
