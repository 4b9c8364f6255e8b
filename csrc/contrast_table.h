// The table of contrast_kernels.h, filled for one type V.
#pragma once

#include "contrast_kernels.h"
#include "contrast_tiles.h"
#include "contrast_weight.h"

namespace detach {

template <class V>
constexpr ContrastKernels<typename V::Value> contrast_table() {
  return {V::width * V::vectors, &dot<V>,           &square<V>,         &scale_rows<V>,
          &pack_windows<V>,      &pack_features<V>, &multiply<V>,       &weigh<V>,
          &scale_tile<V>,        &sum_tile<V>,      &sums<V>,           &wide_sums<V>,
          &wide_gradient<V>,     &gather_rows<V>,   &gather_columns<V>, &finish<V>};
}

}  // namespace detach
