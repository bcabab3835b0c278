// What a survey reads of response maps and of blocks of stimuli, in one pass over memory each.
//
// An acceleration only: each function has a twin in Python that gives the same bits, and is used where there is no
// compiler. So sums of real numbers are taken in one stated order: nothing may be reassociated (no -ffast-math) or
// fused (-ffp-contract=off), and threads share out what is independent, never a sum.
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr long CHUNK = 256;  // positions that are summed up together
constexpr long ROWS = 8;     // a chunk is seen as up to 8 rows of up to 32 positions
constexpr long GROUP = 64;   // units that a thread takes at a time
constexpr long STEPS = 8;    // positions of each row that are taken of all stimuli in turn, while their map is at hand

#if defined(__AVX512F__)
constexpr long WIDE = 16, ABREAST = 4;  // lanes of a register, and how many of them there are room for side by side
#elif defined(__AVX__)
constexpr long WIDE = 8, ABREAST = 1;
#else
constexpr long WIDE = 4, ABREAST = 1;
#endif
typedef float Wide __attribute__((vector_size(4 * WIDE)));
typedef float Four __attribute__((vector_size(16)));

template <class T> inline T load(const float *from)
{
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}
template <class T> inline void store(float *to, T value) { std::memcpy(to, &value, sizeof(T)); }
template <class T> inline T more(T a, T b) { return a > b ? a : b; }
template <class T> inline T less(T a, T b) { return a < b ? a : b; }

struct Places {
    float *high, *low, *sum, *above;
};

// What is known of some lanes (units or positions) of a chunk: extremes, sum, how many were above zero.
template <class T> struct Reading {
    T high = T{} - INFINITY, low = T{} + INFINITY, sum{}, above{};

    void resume(Places at, long i)
    {
        high = load<T>(at.high + i), low = load<T>(at.low + i), sum = load<T>(at.sum + i), above = load<T>(at.above + i);
    }
    void leave(Places at, long i) const
    {
        store(at.high + i, high), store(at.low + i, low), store(at.sum + i, sum), store(at.above + i, above);
    }

    // One position of all rows, for as many rows as have one. They are also added to the response map.
    template <int rows> inline void take(const float *x, float *map, long apart, long apart_on_map)
    {
        T a[ROWS]{};
        for (int i = 0; i < rows; i++) a[i] = load<T>(x + i * apart);
        T up = a[0], down = a[0];
        for (int i = 1; i < rows; i++) up = more(a[i], up), down = less(a[i], down);
        high = more(up, high);
        low = less(down, low);
        T one[ROWS]{};
        for (int i = 0; i < rows; i++) one[i] = a[i] > 0 ? T{} + 1.0f : T{};
        above += ((one[0] + one[1]) + (one[2] + one[3])) + ((one[4] + one[5]) + (one[6] + one[7]));  // exact to 2^24
        for (int i = 0; i < rows; i++) {
            float *sum_here = map + i * apart_on_map;
            store<T>(sum_here, load<T>(sum_here) + a[i]);
        }
        sum += ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]));
    }

    template <int rows> inline void run(long from, long to, const float *x, float *map, long step, long apart)
    {
        for (long p = from; p < to; p++) take<rows>(x + p * step, map + p * step, apart, apart);
    }

    void steps(long rows, long from, long to, const float *x, float *map, long step, long apart)
    {
        switch (rows) {
        case 8: return run<8>(from, to, x, map, step, apart);
        case 7: return run<7>(from, to, x, map, step, apart);
        case 6: return run<6>(from, to, x, map, step, apart);
        case 5: return run<5>(from, to, x, map, step, apart);
        case 4: return run<4>(from, to, x, map, step, apart);
        case 3: return run<3>(from, to, x, map, step, apart);
        case 2: return run<2>(from, to, x, map, step, apart);
        case 1: return run<1>(from, to, x, map, step, apart);
        }
    }
};

// A chunk of `length` positions: rows of `row`, the last of which may be shorter.
struct Shape {
    long row, rows, full;  // steps before `full` have all rows, later ones have one less
    explicit Shape(long length)
        : row((length + ROWS - 1) / ROWS), rows((length + row - 1) / row), full(length - (rows - 1) * row)
    {
    }
};

// Channels lie side by side: a lane is a unit. `abreast` neighbors are read together, so that memory comes in order.
template <class T, int abreast, int rows>
inline void steps_of_units(Reading<T> (&of)[abreast], long steps, const float *x, float *map, long units, long apart)
{
    constexpr long lanes = sizeof(T) / 4, width = abreast * lanes;
    for (long p = 0; p < steps; p++)
#pragma GCC unroll 4
        for (int i = 0; i < abreast; i++)
            of[i].template take<rows>(x + p * units + i * lanes, map + p * ROWS * width + i * lanes, apart, width);
}

template <class T, int abreast>
inline void steps_of_units(Reading<T> (&of)[abreast], long rows, long steps, const float *x, float *map, long units,
                           long apart)
{
    switch (rows) {
    case 8: return steps_of_units<T, abreast, 8>(of, steps, x, map, units, apart);
    case 7: return steps_of_units<T, abreast, 7>(of, steps, x, map, units, apart);
    case 6: return steps_of_units<T, abreast, 6>(of, steps, x, map, units, apart);
    case 5: return steps_of_units<T, abreast, 5>(of, steps, x, map, units, apart);
    case 4: return steps_of_units<T, abreast, 4>(of, steps, x, map, units, apart);
    case 3: return steps_of_units<T, abreast, 3>(of, steps, x, map, units, apart);
    case 2: return steps_of_units<T, abreast, 2>(of, steps, x, map, units, apart);
    case 1: return steps_of_units<T, abreast, 1>(of, steps, x, map, units, apart);
    }
}

// A chunk of some stimuli's maps, `stimulus` floats apart, for units of the first `at`; answers lie `answer` apart.
struct Stack {
    const float *x;
    float *map;
    long count, stimulus, units, answer;
    const uint8_t *readable;
};

template <class T, int abreast> inline void chunk_of_units(const Stack &of, Shape chunk, Places to, long at)
{
    constexpr long lanes = sizeof(T) / 4, width = abreast * lanes;
    alignas(64) float map[STEPS * ROWS * width];  // on the map itself, rows may lie at distances that share a cache line
    for (long from = 0; from < chunk.row; ) {
        const long whole = from < chunk.full ? chunk.full : chunk.row, end = whole < from + STEPS ? whole : from + STEPS;
        const long rows = chunk.rows - (from >= chunk.full);
        for (long p = from; p < end; p++)
            for (long i = 0; i < rows; i++)
                std::memcpy(map + ((p - from) * ROWS + i) * width, of.map + (i * chunk.row + p) * of.units, 4 * width);
        for (long n = 0; n < of.count; n++) {
            if (!of.readable[n]) continue;
            Reading<T> here[abreast];
            const long place = at + n * of.answer;
            if (from)
                for (int i = 0; i < abreast; i++) here[i].resume(to, place + i * lanes);
            steps_of_units<T, abreast>(here, rows, end - from, of.x + n * of.stimulus + from * of.units, map, of.units,
                                       chunk.row * of.units);
            for (int i = 0; i < abreast; i++) here[i].leave(to, place + i * lanes);
        }
        for (long p = from; p < end; p++)
            for (long i = 0; i < rows; i++)
                std::memcpy(of.map + (i * chunk.row + p) * of.units, map + ((p - from) * ROWS + i) * width, 4 * width);
        from = end;
    }
}

// Positions lie side by side: a lane is a position, and the sums of a chunk's steps are added in their order.
template <class T> inline long lanes(long p, long to, long rows, long row, const float *x, float *map, Places kept)
{
    for (; p + long(sizeof(T) / 4) <= to; p += sizeof(T) / 4) {
        Reading<T> reading;
        reading.steps(rows, 0, 1, x + p, map + p, 0, row);
        reading.leave(kept, p);
    }
    return p;
}

inline void chunk_of_positions(const float *x, float *map, Shape chunk, Places to, long at)
{
    float high[32], low[32], sum[32], above[32];
    Places kept{high, low, sum, above};
    for (int part = 0; part < 2; part++) {
        long p = part ? chunk.full : 0, end = part ? chunk.row : chunk.full;
        p = lanes<Wide>(p, end, chunk.rows - part, chunk.row, x, map, kept);
        p = lanes<Four>(p, end, chunk.rows - part, chunk.row, x, map, kept);
        lanes<float>(p, end, chunk.rows - part, chunk.row, x, map, kept);
    }
    Reading<float> whole;
    for (long p = 0; p < chunk.row; p++) {
        whole.high = more(high[p], whole.high);
        whole.low = less(low[p], whole.low);
        whole.sum += sum[p];
        whole.above += above[p];
    }
    to.high[at] = whole.high, to.low[at] = whole.low, to.sum[at] = whole.sum, to.above[at] = whole.above;
}

}  // namespace

extern "C" {

// One site's ear: where its answers to a block go, [stimulus unit] each.
struct Ear {
    long units, positions, center, k, renewed;
    float *map;                              // sums per unit and position, in the order of the responses' memory
    float *peak, *trough, *mean, *above;     // above: positive positions
    uint8_t *centered, *counted;             // positive at the center; finite
    int32_t *highest, *lowest;               // position of the peak and the trough, where they enter the lists; else -1
    float *floors[2];                        // [unit k] the best values so far, highest first, of each sign
    float *scratch;                          // 4 x stimuli x chunks x units
};

static inline bool enters(float value, float *floor, long k, bool renewed)
{
    if (!(value > floor[k - 1])) return false;
    if (!renewed) return true;
    long at = k - 1;
    for (; at > 0 && value > floor[at - 1]; at--) floor[at] = floor[at - 1];
    floor[at] = value;
    return true;
}

// Take in `count` stimuli, the first of which is number `first` of the block. `last`: channels lie side by side.
void hear(const Ear *ear, const float *x, long first, long count, long last, const uint8_t *readable)
{
    const long units = ear->units, positions = ear->positions;
    const long chunks = (positions + CHUNK - 1) / CHUNK, groups = (units + GROUP - 1) / GROUP;
    const long size = count * chunks * units;
    const Places parts{ear->scratch, ear->scratch + size, ear->scratch + 2 * size, ear->scratch + 3 * size};
#pragma omp parallel for schedule(static) collapse(2)
    for (long q = 0; q < chunks; q++)
        for (long g = 0; g < groups; g++) {
            const long from = q * CHUNK, length = positions - from < CHUNK ? positions - from : CHUNK;
            const long end = units < (g + 1) * GROUP ? units : (g + 1) * GROUP;
            const Shape chunk(length);
            long u = g * GROUP;
            const auto stack = [=](long unit) {
                return Stack{x + from * units + unit, ear->map + from * units + unit, count, positions * units, units,
                             chunks * units, readable};
            };
            if (last) {
                for (; u + ABREAST * WIDE <= end; u += ABREAST * WIDE)
                    chunk_of_units<Wide, ABREAST>(stack(u), chunk, parts, q * units + u);
                for (; u + WIDE <= end; u += WIDE) chunk_of_units<Wide, 1>(stack(u), chunk, parts, q * units + u);
                for (; u + 4 <= end; u += 4) chunk_of_units<Four, 1>(stack(u), chunk, parts, q * units + u);
                for (; u < end; u++) chunk_of_units<float, 1>(stack(u), chunk, parts, q * units + u);
                continue;
            }
            for (; u < end; u++)
                for (long n = 0; n < count; n++)
                    if (readable[n])
                        chunk_of_positions(x + (n * units + u) * positions + from, ear->map + u * positions + from, chunk,
                                           parts, (n * chunks + q) * units + u);
        }
#pragma omp parallel for schedule(static)
    for (long g = 0; g < groups; g++) {
        const long end = units < (g + 1) * GROUP ? units : (g + 1) * GROUP;
        for (long n = 0; n < count; n++)
            for (long u = g * GROUP; u < end; u++) {
                const long to = (first + n) * units + u;
                ear->highest[to] = ear->lowest[to] = -1;
                ear->counted[to] = ear->centered[to] = 0;
                ear->peak[to] = ear->trough[to] = ear->mean[to] = ear->above[to] = 0;
                if (!readable[n]) continue;
                Reading<float> whole;
                long high = 0, low = 0;
                for (long q = 0; q < chunks; q++) {
                    const long at = (n * chunks + q) * units + u;
                    if (parts.high[at] > whole.high) whole.high = parts.high[at], high = q;
                    if (parts.low[at] < whole.low) whole.low = parts.low[at], low = q;
                    whole.sum += parts.sum[at];
                    whole.above += parts.above[at];
                }
                const float mean = whole.sum / float(positions);
                if (!(std::isfinite(whole.high) && std::isfinite(whole.low) && std::isfinite(mean))) continue;
                const long step = last ? units : 1;
                const float *map = x + (last ? n * positions * units + u : (n * units + u) * positions);
                ear->counted[to] = 1;
                ear->peak[to] = whole.high + 0.0f;  // no zero below zero
                ear->trough[to] = whole.low + 0.0f;
                ear->mean[to] = mean;
                ear->above[to] = whole.above;
                ear->centered[to] = map[ear->center * step] > 0;
                if (enters(ear->peak[to], ear->floors[0] + u * ear->k, ear->k, ear->renewed)) {
                    long p = high * CHUNK;
                    while (map[p * step] != whole.high) p++;
                    ear->highest[to] = int32_t(p);
                }
                if (enters(0.0f - ear->trough[to], ear->floors[1] + u * ear->k, ear->k, ear->renewed)) {
                    long p = low * CHUNK;
                    while (map[p * step] != whole.low) p++;
                    ear->lowest[to] = int32_t(p);
                }
            }
    }
}

// Let the responses of a block, whose images are later than all that are held, contend for the k places of each unit.
void insert(long units, long k, float sign, float *value, int64_t *image, int32_t *row, int32_t *col, long stimuli,
            const float *responses, const int32_t *place, int64_t first, long cols)
{
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + 15) / 16; g++)
        for (long n = 0; n < stimuli; n++)
            for (long u = g * 16; u < units && u < g * 16 + 16; u++) {
                const int32_t p = place[n * units + u];
                const float v = responses[n * units + u];
                const long end = u * k + k - 1;
                if (p < 0 || !(sign * v > sign * value[end])) continue;
                long low = u * k, high = end;  // after all that are at least as good
                while (low < high) {
                    const long middle = (low + high) / 2;
                    if (sign * v > sign * value[middle]) high = middle;
                    else low = middle + 1;
                }
                const long rest = end - low;
                std::memmove(value + low + 1, value + low, rest * sizeof(*value));
                std::memmove(image + low + 1, image + low, rest * sizeof(*image));
                std::memmove(row + low + 1, row + low, rest * sizeof(*row));
                std::memmove(col + low + 1, col + low, rest * sizeof(*col));
                value[low] = v, image[low] = first + n, row[low] = int32_t(p / cols), col[low] = int32_t(p % cols);
            }
}

// Number, mean and squared deviations of the counted responses of each unit, summed up stimulus after stimulus.
void moments(long units, long stimuli, const float *values, const uint8_t *counted, int64_t *n, double *mean, double *m2)
{
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + GROUP - 1) / GROUP; g++) {
        const long from = g * GROUP, width = units - from < GROUP ? units - from : GROUP;
        double sum[GROUP]{}, square[GROUP]{};
        int64_t seen[GROUP]{};
        for (long i = 0; i < stimuli; i++)
            for (long u = 0; u < width; u++) {
                const long at = i * units + from + u;
                sum[u] += counted[at] ? double(values[at]) : 0.0;
                seen[u] += counted[at];
            }
        for (long u = 0; u < width; u++) sum[u] /= double(seen[u] ? seen[u] : 1);
        for (long i = 0; i < stimuli; i++)
            for (long u = 0; u < width; u++) {
                const long at = i * units + from + u;
                const double away = double(values[at]) - sum[u];
                square[u] += counted[at] ? away * away : 0.0;
            }
        for (long u = 0; u < width; u++) n[from + u] = seen[u], mean[from + u] = sum[u], m2[from + u] = square[u];
    }
}

// How many of the powers 2^(-16), 2^(-15.5) ... 2^16, rounded to float, are at most the number with these bits.
static inline long powers_upto(uint32_t bits)
{
    const long half_octaves = 2 * long(bits >> 23) + ((bits & 0x7FFFFF) >= 0x3504F3) - 2 * (127 - 16) + 1;
    return half_octaves < 0 ? 0 : half_octaves > 65 ? 65 : half_octaves;
}

// Count the responses of a block in bins of half an octave: 65 edges below zero, 65 above.
void histogram(long units, long stimuli, const float *values, const uint8_t *counted, int64_t *count)
{
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + GROUP - 1) / GROUP; g++)
        for (long i = 0; i < stimuli; i++)
            for (long u = g * GROUP; u < units && u < (g + 1) * GROUP; u++) {
                if (!counted[i * units + u]) continue;
                uint32_t bits;
                std::memcpy(&bits, values + i * units + u, 4);
                const uint32_t size = bits & 0x7FFFFFFF;
                const long bin = bits == size || !size ? 65 + powers_upto(size) : 65 - powers_upto(size - 1);
                count[u * 131 + bin]++;
            }
}

// Sums per label, in fixed point of 2^-24.
void labels(long units, long stimuli, const float *peak, const float *trough, const uint8_t *counted,
            const int64_t *label, int64_t *peaks, int64_t *troughs, int64_t *rectified, int32_t *positive)
{
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + GROUP - 1) / GROUP; g++)
        for (long i = 0; i < stimuli; i++) {
            if (label[i] < 0) continue;
            for (long u = g * GROUP; u < units && u < (g + 1) * GROUP; u++) {
                const long at = i * units + u, to = label[i] * units + u;
                if (!counted[at]) continue;
                const int64_t high = int64_t(std::nearbyint(double(peak[at]) * 16777216.0));
                peaks[to] += high;
                rectified[to] += high > 0 ? high : 0;
                troughs[to] += int64_t(std::nearbyint(double(trough[at]) * 16777216.0));
                positive[to] += peak[at] > 0;
            }
        }
}

// Counts and extremes of a block.
void counts(long units, long stimuli, const float *peak, const float *trough, const float *above,
            const uint8_t *counted, int64_t *seen, int64_t *positive, int64_t *positions, float *highest, float *lowest)
{
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + GROUP - 1) / GROUP; g++)
        for (long i = 0; i < stimuli; i++)
            for (long u = g * GROUP; u < units && u < (g + 1) * GROUP; u++) {
                const long at = i * units + u;
                if (!counted[at]) continue;
                seen[u]++;
                positive[u] += peak[at] > 0;
                positions[u] += int64_t(above[at]);
                highest[u] = more(peak[at], highest[u]);
                lowest[u] = less(trough[at], lowest[u]);
            }
}

// Add a block's sums of responses, [unit position] or with `last` [position unit], in fixed point of 2^-24. What is not
// finite counts as zero.
void add_map(long units, long positions, long last, const float *sums, int64_t *total)
{
#pragma omp parallel for schedule(static)
    for (long p = 0; p < positions; p += 64)
        for (long u = 0; u < units; u++)
            for (long i = p; i < positions && i < p + 64; i++) {
                const double value = last ? sums[i * units + u] : sums[u * positions + i];
                total[u * positions + i] += std::isfinite(value) ? int64_t(std::nearbyint(value * 16777216.0)) : 0;
            }
}

// Add sums of pixels less 128, of `n` pictures each, to sums of pixels.
void add_pixels(long units, long pixels, const int32_t *less, const int32_t *n, int32_t *total)
{
#pragma omp parallel for schedule(static)
    for (long u = 0; u < units; u++)
        for (long i = 0; i < pixels; i++) total[u * pixels + i] += less[u * pixels + i] + 128 * n[u];
}

// A part of each picture [stimulus row col color], reduced to rows x cols by averaging areas: [stimulus color row col].
void shrink(const uint8_t *pictures, long stimuli, long height, long width, long colors, long top, long left,
            long bottom, long right, long rows, long cols, uint8_t *small)
{
    const long tall = bottom - top, wide = right - left;
#pragma omp parallel for schedule(static)
    for (long n = 0; n < stimuli; n++) {
        uint32_t *sums = new uint32_t[wide * colors];
        for (long i = 0; i < rows; i++) {
            const long from = i * tall / rows, to = ((i + 1) * tall + rows - 1) / rows;
            std::memset(sums, 0, wide * colors * sizeof(*sums));
            for (long r = from; r < to; r++) {
                const uint8_t *line = pictures + ((n * height + top + r) * width + left) * colors;
                for (long j = 0; j < wide * colors; j++) sums[j] += line[j];
            }
            for (long j = 0; j < cols; j++) {
                const long west = j * wide / cols, east = ((j + 1) * wide + cols - 1) / cols;
                const uint32_t area = uint32_t((to - from) * (east - west));
                for (long color = 0; color < colors; color++) {
                    uint32_t sum = 0;
                    for (long c = west; c < east; c++) sum += sums[c * colors + color];
                    small[((n * colors + color) * rows + i) * cols + j] = uint8_t((2 * sum + area) / (2 * area));
                }
            }
        }
        delete[] sums;
    }
}

}  // extern "C"
