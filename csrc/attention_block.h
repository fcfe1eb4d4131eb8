// Attention of a few rows to one block of keys: scores, softmax, weighted values.
//
// A row is one query of one head. A block is kBlock positions of a sequence, counted from its
// start, and what a row gets from a block is computed in an order that depends on nothing but the
// positions. So it is the same to the last bit whoever else is computed with it.
//
// Decode waits for memory, and rows of different pages follow no pattern that a CPU would see. So
// whoever reads kTile rows asks for the kTile that come next.
#pragma once

#include "shuffle.h"

namespace quire::QUIRE_ISA {

inline constexpr int64_t kBlock = 256;               // keys
inline constexpr int64_t kVectors = 4;               // registers of scores or sums a row has
inline constexpr int64_t kTile = kVectors * kLanes;  // keys whose scores are made at a time
inline constexpr int kRows = kLanes == 16 ? 6 : 2;   // rows that share what is in registers
static_assert(kBlock % kTile == 0);

inline Words load_words(const void* p) {
    Words words;
    std::memcpy(&words, p, sizeof words);
    return words;
}

inline Words splat_word(const void* p) {
    uint32_t word;
    std::memcpy(&word, p, sizeof word);
    return Words{} + word;
}

// Keys or values of some positions.
template <class Value>
struct Rows {
    const Value* base;
    const int64_t* offsets;

    const Value* operator[](int64_t i) const { return base + offsets[i]; }
    Rows from(int64_t i) const { return {base, offsets + i}; }
};

// --- elements: what q, k and v hold ---

// Two bfloat16 a word. Products and sums are fp32; AVX512-BF16 has one instruction for both.
struct Bf16 {
    using Value = uint16_t;
    static constexpr int64_t kPerWord = 2;
    static constexpr uint32_t kOnes = 0x3f803f80;

    static Floats dot(Floats sum, Words a, Words b) {
#if defined(__AVX512BF16__)
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
        sum += (Floats)(a << 16) * (Floats)(b << 16);
        return sum + (Floats)(a & 0xffff0000u) * (Floats)(b & 0xffff0000u);
#endif
    }

    static Words pack(const Floats (&x)[2]) {
#if defined(__AVX512BF16__)
        return (Words)_mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);
#else
        uint16_t packed[2 * kLanes];
        store(packed, x[0]);
        store(packed + kLanes, x[1]);
        return load_words(packed);
#endif
    }

    // V * kLanes dimensions of two keys, a word for each dimension; not in order if V > 1.
    template <int V>
    static void load_values(Rows<Value> rows, int64_t dim, Words (&to)[V]) {
        if constexpr (V == 1) {
            to[0] = spread(rows[0] + dim) | spread(rows[1] + dim) << 16;
        } else {
            QUIRE_UNROLL
            for (int v = 0; v < V; v += 2) {
                const Words a = load_words(rows[0] + dim + v * kLanes);
                const Words b = load_words(rows[1] + dim + v * kLanes);
                to[v] = zip_shorts<false>(a, b);
                to[v + 1] = zip_shorts<true>(a, b);
            }
        }
    }

    // What was computed of values as load_values has them.
    template <int V>
    static void put_in_order(Floats (&sums)[V]) {
        QUIRE_UNROLL
        for (int v = 0; v + 1 < V; v += 2) {
            const Floats low = sums[v], high = sums[v + 1];
            sums[v] = zip_quads<false>(low, high);
            sums[v + 1] = zip_quads<true>(low, high);
        }
    }

    static Words spread(const uint16_t* p) {
        Halves h;
        std::memcpy(&h, p, sizeof h);
        return __builtin_convertvector(h, Words);
    }
};

struct Fp32 {
    using Value = float;
    static constexpr int64_t kPerWord = 1;
    static constexpr uint32_t kOnes = 0x3f800000;

    static Floats dot(Floats sum, Words a, Words b) { return sum + (Floats)a * (Floats)b; }

    static Words pack(const Floats (&x)[1]) { return (Words)x[0]; }

    template <int V>
    static void load_values(Rows<Value> rows, int64_t dim, Words (&to)[V]) {
        QUIRE_UNROLL
        for (int v = 0; v < V; ++v) to[v] = load_words(rows[0] + dim + v * kLanes);
    }

    template <int V>
    static void put_in_order(Floats (&)[V]) {}
};

// --- scores ---

// Words [w, w + kLanes) of kLanes rows -> columns, kVectors apart. Asks for those of `next`, too.
// Not inlined, or gcc computes all addresses first and spills what they crowd out of registers.
template <class Value>
[[gnu::noinline]] void turn_square(Rows<Value> rows, Rows<Value> next, int64_t w, Words* columns) {
    const int64_t at = w * (sizeof(Words) / kLanes / sizeof(Value));
    Words square[kLanes];
    QUIRE_UNROLL
    for (int64_t i = 0; i < kLanes; ++i) {
        __builtin_prefetch(next[i] + at);
        square[i] = load_words(rows[i] + at);
    }
    transpose(square);
    QUIRE_UNROLL
    for (int64_t i = 0; i < kLanes; ++i) columns[i * kVectors] = square[i];
}

// rows [kTile] of `words` words each -> columns [words, kVectors]: word w of all keys side by side.
template <class Value>
inline void turn_keys(Rows<Value> rows, Rows<Value> next, int64_t words, Words* columns) {
    for (int64_t v = 0; v < kVectors; ++v, rows = rows.from(kLanes), next = next.from(kLanes)) {
        const auto turn = [&](int64_t w) {
            turn_square(rows, next, w, columns + w * kVectors + v);
        };
        for (int64_t w = 0; w + kLanes <= words; w += kLanes) turn(w);
        // The last words once more, if they fill no register of their own.
        if (words % kLanes != 0) turn(words - kLanes);
    }
}

// queries [R, words], columns [words, kVectors] -> scores [R, kTile], kBlock apart.
template <class Element, int R>
inline void score(const uint32_t* queries, int64_t words, const Words* columns, float* scores) {
    Floats sums[R][kVectors] = {};
    for (int64_t w = 0; w < words; ++w)
        QUIRE_UNROLL
        for (int r = 0; r < R; ++r) {
            const Words query = splat_word(queries + r * words + w);
            QUIRE_UNROLL
            for (int64_t v = 0; v < kVectors; ++v)
                sums[r][v] = Element::dot(sums[r][v], columns[w * kVectors + v], query);
        }
    QUIRE_UNROLL
    for (int r = 0; r < R; ++r)
        QUIRE_UNROLL
        for (int64_t v = 0; v < kVectors; ++v) store(scores + r * kBlock + v * kLanes, sums[r][v]);
}

// --- softmax ---

struct Scoring {
    float scale;
    float softcap;  // 0: none
};

struct Weighed {
    float largest;  // logarithm to base 2 of what weights are shares of; of no key, very low
    float sum;      // of the weights
};

inline constexpr float kLog2e = 1.44269504f;
inline constexpr float kLowest = -1e30f;  // below every score, above what is hidden

// 2 to the x for x <= 0 within 5 ulp, 1 for 0; 0 below -120.
inline Floats exp2(Floats x) {
    const Floats bounded = max(splat(-120.0f), x);  // a NaN stays one
    const Floats shifted = bounded + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
    const Floats f = bounded - (shifted - 12582912.0f);
    Floats p = splat(1.33908668e-3f);  // the best of its degree on [-1/2, 1/2]
    p = p * f + 9.66637395e-3f;
    p = p * f + 5.55035695e-2f;
    p = p * f + 2.40223482e-1f;
    p = p * f + 6.93147182e-1f;
    p = p * f + 1.0f;
    const Floats made = (Floats)((Words)p + ((Words)shifted << 23));
    return x < -120.0f ? Floats{} : made;
}

inline Floats capped(Floats score, float softcap) {
    // tanh(x) = 1 - 2 / (e^2x + 1)
    const Floats tanh = 1.0f - 2.0f / (exp(score * (2.0f / softcap)) + 1.0f);
    return tanh * softcap;
}

// scores [count] of one row, of which [low, high) are visible -> weights [count], e to the power
// of (score - largest), 0 where not visible. In bfloat16 the sum is that of the rounded weights.
// `count` is a multiple of kTile.
template <class Element>
[[gnu::noinline]] Weighed weigh(float* scores, int64_t count, int64_t low, int64_t high,
                                Scoring how, typename Element::Value* weights) {
    Ints lane;
    for (int64_t i = 0; i < kLanes; ++i) lane[i] = static_cast<int32_t>(i);
    Floats most[kVectors];
    QUIRE_UNROLL
    for (Floats& m : most) m = splat(kLowest);
    for (int64_t key = 0; key < count; key += kTile) {
        const bool hides = key < low || key + kTile > high;
        QUIRE_UNROLL
        for (int64_t v = 0; v < kVectors; ++v) {
            const int64_t at = key + v * kLanes;
            Floats s = load(scores + at);
            if (how.softcap != 0) s = capped(s * how.scale, how.softcap);
            if (hides) {
                const Ints index = lane + static_cast<int32_t>(at);
                const Ints visible =
                    (index >= static_cast<int32_t>(low)) & (index < static_cast<int32_t>(high));
                s = visible ? s : splat(-__builtin_inff());
            }
            if (hides || how.softcap != 0) store(scores + at, s);
            most[v] = max(most[v], s);
        }
    }
    const float factor = how.softcap != 0 ? kLog2e : how.scale * kLog2e;
    const Floats offset = factor * fold(max(max(most[0], most[1]), max(most[2], most[3])), max);
    Floats sums[kVectors] = {};
    for (int64_t key = 0; key < count; key += kTile)
        QUIRE_UNROLL
        for (int64_t v = 0; v < kVectors; v += Element::kPerWord) {
            Floats weight[Element::kPerWord];
            QUIRE_UNROLL
            for (int64_t i = 0; i < Element::kPerWord; ++i)
                weight[i] = exp2(load(scores + key + (v + i) * kLanes) * factor - offset);
            const Words packed = Element::pack(weight);
            std::memcpy(weights + key + v * kLanes, &packed, sizeof packed);
            sums[v] = Element::dot(sums[v], packed, Words{} + Element::kOnes);
        }
    const auto add = [](Floats a, Floats b) { return a + b; };
    return {offset[0], fold((sums[0] + sums[1]) + (sums[2] + sums[3]), add)[0]};
}

// --- weighted values ---

// values: rows [count] of keys, weights [R, count] kBlock apart -> sums [R, V * kLanes] of the
// dimensions from `dim` on, `stride` apart. Asks for those dimensions of `next` [kTile], too, and
// on the way of its own rows, if `asks`.
template <class Element, int R, int V>
inline void add_values(Rows<typename Element::Value> rows, Rows<typename Element::Value> next,
                       bool asks, int64_t count, int64_t dim,
                       const typename Element::Value* weights, float* sums, int64_t stride) {
    constexpr int64_t kLine = 64 / sizeof(typename Element::Value);
    Floats total[R][V] = {};
    for (int64_t key = 0; key < count; key += Element::kPerWord) {
        if (asks) {
            const bool last = key + kTile >= count;
            const auto ahead = last ? next.from(key + kTile - count) : rows.from(key + kTile);
            for (int64_t k = 0; k < Element::kPerWord; ++k)
                for (int64_t d = dim; d < dim + V * kLanes; d += kLine)
                    __builtin_prefetch(ahead[k] + d);
        }
        Words values[V];
        Element::load_values(rows.from(key), dim, values);
        QUIRE_UNROLL
        for (int r = 0; r < R; ++r) {
            const Words weight = splat_word(weights + r * kBlock + key);
            QUIRE_UNROLL
            for (int v = 0; v < V; ++v) total[r][v] = Element::dot(total[r][v], values[v], weight);
        }
    }
    QUIRE_UNROLL
    for (int r = 0; r < R; ++r) {
        Element::put_in_order(total[r]);
        QUIRE_UNROLL
        for (int v = 0; v < V; ++v) store(sums + r * stride + dim + v * kLanes, total[r][v]);
    }
}

// Calls f(std::integral_constant<int, R>, first) for runs of R <= kRows rows that cover [0, rows).
template <int R = kRows, class F>
inline void by_rows(int64_t rows, const F& f, int64_t first = 0) {
    for (; rows - first >= R; first += R) f(std::integral_constant<int, R>{}, first);
    if constexpr (R > 1) by_rows<R - 1>(rows, f, first);
}

}  // namespace quire::QUIRE_ISA
