// RMSNorm of rows, alone or with the residual addition before it: one read and one write a row.
#include "rms_norm.h"

#include "parallel.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

template <class T>
void norm_rows(const T* x, const T* residual, const T* weight, T* out, T* total, int64_t rows,
               int64_t size, int64_t stride, Norm norm) {
    parallel_for(rows, grain(size), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const T* row = x + r * stride;
            if (residual != nullptr) {
                each(size, [&](int64_t i, auto access) {
                    access.store(total + r * size + i,
                                 access.load(row + i) + access.load(residual + r * size + i));
                });
                row = total + r * size;
            }
            rms_norm(row, weight, out + r * size, size, norm);
        }
    });
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(rms_norm)(const void* x, const void* residual, const void* weight, void* out,
                            void* total, int64_t rows, int64_t size, int64_t stride, float eps,
                            float offset, int64_t bf16) {
    using namespace quire::QUIRE_ISA;
    const auto run = [&](auto element) {
        using T = decltype(element);
        norm_rows(static_cast<const T*>(x), static_cast<const T*>(residual),
                  static_cast<const T*>(weight), static_cast<T*>(out), static_cast<T*>(total), rows,
                  size, stride, {eps, offset});
    };
    bf16 ? run(uint16_t{}) : run(float{});
}
