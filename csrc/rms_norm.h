// RMSNorm of one row, for the kernels that normalise.
#pragma once

#include "rows.h"

namespace quire::QUIRE_ISA {

struct Norm {
    float eps;
    float offset;  // added to the weight
};

// x, out [size], which may be the same: x / rms(x) * (weight + offset). Rounded as the checkpoints'
// authors do: before the product with the weight where there is no offset, after it where there is.
template <class T>
inline void rms_norm(const T* x, const T* weight, T* out, int64_t size, Norm norm) {
    Floats squares{};
    each(size, [&](int64_t i, auto access) {
        const Floats v = access.load(x + i);
        squares += v * v;
    });
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(size) + norm.eps);
    each(size, [&](int64_t i, auto access) {
        const Floats v = access.load(x + i) * scale;
        const Floats w = access.load(weight + i);
        access.store(out + i, norm.offset == 0 ? round_to<T>(v) * w : v * (w + norm.offset));
    });
}

}  // namespace quire::QUIRE_ISA
