#!/usr/bin/python3
"""compare.py speed|memory MIB: reads the lines "WHO FIGURE VALUE" of scenarios/90-compare.sh, prints ours beside QEMU's,
with targets."""
import statistics
import sys

table, mib = sys.argv[1], int(sys.argv[2])
figures = {}
for line in sys.stdin:
    who, figure, value = line.split()
    figures[who, figure] = float(value)


# Of each there are as many rounds; the first half warms up, above all the compiler of our process.
ROUNDS = sum(1 for who, figure in figures if who == 'native' and figure.startswith('to_seconds'))


def warm(who, figure):
    """The median of the second half of the rounds."""
    return statistics.median(figures[who, '%s%d' % (figure, i)] for i in range(ROUNDS // 2 + 1, ROUNDS + 1))


def best(who, figure):
    """The round in which the machine disturbed least."""
    return min(figures[who, '%s%d' % (figure, i)] for i in range(1, ROUNDS + 1))


def row(title, qemu, native, target=None):
    """`target`: at least (positive) or at most (negative) so many times QEMU's."""
    ratio = native / qemu if qemu else float('inf')
    verdict = ''
    if target is not None:
        met = ratio >= target if target > 0 else ratio <= -target
        verdict = '%s %.2g: %s' % ('at least' if target > 0 else 'at most', abs(target), 'met' if met else 'MISSED')
    print('%-38s %9.2f %9.2f %6.2f  %s' % (title, qemu, native, ratio, verdict))


def rows(title, value, target=None):
    row(title, value('qemu'), value('native'), target)


def print_speed():
    for pick, judged in ((warm, True), (best, False)):
        if not judged:
            print('--- the best round of each, not judged')
        rows('to the guest, MiB/s', lambda who: mib / pick(who, 'to_seconds'), 1.4 if judged else None)
        rows('from the guest, MiB/s', lambda who: mib / pick(who, 'from_seconds'), 1 if judged else None)
        rows('to the guest, CPU ticks/MiB', lambda who: pick(who, 'to_ticks') / mib, -1 if judged else None)
        rows('from the guest, CPU ticks/MiB', lambda who: pick(who, 'from_ticks') / mib, -1 if judged else None)
        rows('64-byte round trip p50, ms', lambda who: pick(who, 'trip_p50_'), -1.2 if judged else None)
        rows('300 round trips, CPU ticks', lambda who: pick(who, 'trip_ticks'))
    for round_number in range(1, ROUNDS + 1):
        print('round %d: ' % round_number + '; '.join(
            '%s %s' % (who, ' '.join('%s %g' % (figure, figures[who, figure + str(round_number)]) for figure in
                                     ('to_seconds', 'from_seconds', 'to_ticks', 'from_ticks', 'trip_p50_',
                                      'trip_ticks')))
            for who in ('qemu', 'native')))


def print_memory():
    for domains in (1, 3):
        for kind in ('pss', 'rss', 'anonymous'):
            rows('%s, %d domain%s, MiB' % (kind, domains, 's' if domains > 1 else ''),
                 lambda who: figures[who, '%s%d' % (kind, domains)] / 1024,
                 -1 if domains == 3 and kind in ('pss', 'rss') else None)


print('%-38s %9s %9s %6s  %s' % ('', 'QEMU', 'ours', 'ratio', 'target'))
print_speed() if table == 'speed' else print_memory()
