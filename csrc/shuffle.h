// Lanes of registers in another order.
#pragma once

#include <utility>

#include "simd.h"

namespace quire::QUIRE_ISA {

typedef uint16_t Shorts __attribute__((vector_size(kLanes * 4)));

// Lane i is lane pick(i) of a and b, one behind the other.
template <class V, class Pick, uint32_t... I>
inline V shuffle(V a, V b, Pick pick, std::integer_sequence<uint32_t, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, pick(I)...);
#else
    using Index = std::conditional_t<sizeof(a[0]) == 2, Shorts, Words>;
    return __builtin_shuffle(a, b, Index{pick(I)...});
#endif
}

template <class V>
using Lanes = std::make_integer_sequence<uint32_t, sizeof(V) / sizeof(V{}[0])>;

// The lanes of a and b in turn: the first half of them, and the second.
inline Words zip_low(Words a, Words b) {
    const auto pick = [](uint32_t i) constexpr { return i / 2 + i % 2 * uint32_t{kLanes}; };
    return shuffle(a, b, pick, Lanes<Words>{});
}

inline Words zip_high(Words a, Words b) {
    const auto pick = [](uint32_t i) constexpr {
        return (i + kLanes) / 2 + i % 2 * uint32_t{kLanes};
    };
    return shuffle(a, b, pick, Lanes<Words>{});
}

// The same of pairs of 16 bits, within each 16 bytes: `kHigh` the second halves of those.
template <bool kHigh>
inline Words zip_shorts(Words a, Words b) {
    const auto pick = [](uint32_t i) constexpr {
        return uint16_t(i / 8 * 8 + i % 8 / 2 + kHigh * 4 + i % 2 * 2 * kLanes);
    };
    return (Words)shuffle((Shorts)a, (Shorts)b, pick, Lanes<Shorts>{});
}

// 16 bytes of a and b in turn: the first half of them, or the second.
template <bool kHigh>
inline Floats zip_quads(Floats a, Floats b) {
    const auto pick = [](uint32_t i) constexpr {
        const uint32_t quad = i / 4 + kHigh * kLanes / 4;
        return quad / 2 * 4 + i % 4 + quad % 2 * uint32_t{kLanes};
    };
    return shuffle(a, b, pick, Lanes<Floats>{});
}

// Every lane is that of all lanes, by `add` of two, always in the same order.
template <class Add, uint32_t kStep = kLanes / 2>
inline Floats fold(Floats x, Add add) {
    if constexpr (kStep == 0) {
        return x;
    } else {
        const auto pick = [](uint32_t i) constexpr { return i ^ kStep; };
        return fold<Add, kStep / 2>(add(x, shuffle(x, x, pick, Lanes<Floats>{})), add);
    }
}

// Swaps rows and columns: zipping row i with row i + kLanes / 2 does it in log2(kLanes) rounds.
inline void transpose(Words (&x)[kLanes]) {
    QUIRE_UNROLL
    for (int64_t round = 1; round < kLanes; round *= 2) {
        Words zipped[kLanes];
        QUIRE_UNROLL
        for (int64_t i = 0; i < kLanes / 2; ++i) {
            zipped[2 * i] = zip_low(x[i], x[i + kLanes / 2]);
            zipped[2 * i + 1] = zip_high(x[i], x[i + kLanes / 2]);
        }
        QUIRE_UNROLL
        for (int64_t i = 0; i < kLanes; ++i) x[i] = zipped[i];
    }
}

}  // namespace quire::QUIRE_ISA
