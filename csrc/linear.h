// A linear layer by its description.
#pragma once

#include "quire.h"

namespace quire::QUIRE_ISA {

// y [rows, outputs] = x [rows, inputs] w^T + bias; act(gate) * up if there is an activation.
inline void multiply(const QuireLinear& w, const uint16_t* x, uint16_t* y, int64_t rows,
                     int64_t activation = 0) {
    const auto* scale = static_cast<const uint16_t*>(w.scale);
    switch (w.format) {
        case 0:
            return QUIRE_KERNEL(matmul_bf16)(x, w.inputs, w.data, w.bias, y, w.outputs, rows,
                                             w.outputs, w.inputs, activation);
        case 1:
            return QUIRE_KERNEL(matmul_int8)(x, w.inputs, w.data,
                                             static_cast<const float*>(w.scale), w.bias, y,
                                             w.outputs, rows, w.outputs, w.inputs, activation);
        default:
            return QUIRE_KERNEL(matmul_int4)(x, w.inputs, w.data, scale, w.bias, y, w.outputs, rows,
                                             w.outputs, w.inputs, w.group, activation);
    }
}

}  // namespace quire::QUIRE_ISA
