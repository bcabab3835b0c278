// What a survey reads of response maps and of blocks of stimuli, in one pass over memory each.
//
// Problem: to read a map from memory takes longer than to compute with it, and NumPy and PyTorch read it once for each
// number that they compute.
//
// Idea: read each map once, in chunks of 256 positions that stay in the processor's nearest cache, and compute everything
// of a chunk at once. `read_maps` does so for the responses of a batch; the other functions for blocks.
//
//     for each chunk of 256 positions (a thread's own):  extremes, sum, count of each unit -> scratch; += response map
//     then for each unit:                                its chunks -> peak, trough, mean, count; position of new bests
//
// Each function has a twin in Python that gives the same bits, and is used where there is no compiler. So sums of real
// numbers are taken in one stated order (accumulator.mean_over_positions): nothing may be reassociated (no -ffast-math)
// or fused (-ffp-contract=off), and threads divide what is independent among them, never a sum.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace {

#define HERE __attribute__((always_inline)) inline

constexpr long CHUNK = 256;  // positions that are summed up together
constexpr long ROWS = 8;     // a chunk is seen as up to 8 rows of up to 32 positions
constexpr long GROUP = 128;  // units that a thread takes at a time
constexpr long TILE = 8192;  // neurons of a map that are taken of some stimuli in turn, while their sums are at hand
constexpr long STACK = 8;    // stimuli whose chunks are near the processor together
constexpr long FEW = 64;     // units whose maps, once read, a thread sums up at a time

#if defined(__AVX512F__)
constexpr long WIDE = 16, ABREAST = 4;  // lanes of a register, and how many of them there are room for side by side
#elif defined(__AVX__)
constexpr long WIDE = 8, ABREAST = 2;
#else
constexpr long WIDE = 4, ABREAST = 1;
#endif
typedef float Wide __attribute__((vector_size(4 * WIDE)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

template <class T> struct Same_size {
    typedef decltype(T{} == T{}) type;
};
template <> struct Same_size<float> {
    typedef int32_t type;
};
template <class T> using Whole = typename Same_size<T>::type;  // as many integers

template <class T> inline T load(const float *from)
{
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}
template <class T> inline void store(float *to, T value) { std::memcpy(to, &value, sizeof(T)); }
// NaN compares as false, so an extreme may pass over a NaN. A sum does not: see `counted` in sum_up.
template <class T> inline T more(T a, T b) { return a > b ? a : b; }
template <class T> inline T less(T a, T b) { return a < b ? a : b; }

template <class T> inline bool any(T truths)
{
    if constexpr (std::is_arithmetic_v<T>) return truths;
    else {
        auto all = truths[0];
        for (unsigned i = 1; i < sizeof(T) / sizeof(all); i++) all |= truths[i];
        return all;
    }
}

// What a rectifier makes of responses: NaN stays NaN, and zero keeps its sign.
struct Limits {
    float low, high;
    template <class T> inline T clip(T a) const
    {
        const T bottom = T{} + low, top = T{} + high;
        const T lifted = a < bottom ? bottom : a;
        return lifted > top ? top : lifted;
    }
};

template <class T> inline T multiply_and_add(T a, T b, T c)
{
#ifdef __AVX512F__
    if constexpr (sizeof(T) == 64) return (T)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#ifdef __FMA__
    if constexpr (sizeof(T) == 32) return (T)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    if constexpr (sizeof(T) == 16) return (T)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#endif
    if constexpr (sizeof(T) == 4)
        return __builtin_fmaf(a, b, c);
    else {
        T sum{};
        for (unsigned i = 0; i < sizeof(T) / 4; i++) sum[i] = __builtin_fmaf(a[i], b[i], c[i]);
        return sum;
    }
}

// Responses as they come: what lies in memory, or what batch normalization makes of it, which is times a scale of each
// unit plus a shift, rounded once.
struct AsIs {
    template <class T> HERE T load(const float *x, long) const { return ::load<T>(x); }
};
struct Normalized {
    const float *scale, *shift;
    template <class T> HERE T load(const float *x, long unit) const
    {
        return multiply_and_add(::load<T>(x), ::load<T>(scale + unit), ::load<T>(shift + unit));
    }
};

struct Places {
    float *high, *low, *sum, *above;
    int32_t *highest, *lowest;  // positions, where an extreme may enter the lists
};

// What is known of some lanes (units or positions) of a chunk: extremes, sum, how many were above zero.
template <class T> struct Reading {
    T high = T{} - INFINITY, low = T{} + INFINITY, sum{}, above{};

    void resume(Places at, long i)
    {
        high = load<T>(at.high + i), low = load<T>(at.low + i);
        sum = load<T>(at.sum + i), above = load<T>(at.above + i);
    }
    void leave(Places at, long i) const
    {
        store(at.high + i, high), store(at.low + i, low), store(at.sum + i, sum), store(at.above + i, above);
    }

    // One position of all rows, for as many rows as have one. They are also added to the response map.
    template <int rows> HERE void take(T (&a)[ROWS], float *map, long apart)
    {
        for (int i = 0; i < rows; i++) store<T>(map + i * apart, load<T>(map + i * apart) + a[i]);
        sum += ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]));
        for (int i = 0; i < rows; i++) above = a[i] > 0 ? above + 1.0f : above;  // exact up to 2^24
        // Missing rows were zeros in the sum. For the extremes they repeat the first row, which changes nothing.
        for (int i = rows; i < ROWS; i++) a[i] = a[0];
        high = more(more(more(a[0], a[1]), more(a[2], a[3])), more(more(more(a[4], a[5]), more(a[6], a[7])), high));
        low = less(less(less(a[0], a[1]), less(a[2], a[3])), less(less(less(a[4], a[5]), less(a[6], a[7])), low));
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

// Call a function with a number of rows that the compiler knows.
template <class Act> inline void with_rows(long rows, const Act act)
{
    switch (rows) {
    case 8: return act(std::integral_constant<int, 8>{});
    case 7: return act(std::integral_constant<int, 7>{});
    case 6: return act(std::integral_constant<int, 6>{});
    case 5: return act(std::integral_constant<int, 5>{});
    case 4: return act(std::integral_constant<int, 4>{});
    case 3: return act(std::integral_constant<int, 3>{});
    case 2: return act(std::integral_constant<int, 2>{});
    case 1: return act(std::integral_constant<int, 1>{});
    }
}

// Some stimuli's maps of some units in a chunk, `stimulus` floats apart, and what is known of them, `answer` apart.
struct Stack {
    const float *x;
    float *map;
    long count, width, stimulus, units, answer;
    const uint8_t *readable;
    const float *bars[2];
};

// The first of a chunk's positions that has this value.
template <class T, class Way>
inline void find(const float *x, Way way, long unit, long length, long step, T value, int32_t *to)
{
    Whole<T> place{};
    for (long p = length; p-- > 0;)
        place = way.template load<T>(x + p * step, unit) == value ? Whole<T>{} + int32_t(p) : place;
    std::memcpy(to, &place, sizeof(place));
}

// Look up where extremes lie that may enter the lists. Returns how many units were looked at.
template <class T, class Way>
inline long look_up(const Stack &of, Way way, long n, long unit, long length, long step, Places at, long i)
{
    const float *const x = of.x + n * of.stimulus + unit;
    const T high = load<T>(at.high + i), low = load<T>(at.low + i);
    if (any(high > load<T>(of.bars[0] + unit))) find<T>(x, way, unit, length, step, high, at.highest + i);
    if (any(T{} - low > load<T>(of.bars[1] + unit))) find<T>(x, way, unit, length, step, low, at.lowest + i);
    return sizeof(T) / 4;
}

// Channels lie side by side: a lane is a unit. Some steps of a chunk, from step `from` on, of one stimulus.
struct Tile {
    const float *x;
    float *map;  // [step ROWS unit], for the units of the stack
    long from, steps, row, units, width, ahead;
    Places to;
    long at;
};

// `abreast` neighbors are read together, so that memory comes in order; `ahead` lies what is read next.
template <class T, int abreast, int rows, class Way> inline long read_units(const Tile of, const Way way, long u)
{
    constexpr long lanes = sizeof(T) / 4;
    Reading<T> here[abreast];
    for (int i = 0; of.from && i < abreast; i++) here[i].resume(of.to, of.at + u + i * lanes);
    for (long p = 0; p < of.steps; p++)
#pragma GCC unroll 4
        for (int i = 0; i < abreast; i++) {
            const long unit = u + i * lanes;
            T a[ROWS]{};
            for (long r = 0; r < rows; r++) {
                const long at = (r * of.row + p) * of.units + unit;
                a[r] = way.template load<T>(of.x + at, unit);
                __builtin_prefetch(of.x + at + of.ahead, 0, 2);
            }
            here[i].template take<rows>(a, of.map + p * ROWS * of.width + unit, of.width);
        }
    for (int i = 0; i < abreast; i++) here[i].leave(of.to, of.at + u + i * lanes);
    return abreast * lanes;
}

template <int rows, class Way> inline void read_units(const Tile &of, const Way way)
{
    for (long u = 0; u < of.width;) {
        const long left = of.width - u, abreast = left / WIDE < ABREAST ? left / WIDE : ABREAST;
        u += abreast == 4   ? read_units<Wide, 4, rows>(of, way, u)
             : abreast == 3 ? read_units<Wide, 3, rows>(of, way, u)
             : abreast == 2 ? read_units<Wide, 2, rows>(of, way, u)
             : abreast == 1 ? read_units<Wide, 1, rows>(of, way, u)
             : left >= 8    ? read_units<Eight, 1, rows>(of, way, u)
             : left >= 4    ? read_units<Four, 1, rows>(of, way, u)
                            : read_units<float, 1, rows>(of, way, u);
    }
}

template <class Way> inline void chunk_of_units(const Stack &of, const Way way, long length, Places to, long at)
{
    const Shape chunk(length);
    const long steps = TILE / (ROWS * of.width);
    alignas(64) float map[TILE];  // on the map itself, rows may lie at distances that share a cache line
    for (long from = 0; from < chunk.row;) {
        const long whole = from < chunk.full ? chunk.full : chunk.row;
        const long end = whole < from + steps ? whole : from + steps;
        const long rows = chunk.rows - (from >= chunk.full);
        const auto each = [&](auto act) {
            for (long p = from; p < end; p++)
                for (long i = 0; i < rows; i++)
                    for (long u = 0; u < of.width; u++)
                        act(map[((p - from) * ROWS + i) * of.width + u], of.map[(i * chunk.row + p) * of.units + u]);
        };
        each([](float &here, float there) { here = there; });
        for (long n = 0; n < of.count; n++) {
            if (!of.readable[n]) continue;
            const long there = n * of.stimulus + from * of.units;
            const long next = n + 1 < of.count ? of.stimulus : (end - from) * of.units - n * of.stimulus;
            const Tile tile{of.x + there, map,  from, end - from,        chunk.row, of.units,
                            of.width,     next, to,   at + n * of.answer};
            with_rows(rows, [&](auto rows) { read_units<rows>(tile, way); });
        }
        each([](float here, float &there) { there = here; });
        from = end;
    }
    for (long n = 0; n < of.count; n++) {
        for (long u = 0; of.readable[n] && u < of.width;) {
            const long i = at + n * of.answer + u;
            u += of.width - u >= WIDE ? look_up<Wide>(of, way, n, u, length, of.units, to, i)
                                      : look_up<float>(of, way, n, u, length, of.units, to, i);
        }
    }
}

// Positions lie side by side: a lane is a position, and the sums of a chunk's steps are added in their order.
template <class T, int rows> inline long lanes(long p, long to, long row, const float *x, float *map, Places kept)
{
    for (; p + long(sizeof(T) / 4) <= to; p += sizeof(T) / 4) {
        Reading<T> reading;
        T a[ROWS]{};
        for (long i = 0; i < rows; i++) a[i] = load<T>(x + i * row + p);
        reading.template take<rows>(a, map + p, row);
        reading.leave(kept, p);
    }
    return p;
}

template <int rows> inline void lanes(long p, long to, long row, const float *x, float *map, Places kept)
{
    p = lanes<Wide, rows>(p, to, row, x, map, kept);
    p = lanes<Four, rows>(p, to, row, x, map, kept);
    lanes<float, rows>(p, to, row, x, map, kept);
}

inline void read_positions(const float *x, float *map, long length, Places to, long at)
{
    const Shape chunk(length);
    float high[32], low[32], sum[32], above[32];
    Places kept{high, low, sum, above, nullptr, nullptr};
    with_rows(chunk.rows, [&](auto rows) { lanes<rows>(0, chunk.full, chunk.row, x, map, kept); });
    with_rows(chunk.rows - 1, [&](auto rows) { lanes<rows>(chunk.full, chunk.row, chunk.row, x, map, kept); });
    Reading<float> whole;
    for (long p = 0; p < chunk.row; p++) {
        whole.high = more(high[p], whole.high);
        whole.low = less(low[p], whole.low);
        whole.sum += sum[p];
        whole.above += above[p];
    }
    whole.leave(to, at);
}

inline void chunk_of_positions(const Stack &of, long length, Places to, long at)
{
    for (long n = 0; n < of.count; n++) {
        if (!of.readable[n]) continue;
        read_positions(of.x + n * of.stimulus, of.map, length, to, at + n * of.answer);
        look_up<float>(of, AsIs{}, n, 0, length, 1, to, at + n * of.answer);
    }
}

// Do a rectifier's work on some stimuli's maps of some units in a chunk, where channels lie side by side or not.
template <class Way>
inline void rectify(const Stack &of, const Way way, float *to, Limits limits, long length, bool last)
{
    const bool flat = !last || (of.width == of.units && std::is_same_v<Way, AsIs>);
    const long lines = flat ? 1 : length, line = flat ? length * of.width : of.width;
    for (long n = 0; n < of.count; n++)
        for (long p = 0; p < lines; p++) {
            const long at = n * of.stimulus + p * of.units;
            for (long u = 0; u < line; u++) to[at + u] = limits.clip(way.template load<float>(of.x + at + u, u));
        }
}

// Where the rows of a site's block go, [stimulus unit] each.
struct SiteRows {
    long units, positions, center, k, renewed;
    float *map;                              // sums per half batch, unit and position, in the order of the responses
    float *peak, *trough, *mean, *above;     // above: positive positions
    uint8_t *centered, *counted;             // positive at the center; finite
    int32_t *highest, *lowest;               // position of the peak and the trough, where they enter the lists; else -1
    float *floors[2];                        // [unit k] the best values so far, highest first, of each sign
    float *bars[2];                          // [unit] the k-th of them
    float *scratch;                          // 6 x stimuli x chunks x units
};

inline bool enters(const SiteRows &out, int pole, long unit, float value)
{
    float *const floor = out.floors[pole] + unit * out.k, *const bar = out.bars[pole] + unit;
    if (!(value > *bar)) return false;
    if (!out.renewed) return true;
    long at = out.k - 1;
    for (; at > 0 && value > floor[at - 1]; at--) floor[at] = floor[at - 1];
    floor[at] = value;
    *bar = floor[out.k - 1];
    return true;
}

// One stimulus's maps of some units from number `unit` on, read in chunks.
struct Maps {
    const float *x;
    Places parts;
    long n, unit, units, positions, chunks, at, to, last;
};

// Note what is known of as many units as there are lanes. Returns how many.
template <class T> inline long sum_up(const SiteRows &out, const Maps &of)
{
    constexpr long lanes = sizeof(T) / 4;
    Reading<T> whole;
    for (long q = 0, at = of.at; q < of.chunks; q++, at += of.units) {
        whole.high = more(load<T>(of.parts.high + at), whole.high);
        whole.low = less(load<T>(of.parts.low + at), whole.low);
        whole.sum += load<T>(of.parts.sum + at);
        whole.above += load<T>(of.parts.above + at);
    }
    const T zero{}, mean = whole.sum / (zero + float(of.positions));
    // x - x is 0 for finite x, and NaN for NaN and infinities.
    const auto counted = (whole.high - whole.high == zero) & (whole.low - whole.low == zero) & (mean - mean == zero);
    const T peak = counted ? whole.high + zero : zero;  // no zero below zero
    const T trough = counted ? whole.low + zero : zero;
    store(out.peak + of.to, peak), store(out.trough + of.to, trough);
    store(out.mean + of.to, counted ? mean : zero), store(out.above + of.to, counted ? whole.above : zero);
    float high[lanes], low[lanes], peaks[lanes], troughs[lanes];
    Whole<T> truth = counted;
    int32_t finite[lanes];
    std::memcpy(finite, &truth, sizeof(finite));
    const float *const center = of.x + (of.last ? (of.n * of.positions + out.center) * of.units + of.unit
                                                : (of.n * of.units + of.unit) * of.positions + out.center);
    for (long i = 0; i < lanes; i++) {
        out.counted[of.to + i] = finite[i] != 0;
        out.centered[of.to + i] = finite[i] != 0 && center[of.last ? i : i * of.positions] > 0;
        out.highest[of.to + i] = out.lowest[of.to + i] = -1;
    }
    if (!any((peak > load<T>(out.bars[0] + of.unit)) | (zero - trough > load<T>(out.bars[1] + of.unit)))) return lanes;
    store(high, whole.high), store(low, whole.low), store(peaks, peak), store(troughs, trough);
    const Places in = of.parts;
    const auto place = [&](const float *extremes, const int32_t *places, long i, float value) {
        long q = 0, at = of.at + i;
        for (; extremes[at] != value; at += of.units) q++;
        return int32_t(q * CHUNK + places[at]);
    };
    for (long i = 0; i < lanes; i++) {
        if (!finite[i]) continue;
        const long to = of.to + i;
        if (enters(out, 0, of.unit + i, peaks[i])) out.highest[to] = place(in.high, in.highest, i, high[i]);
        if (enters(out, 1, of.unit + i, 0 - troughs[i])) out.lowest[to] = place(in.low, in.lowest, i, low[i]);
    }
    return lanes;
}

// Windows of maps whose channels lie side by side, up to the maps' edges.
struct Window {
    const float *x;
    long units, width, top, left, bottom, right, down, along;  // rows and columns of a window lie so far apart
};

// The largest of each window: NaN where there is one, and of zeros the first. Returns how many units were taken.
template <class T, int abreast> inline long largest(const Window of, float *to, long unit)
{
    constexpr long lanes = sizeof(T) / 4;
    T best[abreast];
    for (int i = 0; i < abreast; i++) best[i] = T{} - INFINITY;
    for (long row = of.top; row < of.bottom; row += of.down)
        for (long col = of.left; col < of.right; col += of.along)
            for (int i = 0; i < abreast; i++) {
                const T value = load<T>(of.x + (row * of.width + col) * of.units + unit + i * lanes);
                best[i] = (value > best[i]) | (value != value) ? value : best[i];
            }
    for (int i = 0; i < abreast; i++) store<T>(to + unit + i * lanes, best[i]);
    return abreast * lanes;
}

// A part of a picture [row col color], and the rows and columns that are made of it [color row col].
struct Part {
    const uint8_t *pixels;
    long width, colors, tall, wide, rows, cols;

    void copy(uint8_t *to) const
    {
        for (long color = 0; color < colors; color++)
            for (long i = 0; i < rows; i++)
                for (long j = 0; j < cols; j++)
                    to[(color * rows + i) * cols + j] = pixels[(i * width + j) * colors + color];
    }

    // By averaging areas; `Sum` holds the sum of a column of one.
    template <class Sum> void shrink(uint8_t *to) const
    {
        Sum *const sums = new Sum[wide * colors];
        for (long i = 0; i < rows; i++) {
            const long from = i * tall / rows, end = ((i + 1) * tall + rows - 1) / rows;
            std::memset(sums, 0, wide * colors * sizeof(*sums));
            for (long r = from; r < end; r++)
                for (long j = 0; j < wide * colors; j++) sums[j] += pixels[r * width * colors + j];
            uint64_t area = 0, reciprocal = 0;  // so that a product gives the quotient: exact for areas below 2^17
            for (long j = 0; j < cols; j++) {
                const long west = j * wide / cols, east = ((j + 1) * wide + cols - 1) / cols;
                if (area != uint64_t((end - from) * (east - west))) {
                    area = (end - from) * (east - west);
                    reciprocal = ((uint64_t(1) << 44) + 2 * area - 1) / (2 * area);
                }
                for (long color = 0; color < colors; color++) {
                    uint64_t sum = 0;
                    for (long c = west; c < east; c++) sum += sums[c * colors + color];
                    const uint64_t twice = 2 * sum + area;
                    to[(color * rows + i) * cols + j] =
                        uint8_t(area < 1 << 17 ? twice * reciprocal >> 44 : twice / (2 * area));
                }
            }
        }
        delete[] sums;
    }
};

}  // namespace

extern "C" {

// Take in `count` stimuli, the first of which is number `first` of the block. `last`: channels lie side by side. Where
// `rectified` is wanted (it may be `x`), the responses are written there between the limits `low` and `high`. With a
// `scale` (then `last` and `rectified`, too) the responses are what batch normalization makes of `x`.
void read_maps(const SiteRows *out, const float *x, long first, long count, long last, const uint8_t *readable, float *rectified,
          float low, float high, const float *scale, const float *shift)
{
    const long units = out->units, positions = out->positions;
    const long chunks = (positions + CHUNK - 1) / CHUNK, groups = (units + GROUP - 1) / GROUP;
    const long size = count * chunks * units;
    float *const scratch = out->scratch;
    int32_t *const places = reinterpret_cast<int32_t *>(scratch + 4 * size);
    const Places parts{scratch, scratch + size, scratch + 2 * size, scratch + 3 * size, places, places + size};
    // Each half of the batch is a thread's, as in PyTorch's own operations: its memory is near that thread's processor.
#pragma omp parallel for schedule(static) collapse(3)
    for (long half = 0; half < 2; half++)
        for (long q = 0; q < chunks; q++)
            for (long g = 0; g < groups; g++) {
                const long begin = half ? (count + 1) / 2 : 0, stop = half ? count : (count + 1) / 2;
                const long from = q * CHUNK, length = positions - from < CHUNK ? positions - from : CHUNK;
                const auto begin_of = [=](long g) { return g < groups ? g * (units / WIDE) / groups * WIDE : units; };
                for (long n = begin; n < stop; n += STACK)
                    for (long u = begin_of(g), width; u < begin_of(g + 1); u += width) {
                        width = last ? begin_of(g + 1) - u : 1;
                        const long at = last ? (n * positions + from) * units + u : (n * units + u) * positions + from;
                        const long on_map = last ? from * units + u : u * positions + from;
                        const Stack stack{x + at, out->map + half * units * positions + on_map,
                                          stop - n < STACK ? stop - n : STACK, width, positions * units, units,
                                          chunks * units, readable + n, {out->bars[0] + u, out->bars[1] + u}};
                        const long to = (n * chunks + q) * units + u;
                        const Limits limits{low, high};
                        if (scale) {
                            const Normalized way{scale + u, shift + u};
                            chunk_of_units(stack, way, length, parts, to);
                            rectify(stack, way, rectified + at, limits, length, last);
                            continue;
                        }
                        if (last)
                            chunk_of_units(stack, AsIs{}, length, parts, to);
                        else
                            chunk_of_positions(stack, length, parts, to);
                        if (rectified) rectify(stack, AsIs{}, rectified + at, limits, length, last);
                    }
            }
#pragma omp parallel for schedule(static)
    for (long g = 0; g < (units + FEW - 1) / FEW; g++)
        for (long n = 0; n < count; n++)
            for (long u = g * FEW, end = u + FEW < units ? u + FEW : units; u < end;) {
                const long left = end - u, at = n * chunks * units + u, to = (first + n) * units + u;
                // Normalized responses were never written. At the center only whether they are above 0 counts, which
                // clipping does not change.
                const Maps maps{scale ? rectified : x,    parts, n,  u,   units, positions,
                                readable[n] ? chunks : 0, at,    to, last};
                u += left >= WIDE ? sum_up<Wide>(*out, maps)
                     : left >= 4  ? sum_up<Four>(*out, maps)
                                  : sum_up<float>(*out, maps);
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
    // Two powers for each exponent of a float, whose bias is 127. The mantissa of the second, 0x3504F3, is that of the
    // square root of 2.
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
                // For -x, the edges at or below it are those of the powers from x on: all 65 less the powers below x.
                const long bin = bits == size || !size ? 65 + powers_upto(size) : 65 - powers_upto(size - 1);
                count[u * 131 + bin]++;
            }
}

// A number in fixed point of 2^-24: NaN is 0, and what 64 bits cannot hold becomes the nearest that float64 has of them.
static inline int64_t fixed(double value)
{
    const double steps = std::nearbyint(value * 16777216.0);
    if (steps != steps) return 0;
    return steps >= 0x1p63 ? 0x7FFFFFFFFFFFFC00 : steps < -0x1p63 ? INT64_MIN : int64_t(steps);
}

// Sums of 64 bits wrap around, as numpy's do; whoever makes a mean of one asks first whether it can have.
static inline void add(int64_t &sum, int64_t value) { sum = int64_t(uint64_t(sum) + uint64_t(value)); }

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
                const int64_t high = fixed(peak[at]);
                add(peaks[to], high);
                add(rectified[to], high > 0 ? high : 0);
                add(troughs[to], fixed(trough[at]));
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

// Max-pooling of `maps` maps [map row col unit], height x width, to rows x cols, in windows of `side` pixels that lie
// `apart`, a step of `stride` from the next, the first of which begins `before` the maps.
void pool(const float *x, long maps, long height, long width, long units, long rows, long cols, const long *side,
          const long *stride, const long *before, const long *apart, float *pooled)
{
#pragma omp parallel for schedule(static) collapse(2)
    for (long n = 0; n < maps; n++)
        for (long i = 0; i < rows; i++)
            for (long j = 0; j < cols; j++) {
                const long from[2] = {i * stride[0] - before[0], j * stride[1] - before[1]}, edge[2] = {height, width};
                long begin[2], end[2];
                for (int axis = 0; axis < 2; axis++) {
                    const long last = from[axis] + (side[axis] - 1) * apart[axis] + 1;
                    const long off = from[axis] < 0 ? (apart[axis] - 1 - from[axis]) / apart[axis] * apart[axis] : 0;
                    begin[axis] = from[axis] + off, end[axis] = last < edge[axis] ? last : edge[axis];
                }
                const Window window{x + n * height * width * units, units, width, begin[0], begin[1], end[0], end[1],
                                    apart[0], apart[1]};
                float *const to = pooled + ((n * rows + i) * cols + j) * units;
                for (long u = 0, left; u < units;) {
                    left = units - u;
                    u += left >= 4 * WIDE ? largest<Wide, 4>(window, to, u)
                         : left >= WIDE   ? largest<Wide, 1>(window, to, u)
                         : left >= 4      ? largest<Four, 1>(window, to, u)
                                          : largest<float, 1>(window, to, u);
                }
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
                add(total[u * positions + i], std::isfinite(value) ? fixed(value) : 0);
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
        const Part part{pictures + ((n * height + top) * width + left) * colors, width, colors, tall, wide, rows, cols};
        uint8_t *const to = small + n * colors * rows * cols;
        if (tall == rows && wide == cols)
            part.copy(to);
        // A column of an area then has at most 251 pixels, and 251 x 255 fits into 16 bits.
        else if (tall / rows < 250)
            part.shrink<uint16_t>(to);
        else
            part.shrink<uint32_t>(to);
    }
}

// What batch normalization makes of responses [position unit].
void normalize(long positions, long units, const float *x, const float *scale, const float *shift, float *y)
{
    for (long p = 0; p < positions; p++)
        for (long u = 0, i = p * units; u < units; u++, i++) y[i] = multiply_and_add(x[i], scale[u], shift[u]);
}

// What the network is given of each pixel [pixel color], by way of a table [level color]; in reverse order of colors
// where it wants them so.
void tint(long pixels, long colors, long reversed, const uint8_t *levels, const float *table, float *given)
{
#pragma omp parallel for schedule(static)
    for (long p = 0; p < pixels; p++)
        for (long c = 0; c < colors; c++)
            given[p * colors + c] = table[levels[p * colors + (reversed ? colors - 1 - c : c)] * colors + c];
}

}  // extern "C"
