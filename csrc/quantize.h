// int8 products, and activations as int8 with a scale for each row, in the groups of matmul_rows.h.
#pragma once

#include "matmul_rows.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace quire::QUIRE_ISA {

// A register of int8 times another, sums of neighbouring fours in int32 lanes. kOffset: what is
// added to each weight on the way (VNNI multiplies unsigned by signed).
struct Int8 {
    using Sum = Ints;

#if defined(__AVX512VNNI__)
    using Register = __m512i;
    static constexpr float kOffset = 128;

    static Register value(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Register unsign(Register w) { return _mm512_xor_si512(w, _mm512_set1_epi8(-128)); }
    static Register weight(const uint8_t* p) { return unsign(value(p)); }
    static Sum dot(Sum sum, Register w, Register x) {
        return (Sum)_mm512_dpbusd_epi32((__m512i)sum, w, x);
    }
#elif defined(__AVX512F__)
    using Register = __m512i;
    static constexpr float kOffset = 0;

    static Register value(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Register weight(const uint8_t* p) { return value(p); }
    static Sum dot(Sum sum, Register w, Register x) {
        // Fours become sums of even and odd bytes; each half of a 16-bit lane is a signed byte.
        const __m512i even = _mm512_madd_epi16(_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8),
                                               _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
        const __m512i odd = _mm512_madd_epi16(_mm512_srai_epi16(w, 8), _mm512_srai_epi16(x, 8));
        return sum + (Sum)even + (Sum)odd;
    }
#elif defined(__AVX2__)
    using Register = __m256i;
    static constexpr float kOffset = 0;

    static Register value(const uint8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static Register weight(const uint8_t* p) { return value(p); }
    static Sum dot(Sum sum, Register w, Register x) {
        const __m256i even = _mm256_madd_epi16(_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8),
                                               _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
        const __m256i odd = _mm256_madd_epi16(_mm256_srai_epi16(w, 8), _mm256_srai_epi16(x, 8));
        return sum + (Sum)even + (Sum)odd;
    }
#else
    using Register = int8x16_t;
    static constexpr float kOffset = 0;

    static Register value(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
    static Register weight(const uint8_t* p) { return value(p); }
    static Sum dot(Sum sum, Register w, Register x) {
#if defined(__ARM_FEATURE_DOTPROD)
        return (Sum)vdotq_s32((int32x4_t)sum, w, x);
#else
        const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        const int16x8_t high = vmull_s8(vget_high_s8(w), vget_high_s8(x));
        return (Sum)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)) + sum;
#endif
    }
#endif
    static Floats floats(Sum sum) { return __builtin_convertvector(sum, Floats); }
};

// int8 rows, and of each what a step of it is worth and what kOffset adds to its products.
struct Quantized {
    Groups groups;
    const float *scale, *offset;
};

// x [rows, inputs], rows x_stride apart, rounded to 127 steps of the row's largest value. Each
// kStep values become kBytes of the row: put(values [kStep], to). The memory is the calling thread's
// scratch.
template <int64_t kStep, int64_t kBytes, class Put>
Quantized quantize_rows(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t inputs,
                        const Put& put) {
    const int64_t size = (inputs + kStep - 1) / kStep * kBytes;
    const int64_t floats = (2 * rows + 15) / 16 * 16;
    auto* scale = static_cast<float*>(scratch(floats * 4 + rows * size));
    float* offset = scale + rows;
    auto* bytes = reinterpret_cast<uint8_t*>(scale + floats);
    const Groups groups{bytes, rows, size};
    parallel_for(groups.count(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
            const int64_t apart = groups.rows_of(group) * kBytes;
            for (int64_t r = 0; r < groups.rows_of(group); ++r) {
                const int64_t row = groups.first(group) + r;
                const uint16_t* from = x + row * x_stride;
                Floats most{};
                int64_t k = 0;
                for (; k + kLanes <= inputs; k += kLanes) {
                    const Floats value = load(from + k);
                    most = max(most, max(value, -value));
                }
                float peak = largest(most);
                for (; k < inputs; ++k) peak = std::fmax(peak, std::fabs(widen(from[k])));
                const float inverse = peak > 0 ? 127.0f / peak : 0.0f;
                uint8_t* to = bytes + groups.first(group) * size + r * kBytes;
                int32_t total = 0;
                for (k = 0; k < inputs; k += kStep, to += apart) {
                    int8_t values[kStep] = {};
                    const int64_t count = inputs - k < kStep ? inputs - k : kStep;
                    for (int64_t i = 0; i < count; ++i) {
                        // Adding 1.5 * 2^23 rounds to nearest; the sum's low byte is the integer.
                        const float shifted = widen(from[k + i]) * inverse + 12582912.0f;
                        int32_t bits;
                        std::memcpy(&bits, &shifted, sizeof bits);
                        values[i] = static_cast<int8_t>(bits);
                    }
                    for (int64_t i = 0; i < kStep; ++i) total += values[i];
                    put(values, to);
                }
                scale[row] = peak / 127.0f;
                offset[row] = Int8::kOffset * static_cast<float>(total);
            }
        }
    });
    return {groups, scale, offset};
}

}  // namespace quire::QUIRE_ISA
