// Vectors of as many floats as the instruction set being compiled has in a register, on the
// compilers' own vector types: + - * / < and ?: work on them as on floats.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Before a loop of a constant number of turns whose arrays are to live in registers.
#define QUIRE_UNROLL _Pragma("GCC unroll 16")

namespace quire::QUIRE_ISA {

#if defined(__AVX512F__)
inline constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int64_t kLanes = 8;
#else
inline constexpr int64_t kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));  // bfloat16

inline Floats splat(float x) { return Floats{} + x; }

inline Floats load(const float* p) {
    Floats v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline Words load(const uint32_t* p) {
    Words v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline Floats widen(Halves h) { return (Floats)(__builtin_convertvector(h, Words) << 16); }

// Rounds to nearest even. A NaN stays one.
inline Halves narrow(Floats v) {
#if defined(__AVX512BF16__)
    return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
    const Words bits = (Words)v;
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const Words quiet = (bits >> 16) | 0x40;
    return __builtin_convertvector(v == v ? rounded : quiet, Halves);
#endif
}

inline Floats load(const uint16_t* p) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return widen(h);
}

inline void store(uint16_t* p, Floats v) {
    const Halves h = narrow(v);
    std::memcpy(p, &h, sizeof h);
}

// The first `count` values of p, count in [0, kLanes); `rest` behind them.
template <class T>
inline Floats load_part(const T* p, int64_t count, float rest = 0) {
    T part[kLanes];
    store(part, splat(rest));
    std::memcpy(part, p, count * sizeof(T));
    return load(part);
}

// Stores the first `count` values of v, count in [0, kLanes).
template <class T>
inline void store_part(T* p, Floats v, int64_t count) {
    T part[kLanes];
    store(part, v);
    std::memcpy(p, part, count * sizeof(T));
}

inline float widen(uint16_t h) {
    const uint32_t bits = uint32_t{h} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }

inline float sum(Floats v) {
    float total = 0;
    for (int64_t i = 0; i < kLanes; ++i) total += v[i];
    return total;
}

inline int32_t sum(Ints v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t total = 0;
    for (int64_t i = 0; i < kLanes; ++i) total += v[i];
    return total;
#endif
}

inline float largest(Floats v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float found = v[0];
    for (int64_t i = 1; i < kLanes; ++i) found = v[i] > found ? v[i] : found;
    return found;
#endif
}

// e to the x within 2 ulp; 0 below -87, and finite above 88 (as if x were 88). A NaN stays one.
inline Floats exp(Floats x) {
    const Floats bounded = min(splat(88.0f), max(splat(-87.3f), x));
    // x = n ln 2 + r, |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer, ln 2 comes in two
    // parts so that n ln 2 is exact enough.
    const Floats shifted = bounded * 1.44269504f + 12582912.0f;
    const Floats n = shifted - 12582912.0f;
    const Floats r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = splat(1.0f / 5040);  // Taylor's series
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    const Words scale = ((Words)shifted - 0x4b400000u + 127u) << 23;  // 2^n
    const Floats made = p * (Floats)scale;
    return x < -87.3f ? Floats{} : made;
}

// The natural logarithm of positive normal numbers within 1 ulp, as fdlibm has it: of
// x = 2^n (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), a series in s = f / (2 + f).
inline Floats log(Floats x) {
    const Ints exponent = (Ints)((Words)x - 0x3f3504f3u) >> 23;
    const Floats n = __builtin_convertvector(exponent, Floats);
    const Floats f = (Floats)((Words)x - ((Words)exponent << 23)) - 1.0f;
    const Floats s = f / (2.0f + f), s2 = s * s;
    const Floats series = s2 * (0.66666667f + s2 * (0.4f + s2 * (0.28571429f + s2 * 0.22222222f)));
    const Floats half = 0.5f * f * f;
    const Floats low = s * (half + series) + n * -2.12194440e-4f;
    return n * 0.693359375f - ((half - low) - f);
}

}  // namespace quire::QUIRE_ISA
