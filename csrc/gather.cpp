// Rows of a weight in panels, as bfloat16: embeddings.
#include "matmul.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

// Rounds a finite number to bfloat16. `narrow` of some instruction sets has no denormal numbers.
uint16_t rounded(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void gather_row(const QuireLinear& w, int64_t id, uint16_t* to) {
    const int64_t panel = id / kPanel, column = id % kPanel, size = w.inputs;
    if (w.format == 0) {
        const uint32_t* const words = w.data + panel * ((size + 1) / 2) * kPanel + column;
        for (int64_t i = 0; i < size; ++i)
            to[i] = static_cast<uint16_t>(words[i / 2 * kPanel] >> i % 2 * 16);
    } else if (w.format == 1) {
        const uint32_t* const words = w.data + panel * ((size + 3) / 4) * kPanel + column;
        const float scale = static_cast<const float*>(w.scale)[id];
        for (int64_t i = 0; i < size; ++i) {
            const uint32_t byte = words[i / 4 * kPanel] >> i % 4 * 8 & 255;
            to[i] = rounded((static_cast<int32_t>(byte) - 128) * scale);
        }
    } else {
        const int64_t groups = (size + w.group - 1) / w.group;
        const uint32_t* const words = w.data + panel * (groups * w.group / 8) * kPanel + column;
        const auto* const scales =
            static_cast<const uint16_t*>(w.scale) + panel * groups * kPanel + column;
        for (int64_t i = 0; i < size; ++i) {
            const uint32_t half = words[i / 8 * kPanel] >> (i % 4 * 8 + i % 8 / 4 * 4) & 15;
            to[i] = rounded((static_cast<int32_t>(half) - 8) * widen(scales[i / w.group * kPanel]));
        }
    }
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(gather)(const QuireLinear* weight, const int64_t* ids, uint16_t* to,
                          int64_t count) {
    using namespace quire::QUIRE_ISA;
    quire::parallel_for(count, 4, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) gather_row(*weight, ids[i], to + i * weight->inputs);
    });
}
