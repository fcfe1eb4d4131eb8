// The activations of gated MLPs on vectors, by the number that Python passes.
#pragma once

#include <cmath>

#include "simd.h"

namespace quire::QUIRE_ISA {

enum Activation : int64_t { kNone, kSilu, kGelu, kGeluTanh, kRelu, kRelu2 };

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }

inline Floats activate(Floats x, int64_t activation) {
    switch (activation) {
        case kSilu:
            return x * sigmoid(x);
        case kGelu: {
            Floats y;
            for (int64_t i = 0; i < kLanes; ++i)
                y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
            return y;
        }
        case kGeluTanh:  // (1 + tanh(z)) / 2 is sigmoid(2 z)
            return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        case kRelu:
            return max(x, Floats{});
        case kRelu2:
            return max(x, Floats{}) * max(x, Floats{});
        default:
            return x;
    }
}

}  // namespace quire::QUIRE_ISA
