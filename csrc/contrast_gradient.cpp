// The gradient of the weighted contrastive loss on the CPU. Each output row is owned by one job,
// which goes through the tiles of its row in a fixed order: no atomics, and the same result for any
// number of threads. Where nothing was saved, strips of tiles are computed again and used up.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_outputs.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

constexpr std::int64_t most_depth = 288;  // windows summed over with everything in the caches
// Sums and results take 2 N d numbers for each half that is wanted: together with tiles that are
// computed again and what is packed, less than 16.
constexpr double tiles_and_halves = 12.0;

/// Runs of saved tiles that one block row of an output reads; at most `most_depth` windows deep.
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
  static constexpr std::int64_t row_step_ = most_depth + saved_slack;
  static constexpr std::int64_t step_ = contrast_group * row_step_;

  /// Tiles in runs of nearly equal depth: gather(tile, depth so far), then multiply(window, depth).
  template <class Gather, class Multiply>
  void in_runs(std::int64_t first, std::int64_t last, const Gather& gather,
               const Multiply& multiply_run) {
    const std::int64_t most = most_depth / pair_.grid.size;
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

/// Blocks [first, last) of rows or of windows.
struct Blocks {
  std::int64_t first;
  std::int64_t last;
  Blocks within(std::int64_t from, std::int64_t to) const {
    return {std::max(first, from), std::min(last, to)};
  }
  bool any() const { return first < last; }
};

/// The part of both sides' outputs of one modality that the tiles of row blocks `strip`, which lie
/// at `tiles`, give to sums over the blocks `windows`.
template <typename T>
void accumulate_windows(const ContrastPair<T>& pair, ContrastSide<T>& a, ContrastSide<T>* b,
                        int modality, const T* tiles, Blocks strip, Blocks windows, int threads) {
  const TileGrid& grid = pair.grid;
  ContrastSide<T>& columns = b == nullptr ? a : *b;
  const std::int64_t jobs_a = grid.count_a();
  const std::int64_t jobs = jobs_a + (b == nullptr ? 0 : grid.count_b());
  parallel_for(threads, jobs, 1, [&](std::int64_t first, std::int64_t last) {
    Gatherer<T> gatherer(pair, tiles - grid.strip(strip.first));
    for (std::int64_t x = first; x < last; ++x) {
      if (x >= jobs_a || grid.same) {
        const std::int64_t block = x >= jobs_a ? x - jobs_a : x;
        // A diagonal tile has no back: its transpose is what the sensors read.
        const std::int64_t until = grid.same ? block + (modality == sensor ? 1 : 0) : strip.last;
        const Blocks read = strip.within(windows.first, std::min(windows.last, until));
        if (columns.sums(modality).wanted() && read.any()) {
          gatherer.columns(block, modality == video, read.first, read.last, columns, modality, a);
        }
      }
      if (x >= strip.first && x < strip.last) {
        const std::int64_t from = grid.same ? x + (modality == sensor ? 1 : 0) : std::int64_t{0};
        const Blocks read = windows.within(from, grid.count_b());
        if (a.sums(modality).wanted() && read.any()) {
          gatherer.rows(x, modality == sensor, read.first, read.last, a, modality, columns);
        }
      }
    }
  });
}

/// The same over all windows, some blocks of which are packed at a time.
template <typename T>
void accumulate(const ContrastPair<T>& pair, ContrastSide<T>& a, ContrastSide<T>* b, int modality,
                const T* tiles, Blocks strip, int threads) {
  const TileGrid& grid = pair.grid;
  const std::int64_t together = blocks_together(grid);
  const std::int64_t blocks = std::max(grid.count_a(), grid.count_b());
  const auto row = [&](std::int64_t block, std::int64_t rows) {
    return std::min(grid.begin(block), rows);
  };
  for (std::int64_t first = 0; first < blocks; first += together) {
    const Blocks windows{first, std::min(first + together, blocks)};
    a.pack_for(b == nullptr ? a : *b, modality, row(windows.first, grid.rows_a),
               row(windows.last, grid.rows_a), threads);
    if (b != nullptr) {
      b->pack_for(a, modality, row(windows.first, grid.rows_b), row(windows.last, grid.rows_b),
                  threads);
    }
    accumulate_windows(pair, a, b, modality, tiles, strip, windows, threads);
  }
}

/// Tiles of row blocks `strip` and column blocks `group` once more, as exponentials or, in a wide
/// range, as gradients.
template <typename T>
void recompute(const ContrastPair<T>& pair, const ContrastSide<T>& a, const ContrastSide<T>& b,
               T* tiles, Blocks strip, Blocks group, int threads) {
  const TileGrid& grid = pair.grid;
  const std::int64_t columns = group.last - group.first;
  const std::int64_t grain = std::max<std::int64_t>(1, columns / (std::int64_t{threads} * 4));
  const std::int64_t count = (strip.last - strip.first) * columns;
  parallel_for(threads, count, grain, [&](std::int64_t from, std::int64_t to) {
    TileWorker<T> worker(pair);
    for (std::int64_t t = from; t < to; ++t) {
      const std::int64_t i = strip.first + (t / columns);
      const std::int64_t j = group.first + (t % columns);
      if (j < grid.first_column(i)) {
        continue;
      }
      worker.compute(i, j);
      for (int back = 0; back < (worker.has_back() ? 2 : 1); ++back) {
        ContrastTile<T> tile = worker.direction(back == 1);
        tile.out =
            tiles - grid.strip(strip.first) + (back == 1 ? grid.back(i, j) : grid.forward(i, j));
        tile.out_stride = grid.stride(j);
        if (!pair.range.wide) {
          pair.kernels.sums(tile);
          continue;
        }
        tile.row_top = a.top(back == 1 ? sensor : video) + grid.begin(i);
        tile.row_factor = a.multiple(back == 1 ? sensor : video) + grid.begin(i);
        tile.column_top = b.top(back == 1 ? video : sensor) + grid.begin(j);
        tile.column_factor = b.multiple(back == 1 ? video : sensor) + grid.begin(j);
        pair.kernels.wide_gradient(tile);
      }
    }
  });
}

/// Strips of row blocks whose tiles fit in the memory that is allowed for them.
template <typename T>
void accumulate_again(const ContrastPair<T>& pair, ContrastRows<T>& columns, ContrastSide<T>& a,
                      ContrastSide<T>* b, int threads) {
  const TileGrid& grid = pair.grid;
  const double share =
      tiles_and_halves - (2.0 * std::max(a.halves_wanted(), b == nullptr ? 0 : b->halves_wanted()));
  const auto allowed = static_cast<std::int64_t>(
      share * static_cast<double>(std::max(grid.rows_a, grid.rows_b)) *
      static_cast<double>(
          std::max(pair.a.width[feature(video, spatial)], pair.a.width[feature(video, temporal)])));
  std::vector<std::int64_t> ends;  // of strips, in row blocks
  std::int64_t largest = 0;
  for (std::int64_t begin = 0; begin < grid.count_a(); begin = ends.back()) {
    std::int64_t end = begin + 1;
    while (end < grid.count_a() && grid.strip(end + 1) - grid.strip(begin) <= allowed) {
      ++end;
    }
    largest = std::max(largest, grid.strip(end) - grid.strip(begin));
    ends.push_back(end);
  }
  const Buffer<T> tiles(largest + saved_slack);
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    const Blocks strip{begin, end};
    for_groups(pair.grid, columns, threads, [&](std::int64_t first, std::int64_t last) {
      recompute(pair, a, b == nullptr ? a : *b, tiles.get(), strip, Blocks{first, last}, threads);
    });
    accumulate(pair, a, b, video, tiles.get(), strip, threads);
    accumulate(pair, a, b, sensor, tiles.get(), strip, threads);
    begin = end;
  }
}

/// Rows of both blocks, and A's own logits where it is the only one.
template <typename T>
struct Prepared {
  Buffer<double> own;
  ContrastRows<T> a;
  ContrastRows<T> b;
};

/// From what was saved where it was; `tiles`: for computing tiles again.
template <typename T>
Prepared<T> prepare(const ContrastBlock<T>& a, const ContrastBlock<T>* b,
                    const ContrastParams& params, const T* saved, bool tiles, int threads) {
  const bool same = b == nullptr;
  const SavedRows layout(TileGrid(a.rows, same ? a.rows : b->rows, same));
  Prepared<T> prepared;
  prepared.own = Buffer<double>(layout.count());
  double* const known = prepared.own.get();
  if (saved != nullptr) {
    std::memcpy(known, saved + layout.begin,
                static_cast<std::size_t>(layout.count()) * sizeof(double));
  }
  RowsWanted wanted;
  wanted.used = tiles ? features_of_tiles(params)
                      : std::array<bool, features>{true, true, true, true, false, false};
  const bool panels = tiles && packed_at_once(layout.grid);
  wanted.panels = panels && same;
  wanted.known_lengths = saved != nullptr ? known + layout.own : nullptr;
  wanted.own_logits = saved == nullptr && same ? known : nullptr;
  wanted.temperature = params.temperature;
  prepared.a = prepare_rows(a, params.normalize, wanted, threads);
  if (!same) {
    wanted.panels = panels;
    wanted.known_lengths = saved != nullptr ? known + layout.own + layout.lengths_a : nullptr;
    prepared.b = prepare_rows(*b, params.normalize, wanted, threads);
  }
  return prepared;
}

}  // namespace

template <typename T>
void contrast_gradient(const ContrastBlock<T>& a, const ContrastBlock<T>* b,
                       const ContrastParams& params, const PairMask& mask,
                       const ContrastDenominators& denominators_a,
                       const ContrastDenominators* denominators_b, const T* saved,
                       const ContrastGradients<T>& gradients_a,
                       const ContrastGradients<T>* gradients_b, int threads) {
  check_call(a, b, params, mask, threads);
  const bool same = b == nullptr;
  if (a.rows == 0 || (!same && b->rows == 0)) {
    return;
  }
  Prepared<T> prepared = prepare(a, b, params, saved, saved == nullptr, threads);
  const ContrastRows<T>& rows_a = prepared.a;
  const ContrastRows<T>& rows_b = same ? prepared.a : prepared.b;
  const ContrastRange range = range_of(rows_a, rows_b, params.temperature);
  const bool again = saved == nullptr || range.wide;
  if (again && saved != nullptr) {
    prepared = prepare(a, b, params, saved, true, threads);
  }
  const ContrastPair<T> pair(rows_a, rows_b, a, same ? a : *b, params, mask);
  ContrastSide<T> side_a(rows_a, denominators_a, gradients_a, range, pair.grid.size);
  std::optional<ContrastSide<T>> side_b;
  if (!same) {
    side_b.emplace(rows_b, denominators_b != nullptr ? *denominators_b : ContrastDenominators{},
                   gradients_b != nullptr ? *gradients_b : ContrastGradients<T>{}, range,
                   pair.grid.size);
  }
  ContrastSide<T>* const other = same ? nullptr : &*side_b;
  const auto begin = [&](int modality) {
    side_a.begin(modality);
    if (other != nullptr) {
      other->begin(modality);
    }
  };
  const auto finish = [&](int modality) {
    side_a.finish(params, modality, same ? prepared.own.get() : nullptr, threads);
    if (other != nullptr) {
      other->finish(params, modality, nullptr, threads);
    }
  };
  if (again) {
    begin(video);
    begin(sensor);
    accumulate_again(pair, same ? prepared.a : prepared.b, side_a, other, threads);
    finish(video);
    finish(sensor);
    return;
  }
  for (const Modality modality : {video, sensor}) {  // the sums of one at a time, to save memory
    begin(modality);
    accumulate(pair, side_a, other, modality, saved, Blocks{0, pair.grid.count_a()}, threads);
    finish(modality);
  }
}

template void contrast_gradient(const ContrastBlock<float>&, const ContrastBlock<float>*,
                                const ContrastParams&, const PairMask&, const ContrastDenominators&,
                                const ContrastDenominators*, const float*,
                                const ContrastGradients<float>&, const ContrastGradients<float>*,
                                int);
template void contrast_gradient(const ContrastBlock<double>&, const ContrastBlock<double>*,
                                const ContrastParams&, const PairMask&, const ContrastDenominators&,
                                const ContrastDenominators*, const double*,
                                const ContrastGradients<double>&, const ContrastGradients<double>*,
                                int);

}  // namespace detach
