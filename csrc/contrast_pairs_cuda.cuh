// The pair kernel: for tiles of pairs, products of packed features become weights (Eq. 7 to 11),
// weights and logits become partial sums of denominators (Eq. 12) or gradients. Each unordered pair
// of blocks is visited once: T[i][j] = s_ji lies in the same registers as S[i][j] = s_ij and,
// unless motion is compared across modalities, takes the same weight.
#pragma once

#include "contrast_sums_cuda.cuh"

namespace detach::cuda {

template <class P, class S>
using WeightTile = typename P::Weights[S::tiles_m][S::tiles_n][2];

/// One tile's place in the problem.
template <class S>
struct Tile {
  int i;  ///< first window of A
  int j;
  bool checked;  ///< whether some pairs of it may not count

  __device__ __forceinline__ Tile(const PairProblem& p, Unit at, int part)
      : i(at.i * S::rows), j((at.j * S::rows) + (part * S::columns)) {
    const bool outside = i + S::rows > p.a.rows || j + S::columns > p.b.rows;
    const bool own = i + p.rule.own < j + S::columns && j < i + p.rule.own + S::rows;
    checked = outside || own || p.rule.dense != nullptr || p.rule.reach > 0.0;
  }
};

template <class P, class S>
__device__ __forceinline__ void clear_weights(WeightTile<P, S>& weights) {
#pragma unroll
  for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
      weights[m][n][0].set(0.0F, 0.0F);
      weights[m][n][1].set(0.0F, 0.0F);
    }
  }
}

/// Places: the larger of what was known and this modality's cosine, Eq. 7.
template <class P, class S>
__device__ __forceinline__ void compare_places(WeightTile<P, S>& places, const Accumulator<S>& c,
                                               const float* cosine_i, const float* cosine_j,
                                               const Place<S>& place) {
#pragma unroll
  for (int n = 0; n < S::tiles_n; ++n) {
    const float2 column = *reinterpret_cast<const float2*>(cosine_j + place.column_of(n));
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float row = cosine_i[place.row_of(m, half)];
        const float2 known = places[m][n][half].get();
        places[m][n][half].set(larger(known.x, c[m][n][2 * half] * (row * column.x)),
                               larger(known.y, c[m][n][(2 * half) + 1] * (row * column.y)));
      }
    }
  }
}

/// Eq. 8, 10 and 11. NaN stays NaN.
__device__ __forceinline__ float pair_weight(const PairProblem& p, float place, float motion) {
  float damping = larger(motion * p.motion_scale, 0.0F);
  damping = p.squared ? damping * damping : damping;
  damping = p.gated ? damping * place : damping;
  return larger((1.0F + (p.lambda_minus_one * place)) * (1.0F - damping), 0.0F);
}

/// From places to weights.
template <class P, class S>
__device__ __forceinline__ void weigh(WeightTile<P, S>& weights, const Accumulator<S>& c,
                                      const PairProblem& p) {
#pragma unroll
  for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 at = weights[m][n][half].get();
        weights[m][n][half].set(pair_weight(p, at.x, c[m][n][2 * half]),
                                pair_weight(p, at.y, c[m][n][(2 * half) + 1]));
      }
    }
  }
}

/// Each thread's places in shared memory, for the second direction where it has its own weight.
template <class P, class S>
struct PlaceStore {
  using Weights = typename P::Weights;
  static constexpr int count = S::tiles_m * S::tiles_n * 2;
  static constexpr int shared_bytes = count * S::threads * static_cast<int>(sizeof(Weights));

  static __device__ __forceinline__ Weights* start() {
    char* const behind = shared_memory() + SlabStream<S>::ring_bytes + LineSums<S>::shared_bytes;
    return reinterpret_cast<Weights*>(behind) + static_cast<int>(threadIdx.x);
  }
  static __device__ __forceinline__ void keep(const WeightTile<P, S>& places) {
    Weights* const own = start();
#pragma unroll
    for (int e = 0; e < count; ++e) {
      own[e * S::threads] = places[e / (S::tiles_n * 2)][(e / 2) % S::tiles_n][e % 2];
    }
  }
  static __device__ __forceinline__ void restore(WeightTile<P, S>& places) {
    const Weights* const own = start();
#pragma unroll
    for (int e = 0; e < count; ++e) {
      places[e / (S::tiles_n * 2)][(e / 2) % S::tiles_n][e % 2] = own[e * S::threads];
    }
  }
};

/// One bit for each of this thread's pairs that do not count, in the order of each_pair.
template <class S>
__device__ __forceinline__ std::uint32_t left_out(const PairProblem& p, const Tile<S>& tile,
                                                  const Place<S>& place, bool back) {
  static_assert(S::tiles_m * S::tiles_n * 4 <= 32);
  std::uint32_t bits = 0;
  if (tile.checked) {
#pragma unroll 1
    for (int e = 0; e < S::tiles_m * S::tiles_n * 4; ++e) {
      const int i = tile.i + place.row_of(e / (S::tiles_n * 4), (e / 2) % 2);
      const int j = tile.j + place.column_of((e / 4) % S::tiles_n) + (e % 2);
      bits |= i >= p.a.rows || j >= p.b.rows || left_out(p.rule, p.a, p.b, i, j, back)
                  ? 1U << static_cast<unsigned>(e)
                  : 0U;
    }
  }
  return bits;
}

/// Calls f(number, weight, m, n, r) for each of this thread's pairs; the weight is 0 where it does
/// not count, and may be NaN.
template <class P, class S, class F>
__device__ __forceinline__ void each_pair(Accumulator<S>& c, const WeightTile<P, S>& weights,
                                          std::uint32_t out, F&& f) {
#pragma unroll
  for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float2 both = weights[m][n][r / 2].get();
        const bool counts =
            ((out >> static_cast<unsigned>((((m * S::tiles_n) + n) * 4) + r)) & 1U) == 0;
        f(c[m][n][r], counts ? (r % 2 == 0 ? both.x : both.y) : 0.0F, m, n, r);
      }
    }
  }
}

/// A logit in powers of two, less `shift`.
template <class P>
__device__ __forceinline__ float exponent(const PairProblem& p, float product, float shift) {
  const float e = fmaf(product, p.logit_scale, -shift);
  return P::parts == 2 ? fmaf(product, p.logit_scale_rest, e) : e;
}

/// From products to W exp(s) and their sums; without a shift, or relative to each row's and
/// column's maximum within the warp.
template <class P, class S>
__device__ __forceinline__ void add_up(Accumulator<S>& c, const WeightTile<P, S>& weights,
                                       const PairProblem& p, std::uint32_t out, bool wide,
                                       LineSums<S>& sums) {
  if (p.mode == PairMode::weights) {
    each_pair<P, S>(c, weights, out,
                    [&](float&, float w, int m, int n, int r) { sums.add(m, n, r, w, w); });
    sums.across_lanes();
    return;
  }
  if (!wide) {
    each_pair<P, S>(c, weights, out, [&](float& s, float w, int m, int n, int r) {
      s = w * power_of_two(exponent<P>(p, s, 0.0F));
      sums.add(m, n, r, s, s);
    });
    sums.across_lanes();
    return;
  }
  LineSums<S> largest(-INFINITY);
  each_pair<P, S>(c, weights, out, [&](float& s, float w, int m, int n, int r) {
    largest.raise(m, n, r, w == 0.0F ? -INFINITY : s * p.logit_scale);
  });
  largest.largest_across_lanes();
  each_pair<P, S>(c, weights, out, [&](float& s, float w, int m, int n, int r) {
    if (w != 0.0F) {
      sums.add(m, n, r, w * power_of_two(exponent<P>(p, s, largest.row[m][r / 2])),
               w * power_of_two(exponent<P>(p, s, largest.column[n][r % 2])));
    }
  });
  sums.across_lanes();
  sums.to_logarithms(largest);
}

/// From products to d result / d s_ij (times the upstream's scale): each exponential is relative to
/// a whole denominator, so that it is right in any range.
template <class P, class S>
__device__ __forceinline__ void differentiate(Accumulator<S>& c, const WeightTile<P, S>& weights,
                                              const PairProblem& p, std::uint32_t out,
                                              const Tile<S>& tile, const Place<S>& place,
                                              bool back) {
  const float* const log_i = (back ? p.a.log_sensor : p.a.log_video) + tile.i;
  const float* const log_j = (back ? p.b.log_video : p.b.log_sensor) + tile.j;
  const float* const upstream_i = (back ? p.a.upstream_sensor : p.a.upstream_video) + tile.i;
  const float* const upstream_j = (back ? p.b.upstream_video : p.b.upstream_sensor) + tile.j;
  each_pair<P, S>(c, weights, out, [&](float& s, float w, int m, int n, int r) {
    const int i = place.row_of(m, r / 2);
    const int j = place.column_of(n) + (r % 2);
    const float row = upstream_i[i] * power_of_two(exponent<P>(p, s, log_i[i]));
    const float column = upstream_j[j] * power_of_two(exponent<P>(p, s, log_j[j]));
    s = w == 0.0F ? 0.0F : w * (row + column);
  });
}

/// Two neighbours of a row as they are kept: what is saved needs bfloat16's range, gradients are
/// scaled to fit P's.
template <class P>
__device__ __forceinline__ std::uint32_t kept_pair(float low, float high, bool gradient) {
  return gradient ? P::pack(low, high) : pack_bfloat16(low, high);
}

/// A tile to memory: `to` is where its first number goes, rows are `stride` bytes apart.
template <class P, class S>
__device__ __forceinline__ void store(const Accumulator<S>& c, char* to, std::int64_t stride,
                                      bool gradient, const Place<S>& place) {
  to += (place.row_of(0, 0) * stride) + (place.column_of(0) * P::bytes);
#pragma unroll
  for (int line = 0; line < 2 * S::tiles_m; ++line, to += 8 * stride) {
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
      const float low = c[line / 2][n][2 * (line % 2)];
      const float high = c[line / 2][n][(2 * (line % 2)) + 1];
      if constexpr (P::bytes == 2) {
        *reinterpret_cast<std::uint32_t*>(to + (n * 16)) = kept_pair<P>(low, high, gradient);
      } else {
        *reinterpret_cast<float2*>(to + (n * 32)) = {low, high};
      }
    }
  }
}

/// The same, transposed: the tile's columns become rows. Numbers of two bytes are exchanged between
/// lanes first, so that pairs are neighbours of a column.
template <class P, class S>
__device__ __forceinline__ void store_transposed(const Accumulator<S>& c, char* to,
                                                 std::int64_t stride, bool gradient,
                                                 const Place<S>& place) {
  const int row = P::bytes == 2 ? place.column + (place.lane >> 2) : place.column_of(0);
  const int column = P::bytes == 2 ? place.row + ((place.lane & 3) * 2) : place.row_of(0, 0);
  to += (row * stride) + (column * P::bytes);
#pragma unroll
  for (int n = 0; n < S::tiles_n; ++n, to += 8 * stride) {
#pragma unroll
    for (int line = 0; line < 2 * S::tiles_m; ++line) {
      const float low = c[line / 2][n][2 * (line % 2)];
      const float high = c[line / 2][n][(2 * (line % 2)) + 1];
      char* const at = to + (line * 8 * P::bytes);
      if constexpr (P::bytes == 2) {
        *reinterpret_cast<std::uint32_t*>(at) = transpose_matrix(kept_pair<P>(low, high, gradient));
      } else {
        *reinterpret_cast<float*>(at) = low;
        *reinterpret_cast<float*>(at + stride) = high;
      }
    }
  }
}

/// The last step of a direction: sums or gradients, and what of it is kept.
template <class P, class S>
__device__ __forceinline__ void finish_direction(Accumulator<S>& c, const WeightTile<P, S>& weights,
                                                 const PairProblem& p, Unit at, int part,
                                                 bool back) {
  const bool wide = is_wide(p.range);  // read again: a register for it would be one too many
  const Place<S> place;
  const Tile<S> tile(p, at, part);
  const std::uint32_t out = left_out(p, tile, place, back);
  const bool gradient = p.mode == PairMode::gradient;
  if (gradient) {
    differentiate<P, S>(c, weights, p, out, tile, place, back);
  } else {
    LineSums<S> sums(0.0F);
    add_up<P, S>(c, weights, p, out, wide, sums);
    sums.across_warps(shared_memory() + SlabStream<S>::ring_bytes, p, at, part, place, back,
                      wide && p.mode == PairMode::sums);
  }
  if (p.upper == nullptr || (wide && !gradient)) {
    return;
  }
  const std::int64_t i = tile.i - (p.i_begin * S::rows);
  const std::int64_t j = tile.j - (p.j_begin * S::rows);
  const std::int64_t upper = p.upper_stride * P::bytes;
  const std::int64_t lower = p.lower_stride * P::bytes;
  char* const below = static_cast<char*>(p.lower);
  if (back) {
    store_transposed<P, S>(c, below + (j * lower) + (i * P::bytes), lower, gradient, place);
    return;
  }
  store<P, S>(c, static_cast<char*>(p.upper) + (i * upper) + (j * P::bytes), upper, gradient,
              place);
  if (at.j < p.j_once) {
    store<P, S>(c, below + (i * lower) + (j * P::bytes), lower, gradient, place);
  }
}

/// Shared memory of the pair kernel: slabs, lines of sums and, across modalities, places.
template <class P, class S>
constexpr int pair_shared_bytes(bool two_weights) {
  return SlabStream<S>::ring_bytes + LineSums<S>::shared_bytes +
         (two_weights ? PlaceStore<P, S>::shared_bytes : 0);
}

template <class P, class S>
__global__ void __launch_bounds__(S::threads, S::blocks_an_sm)
    contrast_pairs(const __grid_constant__ PairProblem p) {
  if (p.only_wide && !is_wide(p.range)) {
    return;
  }
  SlabStream<S> stream(p);
  const int units = unit_count(p);
  const Place<S> place;
  for (int u = static_cast<int>(blockIdx.x); u < units; u += static_cast<int>(gridDim.x)) {
    const Unit at = unit_at(p, u);
    const bool once = (p.triangular && at.i == at.j) || at.j < p.j_once;
    const int steps = once ? p.steps_once : p.step_count;
#pragma unroll 1
    for (int part = 0; part < S::rows / S::columns; ++part) {
      WeightTile<P, S> weights;  // places until the motion is known
      clear_weights<P, S>(weights);
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        Accumulator<S> c;
        clear<S>(c);
#pragma unroll 1
        for (int slab = 0; slab < p.steps[step].slabs; ++slab) {
          multiply_slab<P, S>(c, stream.next(p), place);
        }
        const StepKind kind = p.steps[step].kind;
        const Tile<S> tile(p, at, part);
        if (kind == StepKind::video_place) {
          compare_places<P, S>(weights, c, p.a.cosine_video + tile.i, p.b.cosine_video + tile.j,
                               place);
        } else if (kind == StepKind::sensor_place) {
          compare_places<P, S>(weights, c, p.a.cosine_sensor + tile.i, p.b.cosine_sensor + tile.j,
                               place);
        } else if (kind == StepKind::motion) {
          if (p.two_weights) {
            PlaceStore<P, S>::keep(weights);
          }
          weigh<P, S>(weights, c, p);
        } else if (kind == StepKind::motion_back) {
          PlaceStore<P, S>::restore(weights);
          weigh<P, S>(weights, c, p);
        } else {
          const bool back = kind == StepKind::back;
          finish_direction<P, S>(c, weights, p, at, part, back);
        }
      }
    }
  }
}

}  // namespace detach::cuda
