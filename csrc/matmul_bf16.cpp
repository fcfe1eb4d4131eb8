// bfloat16 weights as the checkpoint has them, bfloat16 activations, fp32 sums.
#include "matmul_rows.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

#if defined(__AVX512BF16__)
struct Bfloat16 {
    using Register = __m512bh;
    using Sum = Floats;

    static Register weight(const uint8_t* p) { return (Register)_mm512_loadu_si512(p); }
    static Register value(const uint8_t* p) { return weight(p); }
    static Sum dot(Sum sum, Register a, Register b) { return _mm512_dpbf16_ps(sum, a, b); }
    static Floats floats(Sum sum) { return sum; }
};
#else
struct Bfloat16 {
    struct Register {
        Floats even, odd;
    };
    using Sum = Floats;

    static Register weight(const uint8_t* p) {
        Words words;
        std::memcpy(&words, p, sizeof words);
        return {(Floats)(words << 16), (Floats)(words & 0xffff0000u)};
    }
    static Register value(const uint8_t* p) { return weight(p); }
    static Sum dot(Sum sum, Register a, Register b) {
        return sum + a.even * b.even + a.odd * b.odd;
    }
    static Floats floats(Sum sum) { return sum; }
};
#endif

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(matmul_bf16)(const uint16_t* x, int64_t x_stride, const uint16_t* w,
                               const uint16_t* bias, uint16_t* y, int64_t y_stride, int64_t rows,
                               int64_t outputs, int64_t inputs, int64_t activation) {
    using namespace quire::QUIRE_ISA;
    if (rows == 0) return;
    const Result result{y, y_stride, rows, outputs, bias, activation};
    const auto bytes = [](const uint16_t* p) { return reinterpret_cast<const uint8_t*>(p); };
    const int64_t size = (2 * inputs + kRegister - 1) / kRegister * kRegister;
    auto* grouped = static_cast<uint8_t*>(quire::scratch(rows * size));
    const Groups groups{grouped, rows, size};
    group_rows(groups, grouped, bytes(x), 2 * x_stride, 2 * inputs);
    few_rows<Bfloat16>(result, groups, bytes(w), 2 * inputs);
}
