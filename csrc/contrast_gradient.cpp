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
#include "contrast_gather.h"
#include "contrast_kernels.h"
#include "contrast_outputs.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

// Sums and results take 2 N d numbers for each half that is wanted: together with tiles that are
// computed again and what is packed, less than 16.
constexpr double tiles_and_halves = 12.0;

/// Blocks [first, last) of rows or of windows.
struct Blocks {
  std::int64_t first;
  std::int64_t last;
  Blocks within(std::int64_t from, std::int64_t to) const {
    return {std::max(first, from), std::min(last, to)};
  }
  bool any() const { return first < last; }
};

/// Row blocks and their tiles, the first of which lies at `tiles`, on the way to the outputs.
template <typename T>
struct Strip {
  const ContrastPair<T>& pair;
  ContrastSide<T>& a;
  ContrastSide<T>* b;  ///< null where B is A
  const double* own_logits;
  const T* tiles;
  Blocks blocks;
  bool last;

  ContrastSide<T>& columns() const { return b == nullptr ? a : *b; }
  /// Blocks of A's outputs, and then of B's.
  std::int64_t jobs() const {
    return pair.grid.count_a() + (b == nullptr ? 0 : pair.grid.count_b());
  }

  /// One modality's part in block `x` of the outputs, of sums over the blocks `windows`.
  void add(Gatherer<T>& gatherer, std::int64_t x, int modality, Blocks windows) const {
    const TileGrid& grid = pair.grid;
    const std::int64_t jobs_a = grid.count_a();
    if (x >= jobs_a || grid.same) {
      const std::int64_t block = x >= jobs_a ? x - jobs_a : x;
      // A diagonal tile has no back: its transpose is what the sensors read.
      const std::int64_t until = grid.same ? block + (modality == sensor ? 1 : 0) : blocks.last;
      const Blocks read = blocks.within(windows.first, std::min(windows.last, until));
      if (columns().sums(modality).wanted() && read.any()) {
        gatherer.columns(block, modality == video, read.first, read.last, columns(), modality, a);
      }
    }
    if (x >= blocks.first && x < blocks.last) {
      const std::int64_t from = grid.same ? x + (modality == sensor ? 1 : 0) : std::int64_t{0};
      const Blocks read = windows.within(from, grid.count_b());
      if (a.sums(modality).wanted() && read.any()) {
        gatherer.rows(x, modality == sensor, read.first, read.last, a, modality, columns());
      }
    }
  }

  void finish(std::int64_t x, int modality) const {
    const TileGrid& grid = pair.grid;
    const std::int64_t jobs_a = grid.count_a();
    const std::int64_t block = x < jobs_a ? x : x - jobs_a;
    const std::int64_t rows = x < jobs_a ? grid.rows_of_a(block) : grid.rows_of_b(block);
    (x < jobs_a ? a : *b)
        .finish(pair.params, modality, own_logits, grid.begin(block), grid.begin(block) + rows);
  }

  void pack(const std::vector<int>& of, Blocks windows, int threads) const {
    const TileGrid& grid = pair.grid;
    const auto pack_for = [&](ContrastSide<T>& side, ContrastSide<T>& reader, std::int64_t rows) {
      side.pack_for(reader, of, std::min(grid.begin(windows.first), rows),
                    std::min(grid.begin(windows.last), rows), threads);
    };
    pack_for(a, columns(), grid.rows_a);
    if (b != nullptr) {
      pack_for(*b, a, grid.rows_b);
    }
  }
};

/// Outputs of some modalities, from some blocks of windows at a time, which are packed then. With
/// the last ones of the last strip a block is finished, while it is in a cache.
template <typename T>
void accumulate(const Strip<T>& strip, const std::vector<int>& of, int threads) {
  const TileGrid& grid = strip.pair.grid;
  const std::int64_t together = blocks_together(grid);
  const std::int64_t blocks = std::max(grid.count_a(), grid.count_b());
  const auto modalities_asked = static_cast<std::int64_t>(of.size());
  for (std::int64_t first = 0; first < blocks; first += together) {
    const Blocks windows{first, std::min(first + together, blocks)};
    strip.pack(of, windows, threads);
    const std::int64_t jobs = strip.jobs() * modalities_asked;
    parallel_for(threads, jobs, 1, [&](std::int64_t begin, std::int64_t end) {
      Gatherer<T> gatherer(strip.pair, strip.tiles - grid.strip(strip.blocks.first));
      for (std::int64_t job = begin; job < end; ++job) {
        const std::int64_t x = job / modalities_asked;
        const int modality = of[static_cast<std::size_t>(job % modalities_asked)];
        strip.add(gatherer, x, modality, windows);
        if (strip.last && windows.last == blocks) {
          strip.finish(x, modality);
        }
      }
    });
  }
}

/// Tiles of row blocks `strip` and column blocks `group` once more, as exponentials or, in a wide
/// range, as gradients.
template <typename T>
void recompute(const ContrastPair<T>& pair, const ContrastSide<T>& a, const ContrastSide<T>& b,
               T* tiles, Blocks strip, Blocks group, int threads) {
  const TileGrid& grid = pair.grid;
  const std::int64_t columns = group.last - group.first;
  const std::int64_t count = (strip.last - strip.first) * columns;
  parallel_for(threads, count, 1, [&](std::int64_t from, std::int64_t to) {
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
                      ContrastSide<T>* b, const double* own_logits, int threads) {
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
    const Strip<T> computed{pair, a, b, own_logits, tiles.get(), strip, end == ends.back()};
    accumulate(computed, {video}, threads);
    accumulate(computed, {sensor}, threads);
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
  ContrastSide<T> side_a(rows_a, denominators_a, gradients_a, range, pair.grid.size, threads);
  std::optional<ContrastSide<T>> side_b;
  if (!same) {
    side_b.emplace(rows_b, denominators_b != nullptr ? *denominators_b : ContrastDenominators{},
                   gradients_b != nullptr ? *gradients_b : ContrastGradients<T>{}, range,
                   pair.grid.size, threads);
  }
  ContrastSide<T>* const other = same ? nullptr : &*side_b;
  const auto begin = [&](int modality) {
    side_a.begin(modality);
    if (other != nullptr) {
      other->begin(modality);
    }
  };
  const double* const own_logits = same ? prepared.own.get() : nullptr;
  if (again) {
    begin(video);
    begin(sensor);
    accumulate_again(pair, same ? prepared.a : prepared.b, side_a, other, own_logits, threads);
    return;
  }
  const Strip<T> all{pair, side_a, other, own_logits, saved, {0, pair.grid.count_a()}, true};
  if (same && packed_at_once(pair.grid)) {  // a small batch: no thread waits between modalities
    begin(video);
    begin(sensor);
    accumulate(all, {video, sensor}, threads);
    return;
  }
  for (const int modality : {video, sensor}) {  // the sums of one at a time, to save memory
    begin(modality);
    accumulate(all, {modality}, threads);
    side_a.end(modality);
    if (other != nullptr) {
      other->end(modality);
    }
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
