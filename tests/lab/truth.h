/* The true power of virtual devices, shared by all processes: one file, mapped. Mirrors tests/lab/truth.py.
 *
 * A device has a log of steps: from t_ns on it is fed `watts`; `energy_j` and `drawn_w` are what it had
 * drawn, and drew, at t_ns. With a lag of tau seconds the drawn power y follows the fed power p as
 *     y(t) = p + (y0 - p) exp(-(t - t0) / tau)
 * so that the energy since t0 is p dt + (y0 - p) tau (1 - exp(-dt / tau)).
 */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LAB_MAGIC 0x4c414231
#define LAB_DEVICES 16

struct lab_step {
    int64_t t_ns;
    double watts, energy_j, drawn_w;
};

struct lab_device {
    char name[96], uuid[64];
    int64_t energy_supported, fields_supported, geforce, grace, mig, undercounts;
    int64_t start_units;       /* counter value at base_ns: mJ (GPU) or uJ (RAPL) */
    int64_t lost_at_ns, stuck_at_ns, reset_at_ns, no_permission, call_delay_us;
    int64_t user_pid[2], user_busy[2];  /* processes that hold the board, and their SM use in per cent */
    double tick_s, phase_s, jitter_low_s, jitter_high_s;      /* energy counter */
    double refresh_s, refresh_phase_s, window_s;              /* power fields */
    double lag_s;
    int64_t log_offset, log_capacity;
    volatile int64_t log_count;
};

struct lab {
    int64_t magic, size, device_size, gpus, base_ns, seed;
    struct lab_device device[LAB_DEVICES];
};

static inline int64_t lab_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline struct lab *lab_open(const char *path, int write) {
    int fd = open(path, write ? O_RDWR : O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) return NULL;
    struct lab *lab = mmap(NULL, st.st_size, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    close(fd);
    if (lab == MAP_FAILED || lab->magic != LAB_MAGIC) return NULL;
    if (lab->size != sizeof *lab || lab->device_size != sizeof lab->device[0]) {
        fprintf(stderr, "lab: layout differs from truth.py: %zu, %zu\n", sizeof *lab, sizeof lab->device[0]);
        abort();
    }
    return lab;
}

/* Energy drawn since base_ns, joules; *drawn_w is the power drawn then. */
static inline double lab_energy(const struct lab *lab, const struct lab_device *d, int64_t t_ns, double *drawn_w) {
    const struct lab_step *log = (const void *)((const char *)lab + d->log_offset);
    int64_t low = 0, high = d->log_count - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (log[middle].t_ns <= t_ns) low = middle; else high = middle - 1;
    }
    const struct lab_step *s = &log[low];
    double dt = (t_ns - s->t_ns) / 1e9;
    double fade = d->lag_s > 0 ? exp(-dt / d->lag_s) : 0.0;
    if (drawn_w) *drawn_w = s->watts + (s->drawn_w - s->watts) * fade;
    return s->energy_j + s->watts * dt + (s->drawn_w - s->watts) * d->lag_s * (1 - fade);
}

/* A number in [0, 1) that every process computes alike (splitmix64). */
static inline double lab_random(int64_t seed, int64_t device, int64_t tick) {
    uint64_t z = (uint64_t)seed * 0x9e3779b97f4a7c15u + (uint64_t)device * 0xbf58476d1ce4e5b9u + (uint64_t)tick;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((z ^ (z >> 31)) >> 11) * (1.0 / 9007199254740992.0);
}

static inline int64_t lab_tick_time(const struct lab *lab, int index, int64_t tick) {
    const struct lab_device *d = &lab->device[index];
    double jitter = d->jitter_low_s + (d->jitter_high_s - d->jitter_low_s) * lab_random(lab->seed, index, tick);
    return lab->base_ns + (int64_t)((d->phase_s + tick * d->tick_s + jitter) * 1e9);
}

/* When the counter of device `index` last ticked before t_ns. */
static inline int64_t lab_last_tick(const struct lab *lab, int index, int64_t t_ns) {
    const struct lab_device *d = &lab->device[index];
    int64_t tick = (int64_t)floor(((t_ns - lab->base_ns) / 1e9 - d->phase_s) / d->tick_s);
    while (lab_tick_time(lab, index, tick) > t_ns) tick--;
    int64_t at = lab_tick_time(lab, index, tick);
    return at < lab->base_ns ? lab->base_ns : at;
}
