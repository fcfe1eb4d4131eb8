// x [rows, 2 size], gate then up -> act(gate) * up [rows, size], in one pass.
#include "activation.h"
#include "parallel.h"
#include "quire.h"
#include "rows.h"

namespace quire::QUIRE_ISA {
namespace {

template <class T>
void gated_act(const T* x, T* out, int64_t rows, int64_t size, int64_t stride, int64_t activation) {
    parallel_for(rows, grain(size), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            each(size, [&](int64_t i, auto access) {
                const T* const gate = x + r * stride + i;
                access.store(out + r * size + i,
                             activate(access.load(gate), activation) * access.load(gate + size));
            });
    });
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(gated_act)(const void* x, void* out, int64_t rows, int64_t size, int64_t stride,
                             int64_t activation, int64_t bf16) {
    using namespace quire::QUIRE_ISA;
    if (bf16)
        gated_act(static_cast<const uint16_t*>(x), static_cast<uint16_t*>(out), rows, size, stride,
                  activation);
    else
        gated_act(static_cast<const float*>(x), static_cast<float*>(out), rows, size, stride,
                  activation);
}
