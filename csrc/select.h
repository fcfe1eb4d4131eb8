// The k-th largest of many values, by count or by mass, without sorting them.
#pragma once

#include <cstdint>

#include "simd.h"

namespace quire::QUIRE_ISA {

inline float median(float a, float b, float c) {
    if (a > b) { const float t = a; a = b; b = t; }
    return c < a ? a : c > b ? b : c;
}

// Where [begin, end) holds what exceeds the pivot, what equals it and what is below it.
struct Partition {
    int64_t equal, below;
};

// `swap(i, j)` exchanges two elements.
template <class Swap>
inline Partition partition(const float* values, int64_t begin, int64_t end, const Swap& swap) {
    const float pivot = median(values[begin], values[begin + (end - begin) / 2], values[end - 1]);
    int64_t equal = begin, i = begin, below = end;
    while (i < below) {
        if (values[i] > pivot) swap(i++, equal++);
        else if (values[i] < pivot) swap(i, --below);
        else ++i;
    }
    return {equal, below};
}

inline void exchange(float* values, int64_t i, int64_t j) {
    const float t = values[i];
    values[i] = values[j], values[j] = t;
}

// The k-th largest of values [count], 1 <= k <= count, which are reordered.
inline float kth_largest(float* values, int64_t count, int64_t k) {
    const auto swap = [&](int64_t i, int64_t j) { exchange(values, i, j); };
    int64_t begin = 0, end = count;
    for (;;) {
        const Partition at = partition(values, begin, end, swap);
        if (k <= at.equal) end = at.equal;
        else if (k <= at.below) return values[at.equal];
        else begin = at.below;
    }
}

// The smallest value of the fewest largest ones, equals taken together, whose masses reach `goal`
// > 0; the smallest of all if none do. Both arrays [count > 0] are reordered.
inline float smallest_of_heaviest(float* values, float* masses, int64_t count, double goal) {
    const auto swap = [&](int64_t i, int64_t j) { exchange(values, i, j), exchange(masses, i, j); };
    int64_t begin = 0, end = count;
    double above = 0;
    for (;;) {
        const Partition at = partition(values, begin, end, swap);
        double larger = 0, equal = 0;
        for (int64_t i = begin; i < at.equal; ++i) larger += masses[i];
        for (int64_t i = at.equal; i < at.below; ++i) equal += masses[i];
        if (above + larger >= goal && at.equal > begin) {
            end = at.equal;
        } else if (above + larger + equal >= goal || at.below == end) {
            return values[at.equal];
        } else {
            above += larger + equal;
            begin = at.below;
        }
    }
}

}  // namespace quire::QUIRE_ISA
