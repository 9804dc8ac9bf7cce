/* Writes RAPL counters from the truth, once a millisecond, as the hardware does.
 *
 * Arguments: the truth file, then for each zone: file, range in uJ, unit in uJ, fault, and the names of the
 * sources that add up to it as indices joined by "+" (8+10+12). The number is always of one length, so that
 * a read beside a write sees one number or the other. fault: 0 none, 1 garbled, 2 empty. */
#include "truth.h"

int main(int argc, char **argv) {
    struct lab *lab = lab_open(argv[1], 0);
    if (!lab) return 1;
    int zones = (argc - 2) / 5;
    int fd[64];
    for (int z = 0; z < zones; z++) fd[z] = open(argv[2 + 5 * z], O_WRONLY);
    int64_t tick = 0;
    for (;; tick++) {
        if (getppid() == 1) return 0; /* the test has died */
        int64_t now = lab_now();
        for (int z = 0; z < zones; z++) {
            char **a = argv + 2 + 5 * z, sources[64], *part, *rest = sources, line[64];
            int64_t range = atoll(a[1]);
            double unit = atof(a[2]), energy = 0;
            int64_t start = 0;
            snprintf(sources, sizeof sources, "%s", a[4]);
            while ((part = strsep(&rest, "+"))) {
                const struct lab_device *d = &lab->device[atoi(part)];
                int64_t at = d->stuck_at_ns && now > d->stuck_at_ns ? d->stuck_at_ns : now;
                energy += lab_energy(lab, d, at, NULL);
                start += d->start_units;
                if (d->reset_at_ns && now >= d->reset_at_ns) { energy -= lab_energy(lab, d, d->reset_at_ns, NULL); start = 0; }
            }
            int64_t value = (start + (int64_t)(floor(energy * 1e6 / unit) * unit)) % range;
            int length = snprintf(line, sizeof line, "%018lld\n", (long long)value);
            if (a[3][0] == '1') length = snprintf(line, sizeof line, "not a number 12345\n");
            if (a[3][0] == '2') { if (ftruncate(fd[z], 0)) return 1; continue; }
            if (pwrite(fd[z], line, (size_t)length, 0) != length) return 1;
        }
        usleep((useconds_t)(700 + 300 * lab_random(lab->seed, 99, tick)));
    }
}
