// Sums of four products of bytes in each lane.
#pragma once

#include "simd.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace quire::QUIRE_ISA {

// Weights in [0, 15] times x in [-127, 127].
inline Ints dot_halfbytes(Ints sum, Words w, Words x) {
#if defined(__AVX512VNNI__)
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
#elif defined(__AVX512F__)
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)x);
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
#else
    const int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    const int16x8_t high = vmull_s8(vget_high_s8(a), vget_high_s8(b));
    return sum + (Ints)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#endif
}

// Weights of a whole byte. kBias is what they are held with added, and what of it dot() sees:
// VNNI multiplies unsigned bytes by signed ones, Arm signed by signed.
struct Int8 {
    using Sum = Ints;
    static constexpr int64_t kHead = 1;

    static Sum start(uint32_t word) { return Ints{} + static_cast<int32_t>(word); }
    static Floats floats(Sum sum) { return __builtin_convertvector(sum, Floats); }

#if defined(__AVX512VNNI__) || defined(__aarch64__)
    using Register = Words;

    static Register value(Words x) { return x; }
    static Sum dot(Sum sum, Register w, Register x) { return dot_halfbytes(sum, w, x); }
#endif
#if defined(__AVX512VNNI__)
    static constexpr int32_t kBias = 128;

    static Register weight(Words w) { return w; }
#elif defined(__aarch64__)
    static constexpr int32_t kBias = 0;

    static Register weight(Words w) { return w ^ 0x80808080u; }
#else
    struct Register {
        Words even, odd;  // bytes, as 16-bit integers
    };
    static constexpr int32_t kBias = 128;

    static Register weight(Words w) { return {w & 0x00ff00ffu, w >> 8 & 0x00ff00ffu}; }
#if defined(__AVX512F__)
    static Register value(Words x) {
        return {(Words)_mm512_srai_epi16(_mm512_slli_epi16((__m512i)x, 8), 8),
                (Words)_mm512_srai_epi16((__m512i)x, 8)};
    }
    static Sum dot(Sum sum, Register w, Register x) {
        return sum + (Ints)_mm512_madd_epi16((__m512i)w.even, (__m512i)x.even) +
               (Ints)_mm512_madd_epi16((__m512i)w.odd, (__m512i)x.odd);
    }
#else
    static Register value(Words x) {
        return {(Words)_mm256_srai_epi16(_mm256_slli_epi16((__m256i)x, 8), 8),
                (Words)_mm256_srai_epi16((__m256i)x, 8)};
    }
    static Sum dot(Sum sum, Register w, Register x) {
        return sum + (Ints)_mm256_madd_epi16((__m256i)w.even, (__m256i)x.even) +
               (Ints)_mm256_madd_epi16((__m256i)w.odd, (__m256i)x.odd);
    }
#endif
#endif
};

}  // namespace quire::QUIRE_ISA
