// Tiles as the matrices of the gradient's products: runs of them are gathered into one matrix that
// is deep enough, and multiplied by packed features.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contrast_kernels.h"
#include "contrast_outputs.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"

namespace detach {

/// Runs of saved tiles that one block row of an output reads; at most `most_depth_` windows deep.
template <typename T>
class Gatherer {
 public:
  Gatherer(const ContrastPair<T>& pair, const T* tiles)
      : pair_(pair), tiles_(tiles), matrix_((pair.grid.size / contrast_group) * step_) {}

  /// out (rows of block `x` of side) += matrix * features, over column tiles [first, last) of A's
  /// row block x.
  void rows(std::int64_t x, bool back, std::int64_t first, std::int64_t last, ContrastSide<T>& own,
            int modality, const ContrastSide<T>& other) {
    const TileGrid& grid = pair_.grid;
    ContrastGather<T> gather;
    gather.rows = grid.rows_of_a(x);
    gather.own = own.own(modality) + grid.begin(x);
    gather.out_stride = row_step_;
    in_runs(
        first, last,
        [&](std::int64_t tile, std::int64_t depth) {
          gather.in = tiles_ + (back ? grid.back(x, tile) : grid.forward(x, tile));
          gather.stride = grid.stride(tile);
          gather.depth = grid.rows_of_b(tile);
          gather.factor = other.factor(1 - modality) + grid.begin(tile);
          gather.other = other.other(1 - modality) + grid.begin(tile);
          gather.out = matrix_ + depth;
          pair_.kernels.gather_rows(gather);
          return gather.depth;
        },
        [&](std::int64_t begin, std::int64_t depth) {
          ContrastProduct<T> product;
          product.a = matrix_.get();
          product.group_step = contrast_group * row_step_;
          product.row_step = row_step_;
          product.depth_step = 1;
          product.depth = depth;
          multiply(product, own, modality, other, grid.begin(x), gather.rows, begin);
        });
  }

  /// The same over row tiles [first, last) of B's column block x.
  void columns(std::int64_t x, bool back, std::int64_t first, std::int64_t last,
               ContrastSide<T>& own, int modality, const ContrastSide<T>& other) {
    const TileGrid& grid = pair_.grid;
    ContrastGather<T> gather;
    gather.rows = grid.rows_of_b(x);
    gather.own = own.own(modality) + grid.begin(x);
    gather.out_stride = step_;
    gather.stride = grid.stride(x);
    in_runs(
        first, last,
        [&](std::int64_t tile, std::int64_t depth) {
          gather.in = tiles_ + (back ? grid.back(tile, x) : grid.forward(tile, x));
          gather.depth = grid.rows_of_a(tile);
          gather.factor = other.factor(1 - modality) + grid.begin(tile);
          gather.other = other.other(1 - modality) + grid.begin(tile);
          gather.out = matrix_ + (depth * contrast_group);
          pair_.kernels.gather_columns(gather);
          return gather.depth;
        },
        [&](std::int64_t begin, std::int64_t depth) {
          ContrastProduct<T> product;
          product.a = matrix_.get();
          product.group_step = step_;
          product.row_step = 1;
          product.depth_step = contrast_group;
          product.depth = depth;
          multiply(product, own, modality, other, grid.begin(x), gather.rows, begin);
        });
  }

 private:
  static constexpr std::int64_t most_depth_ = 288;  // windows, with everything in the caches
  static constexpr std::int64_t row_step_ = most_depth_ + saved_slack;
  static constexpr std::int64_t step_ = contrast_group * row_step_;

  /// Tiles in runs of nearly equal depth: gather(tile, depth so far), then multiply(window, depth).
  template <class Gather, class Multiply>
  void in_runs(std::int64_t first, std::int64_t last, const Gather& gather,
               const Multiply& multiply_run) {
    const std::int64_t most = most_depth_ / pair_.grid.size;
    const std::int64_t runs = (last - first + most - 1) / most;
    for (std::int64_t run = 0; run < runs; ++run) {
      const std::int64_t begin = first + ((last - first) * run / runs);
      const std::int64_t end = first + ((last - first) * (run + 1) / runs);
      std::int64_t depth = 0;
      for (std::int64_t tile = begin; tile < end; ++tile) {
        depth += gather(tile, depth);
      }
      multiply_run(pair_.grid.begin(begin), depth);
    }
  }

  void multiply(ContrastProduct<T>& product, ContrastSide<T>& own, int modality,
                const ContrastSide<T>& other, std::int64_t row, std::int64_t rows,
                std::int64_t window) {
    ModalitySums<T>& sums = own.sums(modality);
    char& started = sums.started[static_cast<std::size_t>(row / pair_.grid.size)];
    for (int half = 0; half < halves; ++half) {
      const HalfSum<T>& to = sums.half[static_cast<std::size_t>(half)];
      if (!to.wanted) {
        continue;
      }
      product.b = other.panels(feature(1 - modality, half), window);
      product.panel_step = other.panel_step();
      product.c = to.sum + (row * to.stride);
      product.c_stride = to.stride;
      product.rows = rows;
      product.columns = to.width;
      product.add = started != 0;
      pair_.kernels.multiply(product);
    }
    started = 1;
  }

  const ContrastPair<T>& pair_;
  const T* tiles_;  ///< tile 0 would begin here
  Buffer<T> matrix_;
};

}  // namespace detach
