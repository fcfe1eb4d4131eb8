// Formats whose units are steps, each like the other. `Element` says what is in a register:
//   Sum, Register           types
//   kHead                   words of x before its first step, 0 or 1
//   start(word)             what sums start from, given the first word of x
//   weight(words)           a register of weights
//   value(words)            a word of x in all lanes
//   dot(sum, weight, value) products of the pairs in each lane, added up
//   floats(sum)             as Floats
#pragma once

#include "matmul.h"

namespace quire::QUIRE_ISA {

template <class Element>
struct Steps {
    using Sum = typename Element::Sum;

    const uint32_t* weights;
    int64_t units;
    static constexpr int64_t unit_words = kPanel;

    static Floats floats(const float* sums) { return Element::floats(load_sum(sums)); }

    template <int64_t kRows>
    void tile(const Place& at, Ahead ahead) const {
        Sum acc[kRows][kTileVectors];
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r)
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v)
                acc[r][v] = at.begin == 0 ? Element::start(at.x[r])
                                          : load_sum(at.sums + r * at.stride + v * kLanes);
        const uint32_t* w = weights + (at.panel * units + at.begin) * kPanel + at.column;
        const uint32_t* x = at.x + (Element::kHead + at.begin) * kRows;
        for (int64_t step = at.begin; step < at.end; ++step, w += kPanel, x += kRows) {
            typename Element::Register weight[kTileVectors];
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v)
                weight[v] = Element::weight(load(w + v * kLanes));
            QUIRE_UNROLL
            for (int64_t r = 0; r < kRows; ++r) {
                const auto value = Element::value(Words{} + x[r]);
                QUIRE_UNROLL
                for (int64_t v = 0; v < kTileVectors; ++v)
                    acc[r][v] = Element::dot(acc[r][v], weight[v], value);
            }
            ahead.step();
        }
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r)
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v)
                std::memcpy(at.sums + r * at.stride + v * kLanes, &acc[r][v], sizeof(Sum));
    }

  private:
    static Sum load_sum(const float* p) {
        Sum sum;
        std::memcpy(&sum, p, sizeof sum);
        return sum;
    }
};

}  // namespace quire::QUIRE_ISA
