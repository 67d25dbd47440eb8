#include "pd_broadband.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_time.h"

uint32_t pd_broadband_words(uint32_t n_channels)
{
    return PD_BROADBAND_HEAD_WORDS + (n_channels + 3) / 4 + (n_channels + 7) / 8;
}

int pd_broadband_init(struct pd_broadband *device, const struct pd_broadband_source *source,
                      struct pd_spike *spike, struct pd_ring *ring, uint64_t *record)
{
    if ((source->f32 == NULL) == (source->i16 == NULL)) return -EINVAL;
    if (source->n_samples < 1 || source->n_channels < 1) return -EINVAL;
    if (!(source->rate_hz > 0 && source->rate_hz <= 1e9) || source->late_ns < 0) return -EINVAL;
    if (ring->words != pd_broadband_words(source->n_channels)) return -EINVAL;
    if (pd_spike_index(spike) != 0) return -EINVAL;
    memset(device, 0, sizeof *device);
    device->source = *source;
    device->spike = spike;
    device->ring = ring;
    device->record = record;
    device->start_ns = PD_NO_TIME;
    return 0;
}

/* When the samples before `index` are all there. Seconds and the rest apart: exact for years. */
static int64_t instant_of(const struct pd_broadband *device, int64_t index)
{
    const double rate_hz = device->source.rate_hz;
    const double seconds = floor((double)index / rate_hz);
    const double rest = (double)index - seconds * rate_hz;
    return device->start_ns + (int64_t)seconds * PD_NS_PER_S + (int64_t)llround(rest / rate_hz * 1e9);
}

/* How many samples there still are for the bin that comes next; less than it needs: it never does. */
static uint64_t missing_samples(const struct pd_broadband *device)
{
    return (uint64_t)(pd_spike_bin_end(device->spike) - pd_spike_index(device->spike));
}

static int can_go_on(const struct pd_broadband *device)
{
    return device->source.loop
           || missing_samples(device) <= device->source.n_samples - device->position;
}

static void take_bin(struct pd_broadband *device, uint64_t *record, struct pd_spike_out *out)
{
    const struct pd_broadband_source *source = &device->source;
    const uint32_t channels = source->n_channels;
    for (uint64_t need = missing_samples(device), n; need; need -= n) {
        if (device->position == source->n_samples) {
            device->position = 0;
            record[2] |= PD_BROADBAND_WRAPPED;
        }
        n = source->n_samples - device->position;
        if (n > need) n = need;
        const size_t at = (size_t)device->position * channels;
        if (source->f32) {
            pd_spike_run_f32(device->spike, source->f32 + at, channels, (uint32_t)n, out);
        } else {
            pd_spike_run_i16(device->spike, source->i16 + at, channels, (uint32_t)n, out);
        }
        device->position += n;
    }
}

int64_t pd_broadband_advance(void *self, int64_t now_ns)
{
    struct pd_broadband *device = self;
    const uint32_t channels = device->source.n_channels;
    if (device->start_ns == PD_NO_TIME) device->start_ns = now_ns;
    if (!can_go_on(device)) {
        atomic_store_explicit(&device->ended, 1, memory_order_release);
        return PD_BROADBAND_NEVER;
    }
    const int64_t t_ns = instant_of(device, pd_spike_bin_end(device->spike));
    if (now_ns < t_ns) return t_ns;

    uint64_t *record = device->record;
    memset(record, 0, pd_broadband_words(channels) * sizeof *record);
    uint16_t *counts = (void *)(record + PD_BROADBAND_HEAD_WORDS);
    uint8_t *flags = (void *)(record + PD_BROADBAND_HEAD_WORDS + (channels + 3) / 4);
    struct pd_spike_out out = {.counts = counts, .flags = flags, .max_bins = 1};
    record[0] = (uint64_t)pd_spike_bin(device->spike);
    record[1] = (uint64_t)t_ns;
    const unsigned fp = pd_fp_enter();
    take_bin(device, record, &out);
    pd_fp_leave(fp);
    if (now_ns - t_ns > device->source.late_ns) {
        record[2] |= PD_BROADBAND_LATE;
        atomic_fetch_add_explicit(&device->late, 1, memory_order_relaxed);
    }
    uint64_t spikes = 0;
    for (uint32_t c = 0; c < channels; c++) spikes += counts[c];
    pd_ring_push(device->ring, record);
    atomic_fetch_add_explicit(&device->spikes, spikes, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->bins, 1, memory_order_release);
    return instant_of(device, pd_spike_bin_end(device->spike));
}
