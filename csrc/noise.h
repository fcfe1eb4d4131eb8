// The sampler's noise, a function of (seed, position, token), as kernels/sample/noise.py has it.
#pragma once

#include <cmath>

#include "simd.h"

namespace quire::QUIRE_ISA {

typedef uint64_t Longs __attribute__((vector_size(kLanes * 8)));

inline constexpr int64_t kRun = 8;  // noise.py's LANE
inline constexpr int64_t kCounters = kLanes > kRun ? kLanes : kRun;
inline constexpr int64_t kNoiseTokens = 4 * kCounters;  // that one call of `noise` is for

// The halves of a 64-bit product.
inline void multiply(Words a, uint32_t b, Words& high, Words& low) {
    const Longs product = __builtin_convertvector(a, Longs) * uint64_t{b};
    high = __builtin_convertvector(product >> 32, Words);
    low = a * b;
}

struct Source {
    uint64_t seed, position;
};

// Philox-4x32-10 of counters (c, position, 0): four words for each.
inline void philox(Words c, Source from, Words (&words)[4]) {
    Words c0 = c, c1 = Words{} + static_cast<uint32_t>(from.position),
          c2 = Words{} + static_cast<uint32_t>(from.position >> 32), c3{};
    uint32_t k0 = static_cast<uint32_t>(from.seed), k1 = static_cast<uint32_t>(from.seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        Words high0, low0, high1, low1;
        multiply(c0, 0xD2511F53u, high0, low0);
        multiply(c2, 0xCD9E8D57u, high1, low1);
        c0 = high1 ^ c1 ^ k0, c1 = low1;
        c2 = high0 ^ c3 ^ k1, c3 = low0;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Standard Gumbel noise: -log(E) of E = -log(1 - w), w = (bits + 1/2) / 2^32.
inline Floats gumbel(Words bits) {
    const Floats w = (__builtin_convertvector(bits, Floats) + 0.5f) * 0x1p-32f;
    // Where w is small, 1 - w would lose it.
    const Floats series = w * (1.0f + w * (0.5f + w * (1.0f / 3.0f)));
    const Floats rest = 1.0f - w;
    const Floats exponential = w < 0x1p-8f ? series : -log(max(rest, splat(0x1p-25f)));
    return -log(exponential);
}

// The noise of tokens [begin, begin + kNoiseTokens), `begin` a multiple of kNoiseTokens.
inline void noise(int64_t begin, Source from, float* out) {
    constexpr int64_t kPiece = kLanes < kRun ? kLanes : kRun;  // of a run, within one vector
    Words lane;
    for (int64_t i = 0; i < kLanes; ++i) lane[i] = static_cast<uint32_t>(i);
    for (int64_t first = 0; first < kCounters; first += kLanes) {
        Words words[4];
        philox(lane + static_cast<uint32_t>(begin / 4 + first), from, words);
        for (int64_t w = 0; w < 4; ++w) {
            float made[kLanes];
            store(made, gumbel(words[w]));
            for (int64_t i = 0; i < kLanes; i += kPiece) {
                const int64_t run = (first + i) / kRun, within = (first + i) % kRun;
                float* const to = out + 4 * kRun * run + kRun * w + within;
                std::memcpy(to, made + i, kPiece * sizeof(float));
            }
        }
    }
}

}  // namespace quire::QUIRE_ISA
