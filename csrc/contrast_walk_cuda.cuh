// The order in which blocks of threads visit pair tiles, and the stream of slabs that this needs.
#pragma once

#include "contrast_fragments_cuda.cuh"

namespace detach::cuda {

__device__ __forceinline__ bool is_wide(const Range& range) {
  return range.flag != nullptr ? *range.flag != 0 : range.wide;
}

/// Whether video i of A and sensor j of B (or, back, video j and sensor i) are left out.
__device__ __forceinline__ bool left_out(const PairRule& rule, const PairSide& a, const PairSide& b,
                                         std::int64_t i, std::int64_t j, bool back) {
  if (i + rule.own == j) {
    return true;
  }
  if (rule.dense != nullptr &&
      (back ? rule.back[(j * rule.back_stride) + i] : rule.dense[(i * rule.stride) + j])) {
    return true;
  }
  return rule.reach > 0.0 && a.group[i] == b.group[j] &&
         fabs(a.position[i] - b.position[j]) < rule.reach;
}

/// Threads of a block hold Rows x Columns of a product in registers; `Stages` slabs are under way.
template <int Rows, int Columns, int WarpsM, int WarpsN, int Stages, int BlocksAnSm>
struct Shape {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int warps_m = WarpsM;
  static constexpr int warps_n = WarpsN;
  static constexpr int stages = Stages;
  static constexpr int blocks_an_sm = BlocksAnSm;
  static constexpr int threads = WarpsM * WarpsN * warp_lanes;
  static constexpr int tiles_m = Rows / WarpsM / 16;  ///< instruction tiles of a warp
  static constexpr int tiles_n = Columns / WarpsN / 8;
  static constexpr int thread_rows = threads / pieces;  ///< rows that one round of copies fills
};

/// A warp's share of a product: [m][n][..] are the rows lane / 4 and lane / 4 + 8, two columns
/// each.
template <class S>
using Accumulator = float[S::tiles_m][S::tiles_n][4];

template <class S>
__device__ __forceinline__ void clear(Accumulator<S>& c) {
#pragma unroll
  for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        c[m][n][r] = 0.0F;
      }
    }
  }
}

/// Where this thread's numbers lie in the tile.
template <class S>
struct Place {
  int lane;
  int row;  ///< of the warp's share
  int column;
  __device__ __forceinline__ Place() {
    const int warp = static_cast<int>(threadIdx.x) / warp_lanes;
    lane = static_cast<int>(threadIdx.x) % warp_lanes;
    row = warp / S::warps_n * (S::rows / S::warps_m);
    column = warp % S::warps_n * (S::columns / S::warps_n);
  }
  __device__ __forceinline__ int warp_m() const { return row / (S::rows / S::warps_m); }
  __device__ __forceinline__ int warp_n() const { return column / (S::columns / S::warps_n); }
  __device__ __forceinline__ int row_of(int m, int half) const {
    return row + (m * 16) + (half * 8) + (lane >> 2);
  }
  __device__ __forceinline__ int column_of(int n) const {
    return column + (n * 8) + ((lane & 3) * 2);
  }
};

/// Adds one slab of k, from panels [rows][slab] of both operands, A's first.
template <class P, class S>
__device__ __forceinline__ void multiply_slab(Accumulator<S>& c, std::uint32_t panels,
                                              const Place<S>& place) {
  const std::uint32_t a_start = panels + wide_offset_a(place.row, place.lane);
  const std::uint32_t b_start =
      panels + (S::rows * slab_bytes) + wide_offset_b(place.column, place.lane);
#pragma unroll
  for (int step = 0; step < steps_a_slab; ++step) {
    FragmentA<P::parts> a[S::tiles_m];
    FragmentB<P::parts> b[S::tiles_n / 2][2];
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
      load_matrices(a[m].part[0], wide_step(a_start, step) + (m * tile_bytes));
      split(a[m].part);
    }
#pragma unroll
    for (int n = 0; n < S::tiles_n / 2; ++n) {
      load_wide<P>(b[n], wide_step(b_start, step) + (n * tile_bytes));
    }
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
#pragma unroll
      for (int n = 0; n < S::tiles_n; ++n) {
        P::multiply(c[m][n], a[m], b[n / 2][n % 2]);
      }
    }
  }
}

/// A pair of blocks of windows.
struct Unit {
  int i;
  int j;
};

/// Rows of blocks that are visited together, so that their slabs stay in the second-level cache.
constexpr int raster_rows = 8;

__host__ __device__ inline int unit_count(const PairProblem& p) {
  const int rows = p.i_end - p.i_begin;
  return p.triangular ? rows * (rows + 1) / 2 : rows * (p.j_end - p.j_begin);
}

/// Unit u: rows in groups of raster_rows; within a group column by column.
__device__ inline Unit unit_at(const PairProblem& p, int u) {
  for (int first = p.i_begin;; first += raster_rows) {
    const int height = min(raster_rows, p.i_end - first);
    const int triangle = p.triangular ? height * (height + 1) / 2 : 0;
    const int begin = p.triangular ? first + height : p.j_begin;  // of the columns of full height
    const int count = triangle + (height * (p.j_end - begin));
    if (u >= count) {
      u -= count;
      continue;
    }
    if (u < triangle) {
      int column = 0;
      while ((column + 1) * (column + 2) / 2 <= u) {
        ++column;
      }
      const int before = column * (column + 1) / 2;
      return {first + u - before, first + column};
    }
    const int rest = u - triangle;
    return {first + (rest % height), begin + (rest / height)};
  }
}

/// The next slab to copy: all steps of a unit's parts, unit after unit.
template <class S>
struct Cursor {
  int unit;
  Unit at;
  int part;  ///< which columns of the unit's square
  int step;
  int slab;

  __device__ __forceinline__ explicit Cursor(const PairProblem& p)
      : unit(static_cast<int>(blockIdx.x)), at{0, 0}, part(0), step(0), slab(0) {
    if (!done(p)) {
      at = unit_at(p, unit);
      skip_empty(p);
    }
  }
  __device__ __forceinline__ bool done(const PairProblem& p) const { return unit >= unit_count(p); }
  /// Steps of the present unit.
  __device__ __forceinline__ int steps(const PairProblem& p) const {
    const bool once = (p.triangular && at.i == at.j) || at.j < p.j_once;
    return once ? p.steps_once : p.step_count;
  }
  __device__ __forceinline__ void advance(const PairProblem& p) {
    if (++slab == p.steps[step].slabs) {
      slab = 0;
      ++step;
      skip_empty(p);
    }
  }

 private:
  __device__ __forceinline__ void skip_empty(const PairProblem& p) {
    while (!done(p)) {
      if (step == steps(p)) {
        next_part(p);
      } else if (p.steps[step].slabs == 0) {
        ++step;
      } else {
        return;
      }
    }
  }
  __device__ __forceinline__ void next_part(const PairProblem& p) {
    step = 0;
    if (++part == S::rows / S::columns) {
      part = 0;
      unit += static_cast<int>(gridDim.x);
      if (!done(p)) {
        at = unit_at(p, unit);
      }
    }
  }
};

/// Slabs on their way into a ring of stages, which shared memory starts with.
template <class S>
struct SlabStream {
  static constexpr int stage_bytes = (S::rows + S::columns) * slab_bytes;
  static constexpr int ring_bytes = S::stages * stage_bytes;
  Cursor<S> cursor;
  int reading = 0;

  __device__ __forceinline__ explicit SlabStream(const PairProblem& p) : cursor(p) {
#pragma unroll 1
    for (int s = 0; s < S::stages - 1; ++s) {
      fill(p, s);
    }
  }

  /// Waits for the next slab, starts to copy another, and says where the slab lies.
  __device__ __forceinline__ std::uint32_t next(const PairProblem& p) {
    copy_wait<S::stages - 2>();
    __syncthreads();
    fill(p, reading == 0 ? S::stages - 1 : reading - 1);  // the one that was read before
    const std::uint32_t slab = stage(reading);
    reading = reading + 1 == S::stages ? 0 : reading + 1;
    return slab;
  }

 private:
  static __device__ __forceinline__ std::uint32_t stage(int number) {
    return shared_address(shared_memory()) + static_cast<std::uint32_t>(number * stage_bytes);
  }

  __device__ __forceinline__ void fill(const PairProblem& p, int number) {
    if (!cursor.done(p)) {
      const PairStep& step = p.steps[cursor.step];
      const std::int64_t i = std::int64_t{cursor.at.i} * S::rows;
      const std::int64_t j = (std::int64_t{cursor.at.j} * S::rows) + (cursor.part * S::columns);
      copy<S::rows>(stage(number), p.a.packed + (i * p.row_bytes), step.slab_a + cursor.slab,
                    p.row_bytes);
      copy<S::columns>(stage(number) + (S::rows * slab_bytes), p.b.packed + (j * p.row_bytes),
                       step.slab_b + cursor.slab, p.row_bytes);
      cursor.advance(p);
    }
    copy_commit();
  }

  template <int Rows>
  static __device__ __forceinline__ void copy(std::uint32_t panel, const char* rows, int slab,
                                              std::int64_t row_bytes) {
    const int row = static_cast<int>(threadIdx.x) / pieces;
    const int piece = static_cast<int>(threadIdx.x) % pieces;
    const char* from = rows + (row * row_bytes) + (slab * slab_bytes) + (piece * piece_bytes);
    // Rounds are 32 rows apart, which leaves the permutation as it is.
    const std::uint32_t to = panel + piece_offset<false>(row, piece);
#pragma unroll
    for (int round = 0; round < Rows / S::thread_rows; ++round) {
      copy_async(to + static_cast<std::uint32_t>(round * S::thread_rows * slab_bytes), from);
      from += static_cast<unsigned>(S::thread_rows * static_cast<int>(row_bytes));
    }
  }
};

}  // namespace detach::cuda
