// int8 weights with a scale for each output, activations quantized row by row, int32 sums. A unit
// is a step: four inputs. Weights are held with 128 added.
#include "dot_bytes.h"
#include "matmul_steps.h"
#include "quantize.h"
#include "quire.h"

void QUIRE_KERNEL(matmul_int8)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                               const float* scale, const uint16_t* bias, uint16_t* y,
                               int64_t y_stride, int64_t rows, int64_t outputs, int64_t inputs,
                               int64_t activation) {
    using namespace quire::QUIRE_ISA;
    const int64_t steps = (inputs + 3) / 4;
    const auto groups_of = [&](int64_t first_row, Result& block) {
        const uint16_t* const from = x + first_row * x_stride;
        return quantize_rows(from, x_stride, inputs, 4 * steps, -Int8::kBias, block);
    };
    const Result result{y, y_stride, rows, outputs, bias, activation, scale};
    multiply(Steps<Int8>{w, steps}, result, groups_of);
}
