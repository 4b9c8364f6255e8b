// The product kernel: pairs' numbers times packed features, which is what gradients are made of.
// Output-stationary, a block of threads a tile, up to four products in one launch. What was saved
// is turned into gradients on its way from shared memory to the tensor cores.
#pragma once

#include "contrast_features_cuda.cuh"
#include "contrast_walk_cuda.cuh"

namespace detach::cuda {

/// A stage holds a slab's worth of k of both operands and of the factors that go with k.
template <class P, class S>
struct ProductStage {
  static constexpr int k = slab_numbers<P>;
  static constexpr int a_bytes = S::rows * slab_bytes;
  static constexpr int b_bytes = S::columns * slab_bytes;
  static constexpr int factor_bytes = k * static_cast<int>(sizeof(float));
  static constexpr int bytes = a_bytes + b_bytes + 256;  // factors, rounded up
  static constexpr int shared_bytes = S::stages * bytes;
};

/// Copies k rows of `width` bytes, k0 on, as tall panels; nothing from `limit` bytes of a row on.
template <class P, class S, int Width>
__device__ __forceinline__ void copy_tall(std::uint32_t panels, const char* from,
                                          std::int64_t row_bytes, int limit) {
  constexpr int row_pieces = Width / piece_bytes;
  constexpr int rounds = slab_numbers<P> * row_pieces / S::threads;
  static_assert(rounds * S::threads == slab_numbers<P> * row_pieces);
#pragma unroll
  for (int round = 0; round < rounds; ++round) {
    const int index = (round * S::threads) + static_cast<int>(threadIdx.x);
    const int row = index / row_pieces;
    const int piece = index % row_pieces;
    if (piece * piece_bytes < limit) {
      const int panel = piece / pieces;
      copy_async(panels + static_cast<std::uint32_t>(panel * tall_panel_bytes<P>) +
                     piece_offset<P::bytes == 4>(row, piece % pieces),
                 from + (row * row_bytes) + (piece * piece_bytes));
    }
  }
}

/// Copies one slab of Rows rows as a panel.
template <class S, int Rows>
__device__ __forceinline__ void copy_wide(std::uint32_t panel, const char* from,
                                          std::int64_t row_bytes) {
  const int row = static_cast<int>(threadIdx.x) / pieces;
  const int piece = static_cast<int>(threadIdx.x) % pieces;
  const std::uint32_t to = panel + piece_offset<false>(row, piece);
  from += (row * row_bytes) + (piece * piece_bytes);
#pragma unroll
  for (int round = 0; round < Rows / S::thread_rows; ++round) {
    copy_async(to + static_cast<std::uint32_t>(round * S::thread_rows * slab_bytes),
               from + (round * S::thread_rows * row_bytes));
  }
}

/// Starts to copy what slab number `slab` of the product needs for the tile at (m, n).
template <class P, class S>
__device__ __forceinline__ void fill_stage(std::uint32_t stage, const MatrixProduct& p, int m,
                                           int n, int slab, bool factors) {
  using Stage = ProductStage<P, S>;
  const int k = slab * Stage::k;
  if (p.transposed) {
    copy_tall<P, S, S::rows * P::bytes>(stage, p.a + (k * p.a_bytes) + (m * P::bytes), p.a_bytes,
                                        S::rows * P::bytes);
  } else {
    copy_wide<S, S::rows>(stage, p.a + (m * p.a_bytes) + (k * P::bytes), p.a_bytes);
  }
  copy_tall<P, S, S::columns * P::bytes>(stage + Stage::a_bytes,
                                         p.b + (k * p.b_bytes) + (n * P::bytes), p.b_bytes,
                                         (p.n - n) * P::bytes);
  const int thread = static_cast<int>(threadIdx.x);
  if (factors && thread < Stage::factor_bytes / piece_bytes) {
    const float* const from = (p.transposed ? p.row_factor : p.column_factor) + k + (thread * 4);
    copy_async(stage + static_cast<std::uint32_t>(Stage::a_bytes + Stage::b_bytes +
                                                  (thread * piece_bytes)),
               from);
  }
}

/// From W exp(s) to gradients: each number times the sum of its row's and its column's factor.
template <class P, int Parts>
__device__ __forceinline__ void scale(FragmentA<Parts>& a, const float (&m_factor)[2],
                                      const float* k_factor, int step, int lane) {
  if constexpr (P::bytes == 2) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float2 along = *reinterpret_cast<const float2*>(k_factor + (16 * step) +
                                                            ((lane & 3) * 2) + ((r / 2) * 8));
      const float2 value = unpack_bfloat16(a.part[0][r]);
      const float across = m_factor[r % 2];
      a.part[0][r] = P::pack(value.x * (across + along.x), value.y * (across + along.y));
    }
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float along = k_factor[(8 * step) + (lane & 3) + ((r / 2) * 4)];
      const float value = __uint_as_float(a.part[0][r]) * (m_factor[r % 2] + along);
      a.part[0][r] = __float_as_uint(P::round(value));
    }
  }
}

/// Gradients of pairs are kept as float: an instruction would cut them off to TF32.
template <class P>
__device__ __forceinline__ void round_loaded(FragmentA<P::parts>& a) {
  if constexpr (P::bytes == 4) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      a.part[0][r] = __float_as_uint(P::round(__uint_as_float(a.part[0][r])));
    }
  }
}

template <class P, class S>
__device__ __forceinline__ void multiply_stage(Accumulator<S>& c, const char* stage,
                                               const MatrixProduct& p,
                                               const float (&m_factors)[S::tiles_m][2],
                                               bool factors, const Place<S>& place) {
  using Stage = ProductStage<P, S>;
  const float* const k_factor =
      reinterpret_cast<const float*>(stage + Stage::a_bytes + Stage::b_bytes);
  const std::uint32_t a_start = shared_address(stage) + wide_offset_a(place.row, place.lane);
#pragma unroll
  for (int step = 0; step < steps_a_slab; ++step) {
    FragmentA<P::parts> a[S::tiles_m];
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
      if (p.transposed) {
        load_tall<P>(a[m], stage, place.row + (m * 16), step, place.lane);
      } else {
        load_matrices(a[m].part[0], wide_step(a_start, step) + (m * tile_bytes));
      }
      if (factors) {
        scale<P>(a[m], m_factors[m], k_factor, step, place.lane);
      } else {
        round_loaded<P>(a[m]);
      }
      split(a[m].part);
    }
#pragma unroll
    for (int n = 0; n < S::tiles_n / 2; ++n) {
      FragmentB<P::parts> b[2];
      load_tall<P>(b, stage + Stage::a_bytes, place.column + (n * 16), step, place.lane);
#pragma unroll
      for (int m = 0; m < S::tiles_m; ++m) {
        P::multiply(c[m][2 * n], a[m], b[0]);
        P::multiply(c[m][(2 * n) + 1], a[m], b[1]);
      }
    }
  }
}

template <class S>
__device__ __forceinline__ void write_product(const Accumulator<S>& c, const MatrixProduct& p,
                                              int m0, int n0, const Place<S>& place) {
#pragma unroll
  for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float* const row = p.c + ((m0 + place.row_of(m, half)) * p.c_numbers);
#pragma unroll
      for (int n = 0; n < S::tiles_n; ++n) {
        const int column = n0 + place.column_of(n);
        if (column < p.n) {
          float2* const out = reinterpret_cast<float2*>(row + column);
          float2 sum{c[m][n][2 * half], c[m][n][(2 * half) + 1]};
          if (p.accumulate) {
            const float2 before = *out;
            sum.x += before.x;
            sum.y += before.y;
          }
          *out = sum;
        }
      }
    }
  }
}

template <class S>
__host__ __device__ inline int product_tiles(const MatrixProduct& p) {
  return p.m / S::rows * ((p.n + S::columns - 1) / S::columns);
}

template <class P, class S>
__global__ void __launch_bounds__(S::threads, S::blocks_an_sm)
    contrast_products(const __grid_constant__ ProductProblem problem) {
  using Stage = ProductStage<P, S>;
  int which = 0;
  int tile = static_cast<int>(blockIdx.x);
  while (tile >= product_tiles<S>(problem.list[which])) {
    tile -= product_tiles<S>(problem.list[which]);
    ++which;
  }
  const MatrixProduct& p = problem.list[which];
  const int across = (p.n + S::columns - 1) / S::columns;
  const int m0 = tile / across * S::rows;
  const int n0 = tile % across * S::columns;
  const bool factors = problem.saved && !is_wide(problem.range);
  const Place<S> place;
  float m_factors[S::tiles_m][2] = {};
  if (factors) {
    const float* const from = (p.transposed ? p.column_factor : p.row_factor) + m0;
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
      m_factors[m][0] = from[place.row_of(m, 0)];
      m_factors[m][1] = from[place.row_of(m, 1)];
    }
  }
  char* const memory = shared_memory();
  const int slabs = p.k / Stage::k;
#pragma unroll 1
  for (int s = 0; s < S::stages - 1; ++s) {
    if (s < slabs) {
      fill_stage<P, S>(shared_address(memory + (s * Stage::bytes)), p, m0, n0, s, factors);
    }
    copy_commit();
  }
  Accumulator<S> c;
  clear<S>(c);
#pragma unroll 1
  for (int s = 0; s < slabs; ++s) {
    copy_wait<S::stages - 2>();
    __syncthreads();
    const int next = s + S::stages - 1;
    if (next < slabs) {
      fill_stage<P, S>(shared_address(memory + (next % S::stages * Stage::bytes)), p, m0, n0, next,
                       factors);
    }
    copy_commit();
    multiply_stage<P, S>(c, memory + (s % S::stages * Stage::bytes), p, m_factors, factors, place);
  }
  write_product<S>(c, p, m0, n0, place);
}

/// All pairs of one block as contrast_sums saved them, in place to gradients, for a caller that
/// does the products. A thread takes 16 bytes of a row.
struct ScaleProblem {
  char* pairs;
  std::int64_t rows;
  std::int64_t row_bytes;
  const float* row_factor;
  const float* column_factor;
  Range range;
};

template <class P>
__global__ void __launch_bounds__(row_threads)
    contrast_scale(const __grid_constant__ ScaleProblem p) {
  if (is_wide(p.range)) {
    return;  // they are gradients
  }
  const std::int64_t thread = (std::int64_t{blockIdx.x} * row_threads) + threadIdx.x;
  const std::int64_t row_pieces = p.row_bytes / piece_bytes;
  const std::int64_t row = thread / row_pieces;
  if (row >= p.rows) {
    return;
  }
  uint4* const at = reinterpret_cast<uint4*>(p.pairs + (thread * piece_bytes));
  const float* const column = p.column_factor + (thread % row_pieces * (piece_bytes / P::bytes));
  uint4 piece = *at;
  std::uint32_t* const word = &piece.x;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (P::bytes == 2) {
      const float2 value = unpack_bfloat16(word[w]);
      word[w] = P::pack(value.x * (p.row_factor[row] + column[2 * w]),
                        value.y * (p.row_factor[row] + column[(2 * w) + 1]));
    } else {
      word[w] = __float_as_uint(__uint_as_float(word[w]) * (p.row_factor[row] + column[w]));
    }
  }
  *at = piece;
}

}  // namespace detach::cuda
