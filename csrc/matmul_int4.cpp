// int4 weights in groups with a scale each, activations quantized row by row.
//
// A byte holds weight 2k in its low and 2k + 1 in its high half, each plus 8. They stay like that:
// a register of bytes is split into its low and high halves, and a step of x holds the values that
// meet the low ones, those that meet the high ones, and for each int32 lane what the eight cost too
// much, -8 times the values it meets. A lane's eight weights are neighbours, of one group.
#include <array>

#include "quantize.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

constexpr int64_t kStep = 2 * kRegister;   // values
constexpr int64_t kBytes = 3 * kRegister;  // of a step of x
constexpr int64_t kLaneValues = 8;
constexpr int64_t kNear = 24 << 10;

#if defined(__AVX512F__)
using Halfbytes = __m512i;

inline Halfbytes low(Halfbytes w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
inline Halfbytes high(Halfbytes w) { return low(_mm512_srli_epi16(w, 4)); }

// w in [0, 15]
inline Ints dot(Ints sum, Halfbytes w, Halfbytes x) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, w, x);
#else
    return sum + (Ints)_mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1));
#endif
}
#elif defined(__AVX2__)
using Halfbytes = __m256i;

inline Halfbytes low(Halfbytes w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
inline Halfbytes high(Halfbytes w) { return low(_mm256_srli_epi16(w, 4)); }

inline Ints dot(Ints sum, Halfbytes w, Halfbytes x) {
    return sum + (Ints)_mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
}
#else
using Halfbytes = int8x16_t;

inline Halfbytes low(Halfbytes w) { return vandq_s8(w, vdupq_n_s8(15)); }
inline Halfbytes high(Halfbytes w) {
    return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(w), 4));
}
inline Ints dot(Ints sum, Halfbytes w, Halfbytes x) { return Int8::dot(sum, w, x); }
#endif

inline Halfbytes bytes(const uint8_t* p) { return Int8::value(p); }

// The scales of a step's lanes, bfloat16 in memory: one for each kGroup / kLaneValues of them.
template <int64_t kGroup>
Floats lane_scales(const uint16_t* scales, int64_t k) {
    constexpr int64_t kLanesEach = kGroup / kLaneValues;
    const uint16_t* first = scales + k / kGroup;
    if constexpr (kLanesEach >= kLanes) {
        return splat(widen(*first));
    } else {
#if defined(__AVX512BW__)
        // Each scale into the upper half of its lanes.
        static constexpr auto kPlaces = [] {
            std::array<uint16_t, 2 * kLanes> places{};
            for (int64_t i = 0; i < kLanes; ++i)
                places[2 * i + 1] = static_cast<uint16_t>(i / kLanesEach);
            return places;
        }();
        uint64_t some = 0;
        std::memcpy(&some, first, kLanes / kLanesEach * sizeof *first);
        return (Floats)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa,
                                                      _mm512_loadu_si512(kPlaces.data()),
                                                      _mm512_set1_epi64(some));
#else
        Halves found;
        QUIRE_UNROLL
        for (int64_t i = 0; i < kLanes; ++i) found[i] = first[i / kLanesEach];
        return widen(found);
#endif
    }
}

void put(const int8_t* values, uint8_t* to) {
    int8_t evens[kRegister], odds[kRegister];
    int32_t excess[kLanes];
    for (int64_t i = 0; i < kRegister; ++i) evens[i] = values[2 * i], odds[i] = values[2 * i + 1];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
        int32_t total = 0;
        for (int64_t i = 0; i < kLaneValues; ++i) total += values[lane * kLaneValues + i];
        excess[lane] = -8 * total;
    }
    std::memcpy(to, evens, kRegister);
    std::memcpy(to + kRegister, odds, kRegister);
    std::memcpy(to + 2 * kRegister, excess, kRegister);
}

struct Weights {
    const uint8_t* data;    // [.., size]
    const uint16_t* scale;  // [.., groups]
    int64_t size, groups;
};

template <int64_t kGroup, int64_t kRows>
inline void step(Floats (&acc)[kRows], const uint8_t* x, const uint8_t* w, Floats scale) {
    const Halfbytes packed = bytes(w);
    const Halfbytes lows = low(packed), highs = high(packed);
    QUIRE_UNROLL
    for (int64_t r = 0; r < kRows; ++r) {
        const uint8_t* from = x + r * kBytes;
        Ints sum;
        std::memcpy(&sum, from + 2 * kRegister, sizeof sum);
        sum = dot(dot(sum, lows, bytes(from)), highs, bytes(from + kRegister));
        acc[r] += __builtin_convertvector(sum, Floats) * scale;
    }
}

// sums [kRows][kChunk], four columns of it, += kRows rows of x times the rows of w named; one after
// the other as memory likes it, or kTogether at a time as arithmetic does, asking for what is ahead.
template <int64_t kGroup, int64_t kRows, int64_t kTogether>
void tile4(float* sums, const uint8_t* x, const Weights& w, const int64_t* rows, Ahead ahead) {
    Floats totals[kTileColumns][kRows];
    for (int64_t column = 0; column < kTileColumns; column += kTogether) {
        Floats acc[kTogether][kRows] = {};
        int64_t k = 0;
        for (; k + kRegister <= w.size; k += kRegister) {
            QUIRE_UNROLL
            for (int64_t c = 0; c < kTogether; ++c) {
                const int64_t row = rows[column + c];
                const Floats scale = lane_scales<kGroup>(w.scale + row * w.groups, 2 * k);
                step<kGroup>(acc[c], x + k / kRegister * kRows * kBytes, w.data + row * w.size + k,
                             scale);
            }
            if constexpr (kTogether > 1) ahead.step();
        }
        if (k < w.size) {
            for (int64_t c = 0; c < kTogether; ++c) {
                const int64_t row = rows[column + c];
                Halves scales{};
                for (int64_t i = 0; i < (w.size - k) * 2 / kLaneValues; ++i)
                    scales[i] = w.scale[row * w.groups + (2 * k + i * kLaneValues) / kGroup];
                const Part part(w.data + row * w.size + k, w.size - k);
                step<kGroup>(acc[c], x + k / kRegister * kRows * kBytes, part.bytes, widen(scales));
            }
        }
        QUIRE_UNROLL
        for (int64_t c = 0; c < kTogether; ++c)
            QUIRE_UNROLL
            for (int64_t r = 0; r < kRows; ++r) totals[column + c][r] = acc[c][r];
    }
    QUIRE_UNROLL
    for (int64_t r = 0; r < kRows; ++r)
        add_sums(sums + r * kChunk, totals[0][r], totals[1][r], totals[2][r], totals[3][r]);
}

template <int64_t kGroup>
void multiply(const Result& result, const Groups& x, const Weights& w) {
    for_each_chunk(result, [&](float* sums, int64_t chunk, int64_t first, bool more) {
        const int64_t begin = first / kTileRows, end = begin + x.in_block(first);
        for (int64_t group = begin; group < end; ++group) {
            const uint8_t* values = x.at(group, 0);
            // x is read again for each row of w: that must be from the nearest cache.
            const bool in_turn = end == 1 && x.rows * x.size <= kNear;
            for (int64_t column = 0; column < kChunk; column += kTileColumns) {
                int64_t rows[kTileColumns];
                for (int64_t c = 0; c < kTileColumns; ++c)
                    rows[c] = result.weight_row(chunk, column + c);
                const uint8_t* next =
                    more && first == 0 && end > 1
                        ? w.data + result.weight_row(chunk + 1, column) * w.size
                        : nullptr;
                const Ahead ahead(next, w.size, w.size, group, end);
                float* to = sums + (x.first(group) - first) * kChunk + column;
                with_constant<kTileRows>(x.rows_of(group), [&]<int64_t kRows>() {
                    if (in_turn)
                        tile4<kGroup, kRows, 1>(to, values, w, rows, ahead);
                    else
                        tile4<kGroup, kRows, 2>(to, values, w, rows, ahead);
                });
            }
        }
    });
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(matmul_int4)(const uint16_t* x, int64_t x_stride, const uint8_t* w,
                               const uint16_t* scale, const uint16_t* bias, uint16_t* y,
                               int64_t y_stride, int64_t rows, int64_t outputs, int64_t inputs,
                               int64_t group, int64_t activation) {
    using namespace quire::QUIRE_ISA;
    if (rows == 0) return;
    const Quantized made = quantize_rows<kStep, kBytes>(x, x_stride, rows, inputs, put);
    for (int64_t r = 0; r < rows; ++r) const_cast<float*>(made.offset)[r] = 0;
    const Result result{y,          y_stride, rows,       outputs,    bias,
                        activation, nullptr,  made.scale, made.offset};
    const int64_t groups = (inputs + group - 1) / group;
    const Weights weights{w, scale, groups * group / 2, groups};
    if (group == 32) multiply<32>(result, made.groups, weights);
    if (group == 64) multiply<64>(result, made.groups, weights);
    if (group == 128) multiply<128>(result, made.groups, weights);
}
