// Sums (or maxima) over the rows and the columns of a pair tile: in a thread, across a warp's
// lanes, across the warps, and out to the workspace. The order is fixed.
#pragma once

#include "contrast_walk_cuda.cuh"

namespace detach::cuda {

/// log2(2^a + 2^b); -inf stands for 0. NaN stays NaN.
__device__ __forceinline__ float add_logarithms(float a, float b) {
  const float high = fmaxf(a, b);
  return high == -INFINITY ? a + b : high + log2f(1.0F + exp2f(-fabsf(a - b)));
}

/// A thread's share: of its rows over its columns, and the reverse. r counts within an
/// instruction's four numbers: rows r / 2, columns r % 2.
template <class S>
struct LineSums {
  float row[S::tiles_m][2];
  float column[S::tiles_n][2];

  __device__ __forceinline__ explicit LineSums(float start) {
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
      row[m][0] = row[m][1] = start;
    }
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
      column[n][0] = column[n][1] = start;
    }
  }

  __device__ __forceinline__ void add(int m, int n, int r, float to_row, float to_column) {
    row[m][r / 2] += to_row;
    column[n][r % 2] += to_column;
  }
  __device__ __forceinline__ void raise(int m, int n, int r, float value) {
    row[m][r / 2] = fmaxf(row[m][r / 2], value);
    column[n][r % 2] = fmaxf(column[n][r % 2], value);
  }

  __device__ __forceinline__ void across_lanes() {
    each([](float a, float b) { return a + b; });
  }
  __device__ __forceinline__ void largest_across_lanes() {
    each([](float a, float b) { return fmaxf(a, b); });
  }

  /// From sums relative to `largest` to their base-2 logarithms.
  __device__ __forceinline__ void to_logarithms(const LineSums& largest) {
#pragma unroll
    for (int m = 0; m < S::tiles_m; ++m) {
      row[m][0] = logarithm(row[m][0], largest.row[m][0]);
      row[m][1] = logarithm(row[m][1], largest.row[m][1]);
    }
#pragma unroll
    for (int n = 0; n < S::tiles_n; ++n) {
      column[n][0] = logarithm(column[n][0], largest.column[n][0]);
      column[n][1] = logarithm(column[n][1], largest.column[n][1]);
    }
  }

  /// Bytes of shared memory that across_warps needs: lines of both directions.
  static constexpr int row_lines = S::warps_n * S::rows;
  static constexpr int column_lines = S::warps_m * S::columns;
  static constexpr int direction_lines = row_lines + column_lines + S::rows;
  static constexpr int shared_bytes = 2 * direction_lines * static_cast<int>(sizeof(float));

  /// Writes the tile's column sums and, with the unit's last part, its row sums, to the workspace.
  /// The last line holds the row sums of the parts before, each for the thread that made it.
  __device__ __forceinline__ void across_warps(char* shared, const PairProblem& p, Unit at,
                                               int part, const Place<S>& place, bool back,
                                               bool logarithms) const {
    float* const rows = reinterpret_cast<float*>(shared) + (back ? direction_lines : 0);
    float* const columns = rows + row_lines;
    leave(rows + (place.warp_n() * S::rows), columns + (place.warp_m() * S::columns), place);
    __syncthreads();
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t direction = back ? 1 : 0;
    if (thread < S::rows) {
      float* const before = columns + column_lines + thread;
      float sum = total<S::warps_n, S::rows>(rows + thread, logarithms);
      if (part > 0) {
        sum = logarithms ? add_logarithms(*before, sum) : *before + sum;
      }
      *before = sum;
      if (part == (S::rows / S::columns) - 1) {
        const std::int64_t line = (direction * p.blocks_b) + at.j;
        p.sums_a[(line * p.padded_a) + (std::int64_t{at.i} * S::rows) + thread] = sum;
      }
    } else if (thread < S::rows + S::columns && p.sums_b != nullptr) {
      const int column = thread - S::rows;
      const std::int64_t line = ((1 - direction) * p.blocks_a) + at.i;
      const std::int64_t j = (std::int64_t{at.j} * S::rows) + (part * S::columns) + column;
      p.sums_b[(line * p.padded_b) + j] =
          total<S::warps_m, S::columns>(columns + column, logarithms);
    }
  }

 private:
  static __device__ __forceinline__ float logarithm(float sum, float largest) {
    return sum == 0.0F ? -INFINITY : largest + log2f(sum);
  }

  template <class F>
  __device__ __forceinline__ void each(F&& join) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
#pragma unroll
      for (int m = 0; m < S::tiles_m; ++m) {
        row[m][0] = join(row[m][0], __shfl_xor_sync(whole_warp, row[m][0], step));
        row[m][1] = join(row[m][1], __shfl_xor_sync(whole_warp, row[m][1], step));
      }
    }
#pragma unroll
    for (int step = 4; step < warp_lanes; step *= 2) {
#pragma unroll
      for (int n = 0; n < S::tiles_n; ++n) {
        column[n][0] = join(column[n][0], __shfl_xor_sync(whole_warp, column[n][0], step));
        column[n][1] = join(column[n][1], __shfl_xor_sync(whole_warp, column[n][1], step));
      }
    }
  }

  __device__ __forceinline__ void leave(float* rows, float* columns, const Place<S>& place) const {
    if ((place.lane & 3) == 0) {
#pragma unroll
      for (int m = 0; m < S::tiles_m; ++m) {
        rows[place.row_of(m, 0)] = row[m][0];
        rows[place.row_of(m, 1)] = row[m][1];
      }
    }
    if (place.lane < 4) {
#pragma unroll
      for (int n = 0; n < S::tiles_n; ++n) {
        columns[place.column_of(n)] = column[n][0];
        columns[place.column_of(n) + 1] = column[n][1];
      }
    }
  }

  template <int Warps, int Stride>
  static __device__ __forceinline__ float total(const float* line, bool logarithms) {
    float sum = line[0];
#pragma unroll
    for (int warp = 1; warp < Warps; ++warp) {
      const float other = line[warp * Stride];
      sum = logarithms ? add_logarithms(sum, other) : sum + other;
    }
    return sum;
  }
};

}  // namespace detach::cuda
