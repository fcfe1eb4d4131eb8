// int8 weights with a scale for each output, activations quantized row by row, int32 sums.
#include "quantize.h"
#include "quire.h"

void QUIRE_KERNEL(matmul_int8)(const uint16_t* x, int64_t x_stride, const int8_t* w,
                               const float* scale, const uint16_t* bias, uint16_t* y,
                               int64_t y_stride, int64_t rows, int64_t outputs, int64_t inputs,
                               int64_t activation) {
    using namespace quire::QUIRE_ISA;
    if (rows == 0) return;
    const Quantized made = quantize_rows<kRegister, kRegister>(
        x, x_stride, rows, inputs,
        [](const int8_t* values, uint8_t* to) { std::memcpy(to, values, kRegister); });
    const Result result{y,    y_stride,   rows,  outputs,    bias,
                        activation, scale, made.scale, made.offset};
    few_rows<Int8>(result, made.groups, reinterpret_cast<const uint8_t*>(w), inputs);
}
