// Products of x [rows, inputs] with weights in panels: y = x w^T.
//
// A panel is 32 outputs. Step after step along the inputs it holds a word of each, side by side: 2
// bfloat16, 4 int8 or 8 int4. So a register of weights meets one word of x, copied to all its lanes,
// and a lane's sum is one output's: nothing is added across lanes, and the panels of a weight are
// one stretch of memory that one row of x reads from beginning to end. Past the outputs and past
// the inputs a panel is zeros. `pack.cpp` makes panels.
//
// A tile is what one pass along the inputs computes: up to kTileRows rows of x by two registers of
// outputs, whose sums stay in registers. x is copied in that order first: of each group of rows, word
// after word, the rows side by side. Inputs are cut so that a panel's part stays in the nearest
// cache while all groups of a block of rows pass over it, and the next part is asked for meanwhile.
//
// A sum runs along the inputs from the first to the last, whatever the tile: a row's products are
// the same to the last bit in any company, and an engine that goes on after a crash computes in one
// step what took many before.
#pragma once

#include "activation.h"
#include "parallel.h"
#include "simd.h"

namespace quire::QUIRE_ISA {

inline constexpr int64_t kPanel = 32;
inline constexpr int64_t kTileVectors = 2;
#if defined(__AVX512F__)
inline constexpr int64_t kTileRows = 12;  // 24 of 32 registers hold sums
#elif defined(__aarch64__)
inline constexpr int64_t kTileRows = 8;
#else
inline constexpr int64_t kTileRows = 4;
#endif
inline constexpr int64_t kTileColumns = kTileVectors * kLanes;
inline constexpr int64_t kBlockRows = 192;
inline constexpr int64_t kBlockGroups = kBlockRows / kTileRows;
inline constexpr int64_t kPartWords = 8 << 10;  // of a panel at a time
inline constexpr int64_t kMaxPanels = 3;         // of a chunk

// x as tiles read it: groups of rows as even as can be, `words` of each row.
struct Groups {
    const uint32_t* data;
    int64_t rows, words;

    int64_t count() const { return (rows + kTileRows - 1) / kTileRows; }
    int64_t first(int64_t group) const { return group * rows / count(); }
    int64_t rows_of(int64_t group) const { return first(group + 1) - first(group); }
    const uint32_t* at(int64_t group) const { return data + first(group) * words; }
};

// Fills groups [rows, words] at `to`: fill(row, to, stride) makes a row, its words `stride` apart.
template <class Fill>
Groups make_groups(uint32_t* to, int64_t rows, int64_t words, const Fill& fill) {
    const Groups groups{to, rows, words};
    const int64_t grain = 16384 / (kTileRows * words) + 1;
    parallel_for(groups.count(), grain, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
            const int64_t first = groups.first(group), count = groups.rows_of(group);
            for (int64_t r = 0; r < count; ++r) fill(first + r, to + first * words + r, count);
        }
    });
    return groups;
}

// Where sums go: y [rows, outputs], rows y_stride apart; bias [outputs] or null. With an activation
// w and bias have 2 * outputs rows, gates first. int8 weights have a scale for each row, and so have
// rows that were rounded to int8.
struct Result {
    uint16_t* y;
    int64_t y_stride, rows, outputs;
    const uint16_t* bias;
    int64_t activation;
    const float* scale = nullptr;
    const float* row_scale = nullptr;

    bool gated() const { return activation != kNone; }
    int64_t chunks() const { return (outputs + kPanel - 1) / kPanel; }

    // A chunk is a panel of outputs; if gated, also the one or two that hold their up rows.
    int64_t panels() const { return !gated() ? 1 : outputs % kPanel == 0 ? 2 : 3; }
    int64_t panel(int64_t chunk, int64_t index) const {
        if (index == 0) return chunk;
        const int64_t last = (2 * outputs - 1) / kPanel, at = chunk + outputs / kPanel + index - 1;
        return at < last ? at : last;
    }

    // Makes y of a chunk's sums [panels * kPanel] of row `row`.
    void finish(int64_t row, int64_t chunk, const float* sums) const {
        const int64_t first = chunk * kPanel;
        const int64_t end = outputs - first < kPanel ? outputs - first : kPanel;
        for (int64_t i = 0; i < end; i += kLanes) {
            const int64_t left = end - i;
            Floats value = finished(row, first + i, load(sums + i), left);
            if (gated()) {
                const Floats up = load(sums + kPanel + outputs % kPanel + i);
                value = activate(value, activation) * finished(row, outputs + first + i, up, left);
            }
            uint16_t* to = y + row * y_stride + first + i;
            if (left >= kLanes)
                store(to, value);
            else
                store_part(to, value, left);
        }
    }

  private:
    Floats finished(int64_t row, int64_t weight_row, Floats sums, int64_t left) const {
        if (row_scale != nullptr) sums *= row_scale[row];
        if (scale != nullptr) sums *= some(scale + weight_row, left);
        if (bias != nullptr) sums += some(bias + weight_row, left);
        return sums;
    }

    template <class T>
    static Floats some(const T* p, int64_t count) {
        return count >= kLanes ? load(p) : load_part(p, count);
    }
};

// Asks for memory while tiles are computed, `share` words with each step of each tile.
struct Ahead {
    const uint32_t* next;
    int64_t share;

    void step() {
        __builtin_prefetch(next, 0, 3);
        next += share;
    }
};

// Where a tile is: sums [kRows], rows `stride` apart, from a column of a panel on; x of its group;
// units [begin, end) of the panel. Sums start from nothing if begin is 0.
struct Place {
    float* sums;
    int64_t stride;
    const uint32_t* x;
    int64_t panel, column, begin, end;
};

// Calls function.template operator()<n>() for n = `count` in [1, kMost].
template <int64_t kMost, class Function>
inline void with_constant(int64_t count, const Function& function) {
    if constexpr (kMost > 0) {
        if (count == kMost)
            function.template operator()<kMost>();
        else
            with_constant<kMost - 1>(count, function);
    }
}

// Sums of a panel with groups [first, first + count) of x, from the first group's first row on.
template <class Format>
void multiply_panel(const Format& format, const Groups& x, int64_t first, int64_t count,
                    int64_t panel, float* sums, int64_t stride) {
    const int64_t part = count == 1 ? format.units : kPartWords / format.unit_words;
    for (int64_t begin = 0; begin < format.units; begin += part) {
        const int64_t end = format.units - begin < part ? format.units : begin + part;
        // The next part, or what comes after the panel.
        Ahead ahead{format.weights + (panel * format.units + end) * format.unit_words,
                    (kPanel + count - 1) / count};
        const int64_t steps = (end - begin) * format.unit_words / kPanel;
        for (int64_t group = first; group < first + count; ++group) {
            Place at{sums + (x.first(group) - x.first(first)) * stride, stride, x.at(group),
                     panel, 0, begin, end};
            with_constant<kTileRows>(x.rows_of(group), [&]<int64_t kRows>() {
                for (; at.column < kPanel; at.column += kTileColumns, at.sums += kTileColumns)
                    format.template tile<kRows>(at, ahead);
            });
            ahead.next += steps * ahead.share;
        }
    }
}

// The whole product. `Format` says what panels are made of:
//   weights, units, unit_words   of a panel: so many units along the inputs, so many words each
//   tile<kRows>(place, ahead)    adds to the sums of a tile
//   floats(sums)                 kLanes of those sums as Floats
template <class Format>
void multiply(const Format& format, const Result& result, const Groups& x) {
    const int64_t chunks = result.chunks(), panels = result.panels(), stride = panels * kPanel;
    parallel_for(chunks, chunks / 32 + 1, [&](int64_t begin, int64_t end) {
        alignas(64) float sums[kBlockRows * kMaxPanels * kPanel];
        for (int64_t chunk = begin; chunk < end; ++chunk)
            for (int64_t first = 0; first < x.count(); first += kBlockGroups) {
                const int64_t left = x.count() - first;
                const int64_t count = left < kBlockGroups ? left : kBlockGroups;
                for (int64_t index = 0; index < panels; ++index)
                    multiply_panel(format, x, first, count, result.panel(chunk, index),
                                   sums + index * kPanel, stride);
                float* of_row = sums;
                for (int64_t row = x.first(first); row < x.first(first + count); ++row) {
                    for (int64_t i = 0; i < stride; i += kLanes)
                        store(of_row + i, Format::floats(of_row + i));
                    result.finish(row, chunk, of_row);
                    of_row += stride;
                }
            }
    });
}

}  // namespace quire::QUIRE_ISA
