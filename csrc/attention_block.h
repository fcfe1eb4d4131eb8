// Attention of a few rows to one block of keys: scores, softmax, weighted values.
//
// A row is one query of one head. A block is kBlock positions of a sequence, counted from its
// start, and what a row gets from a block is computed in an order that depends on nothing but the
// positions. So it is the same to the last bit whoever else is computed with it.
#pragma once

#include <utility>

#include "simd.h"

namespace quire::QUIRE_ISA {

inline constexpr int64_t kBlock = 256;               // keys
inline constexpr int64_t kVectors = 4;               // registers of scores or sums a row has
inline constexpr int64_t kTile = kVectors * kLanes;  // keys whose scores are made at a time
inline constexpr int kRows = kLanes == 16 ? 6 : 2;   // rows that share what is in registers
static_assert(kBlock % kTile == 0);

// --- elements: what q, k and v hold ---

// Two bfloat16 a word. Products and sums are fp32; AVX512-BF16 has one instruction for both.
struct Bf16 {
    using Value = uint16_t;
    static constexpr int64_t kPerWord = 2;

    static Floats dot(Floats sum, Words a, Words b) {
#if defined(__AVX512BF16__)
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
        sum += (Floats)(a << 16) * (Floats)(b << 16);
        return sum + (Floats)(a & 0xffff0000u) * (Floats)(b & 0xffff0000u);
#endif
    }

    // kLanes dimensions of two keys, a word for each dimension.
    static Words load_keys(const uint16_t* const* rows, int64_t dim) {
        return pair(rows[0] + dim) | pair(rows[1] + dim) << 16;
    }

    static Words pair(const uint16_t* p) {
        Halves h;
        std::memcpy(&h, p, sizeof h);
        return __builtin_convertvector(h, Words);
    }
};

struct Fp32 {
    using Value = float;
    static constexpr int64_t kPerWord = 1;

    static Floats dot(Floats sum, Words a, Words b) { return sum + (Floats)a * (Floats)b; }

    static Words load_keys(const float* const* rows, int64_t dim) {
        return (Words)load(rows[0] + dim);
    }
};

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

// --- keys by column: word w of kTile keys side by side ---

template <uint32_t... I>
inline Words shuffle(Words a, Words b, std::integer_sequence<uint32_t, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (I / 2 + I % 2 * kLanes)...);
#else
    return __builtin_shuffle(a, b, Words{(I / 2 + I % 2 * uint32_t{kLanes})...});
#endif
}

template <uint32_t... I>
inline Words shuffle_high(Words a, Words b, std::integer_sequence<uint32_t, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, ((I + kLanes) / 2 + I % 2 * kLanes)...);
#else
    return __builtin_shuffle(a, b, Words{((I + kLanes) / 2 + I % 2 * uint32_t{kLanes})...});
#endif
}

// Swaps rows and columns: zipping row i with row i + kLanes / 2 does it in log2(kLanes) rounds.
inline void transpose(Words (&x)[kLanes]) {
    using Lanes = std::make_integer_sequence<uint32_t, kLanes>;
    QUIRE_UNROLL
    for (int64_t round = 1; round < kLanes; round *= 2) {
        Words zipped[kLanes];
        QUIRE_UNROLL
        for (int64_t i = 0; i < kLanes / 2; ++i) {
            zipped[2 * i] = shuffle(x[i], x[i + kLanes / 2], Lanes{});
            zipped[2 * i + 1] = shuffle_high(x[i], x[i + kLanes / 2], Lanes{});
        }
        QUIRE_UNROLL
        for (int64_t i = 0; i < kLanes; ++i) x[i] = zipped[i];
    }
}

// rows [kTile] of `words` words each -> columns [words, kVectors]. On the way asks for the rows
// `next` and `values`, as rows of different pages follow no pattern that a CPU would see.
template <class Value>
inline void turn_keys(const Value* const* rows, const Value* const* next,
                      const Value* const* values, int64_t words, Words* columns) {
    const auto word = [](const Value* row, int64_t w) {
        return reinterpret_cast<const uint32_t*>(row) + w;
    };
    for (int64_t v = 0; v < kVectors; ++v, rows += kLanes, next += kLanes, values += kLanes) {
        int64_t w = 0;
        while (w < words) {
            // The last words once more, if they fill no register of their own.
            if (w + kLanes > words) w = words - kLanes;
            Words square[kLanes];
            QUIRE_UNROLL
            for (int64_t i = 0; i < kLanes; ++i) {
                __builtin_prefetch(word(next[i], w));
                __builtin_prefetch(word(values[i], w));
                square[i] = load_words(word(rows[i], w));
            }
            transpose(square);
            QUIRE_UNROLL
            for (int64_t i = 0; i < kLanes; ++i, ++w) columns[w * kVectors + v] = square[i];
        }
    }
}

// --- scores ---

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
    float largest;  // score; -inf where nothing is visible
    float sum;      // of the weights
};

inline Floats capped(Floats score, float softcap) {
    // tanh(x) = 1 - 2 / (e^2x + 1)
    const Floats tanh = 1.0f - 2.0f / (exp(score * (2.0f / softcap)) + 1.0f);
    return tanh * softcap;
}

// scores [count] of one row, of which [low, high) are visible -> weights [count], e to the power
// of (score - largest), 0 where not visible. In bfloat16 the sum is that of the rounded weights.
template <class Value>
[[gnu::noinline]] inline Weighed weigh(float* scores, int64_t count, int64_t low, int64_t high,
                                       Scoring how, Value* weights) {
    Ints lane;
    for (int64_t i = 0; i < kLanes; ++i) lane[i] = static_cast<int32_t>(i);
    const Floats hidden = splat(-__builtin_inff());
    Floats largest_seen = hidden;
    for (int64_t i = 0; i < count; i += kLanes) {
        Floats s = load(scores + i) * how.scale;
        if (how.softcap != 0) s = capped(s, how.softcap);
        const Ints index = lane + static_cast<int32_t>(i);
        const Ints visible =
            (index >= static_cast<int32_t>(low)) & (index < static_cast<int32_t>(high));
        s = visible ? s : hidden;
        largest_seen = max(largest_seen, s);
        store(scores + i, s);
    }
    const float most = largest(largest_seen);
    Floats total{};
    for (int64_t i = 0; i < count; i += kLanes) {
        const Floats weight = exp(load(scores + i) - most);
        store(weights + i, weight);
        total += load(weights + i);
    }
    return {most, sum(total)};
}

// --- weighted values ---

// values: rows [count] of keys, weights [R, count] kBlock apart -> sums [R, V * kLanes] of the
// dimensions from `dim` on, `stride` apart.
template <class Element, int R, int V>
inline void add_values(const typename Element::Value* const* rows, int64_t count, int64_t dim,
                       const typename Element::Value* weights, float* sums, int64_t stride) {
    Floats total[R][V] = {};
    for (int64_t key = 0; key < count; key += Element::kPerWord) {
        Words values[V];
        QUIRE_UNROLL
        for (int v = 0; v < V; ++v) values[v] = Element::load_keys(rows + key, dim + v * kLanes);
        QUIRE_UNROLL
        for (int r = 0; r < R; ++r) {
            const Words weight = splat_word(weights + r * kBlock + key);
            QUIRE_UNROLL
            for (int v = 0; v < V; ++v) total[r][v] = Element::dot(total[r][v], values[v], weight);
        }
    }
    QUIRE_UNROLL
    for (int r = 0; r < R; ++r)
        QUIRE_UNROLL
        for (int v = 0; v < V; ++v) store(sums + r * stride + dim + v * kLanes, total[r][v]);
}

// Calls f(std::integral_constant<int, R>, first) for runs of R <= kRows rows that cover [0, rows).
template <int R = kRows, class F>
inline void by_rows(int64_t rows, const F& f, int64_t first = 0) {
    for (; rows - first >= R; first += R) f(std::integral_constant<int, R>{}, first);
    if constexpr (R > 1) by_rows<R - 1>(rows, f, first);
}

}  // namespace quire::QUIRE_ISA
