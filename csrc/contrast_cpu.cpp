// The forward direction of the weighted contrastive loss on the CPU: every tile leaves its row and
// column sums in a place of its own, and a second step adds them up in a fixed order. So the result
// is the same for any number of threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

constexpr double ln_2 = 0.69314718055994530942;

enum Quantity : int { sum = 0, top = 1, mass = 2, count = 3 };
constexpr int quantities = 4;

/// What tiles say about one block's windows: [quantity][modality][other tile][row].
class Partials {
 public:
  /// Where pairs are counted, `masked`; without a mask every row has the same number.
  Partials(std::int64_t rows, std::int64_t others, bool wide, bool weights, bool masked)
      : rows_(rows), others_(others), has_{true, wide, weights, weights && masked} {
    std::int64_t planes = 0;
    for (int quantity = 0; quantity < quantities; ++quantity) {
      plane_[quantity] = planes;
      planes += has_[quantity] ? modalities : 0;
    }
    data_ = Buffer<double>(planes * others * rows);
  }

  bool has(Quantity quantity) const { return has_[quantity]; }
  double* at(Quantity quantity, int modality, std::int64_t other, std::int64_t row) const {
    return data_ + ((((plane_[quantity] + modality) * others_) + other) * rows_) + row;
  }
  template <typename T>
  void write(Quantity quantity, int modality, std::int64_t other, std::int64_t row, const T* values,
             std::int64_t rows) const {
    std::copy_n(values, rows, at(quantity, modality, other, row));
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t others() const { return others_; }

 private:
  std::int64_t rows_;
  std::int64_t others_;
  bool has_[quantities];
  std::int64_t plane_[quantities] = {};
  Buffer<double> data_;
};

/// Logarithm of the sum over all tiles of sums relative to 2^top.
double log_of_sums(const Partials& partials, const ContrastRange& range, int modality,
                   std::int64_t row) {
  const std::int64_t others = partials.others();
  double all = 0.0;
  if (!range.wide) {
    for (std::int64_t other = 0; other < others; ++other) {
      all += *partials.at(sum, modality, other, row);
    }
    return std::log(all) + (range.shift * ln_2);
  }
  double largest = -std::numeric_limits<double>::infinity();
  for (std::int64_t other = 0; other < others; ++other) {
    largest = std::max(largest, *partials.at(top, modality, other, row));
  }
  for (std::int64_t other = 0; other < others; ++other) {
    const double part = *partials.at(sum, modality, other, row);
    const double under = *partials.at(top, modality, other, row) - largest;
    all += part == 0.0 ? 0.0 : part * std::exp2(under);
  }
  return all == 0.0 ? -std::numeric_limits<double>::infinity() : std::log(all) + (largest * ln_2);
}

double total(const Partials& partials, Quantity quantity, int modality, std::int64_t row) {
  double all = 0.0;
  for (std::int64_t other = 0; other < partials.others(); ++other) {
    all += *partials.at(quantity, modality, other, row);
  }
  return all;
}

/// `pairs` is how many each row has where they were not counted.
void add_up(const Partials& partials, const ContrastRange& range, std::int64_t pairs,
            const ContrastSums& out, int threads) {
  double* const logs[modalities] = {out.log_video, out.log_sensor};
  double* const masses[modalities] = {out.weight_video, out.weight_sensor};
  double* const counts[modalities] = {out.count_video, out.count_sensor};
  parallel_for(threads, partials.rows(), 32, [&](std::int64_t begin, std::int64_t end) {
    for (int modality = 0; modality < modalities; ++modality) {
      for (std::int64_t row = begin; row < end; ++row) {
        logs[modality][row] = log_of_sums(partials, range, modality, row);
        if (partials.has(mass) && masses[modality] != nullptr) {
          masses[modality][row] = total(partials, mass, modality, row);
        }
        if (counts[modality] != nullptr) {
          counts[modality][row] = partials.has(count) ? total(partials, count, modality, row)
                                                      : static_cast<double>(pairs);
        }
      }
    }
  });
}

bool wants_weights(const ContrastSums* sums) {
  return sums != nullptr && (sums->weight_video != nullptr || sums->weight_sensor != nullptr ||
                             sums->count_video != nullptr || sums->count_sensor != nullptr);
}

/// Where the sums of a tile go: rows to A's windows, columns to B's.
template <typename T>
class TileSums {
 public:
  TileSums(const ContrastPair<T>& pair, const Partials& a, const Partials* b, T* saved)
      : pair_(pair), a_(a), b_(b), saved_(saved), worker_(pair) {}

  void run(std::int64_t i, std::int64_t j) {
    worker_.compute(i, j);
    for (const bool back : {false, true}) {
      if (back && !worker_.has_back()) {
        continue;
      }
      ContrastTile<T> tile = worker_.direction(back);
      exponentials(tile, i, j, back);
      keep(sum, worker_.row_sum(), worker_.column_sum(), i, j, back);
      if (pair_.range.wide) {
        keep(top, worker_.row_top(), worker_.column_top(), i, j, back);
      }
      if (a_.has(mass)) {
        pair_.kernels.sum_tile(tile, worker_.weights(back));
        keep(mass, worker_.row_sum(), worker_.column_sum(), i, j, back);
      }
      if (a_.has(count)) {
        keep(count, worker_.row_count(back), worker_.column_count(back), i, j, back);
      }
    }
  }

 private:
  void exponentials(ContrastTile<T>& tile, std::int64_t i, std::int64_t j, bool back) {
    if (pair_.range.wide) {
      pair_.kernels.wide_sums(tile);
      return;
    }
    if (saved_ != nullptr) {
      tile.out = saved_ + (back ? pair_.grid.back(i, j) : pair_.grid.forward(i, j));
      tile.out_stride = pair_.grid.stride(j);
    }
    pair_.kernels.sums(tile);
  }

  template <typename Number>
  void keep(Quantity quantity, const Number* rows, const Number* columns, std::int64_t i,
            std::int64_t j, bool back) {
    const TileGrid& grid = pair_.grid;
    a_.write(quantity, back ? sensor : video, j, grid.begin(i), rows, grid.rows_of_a(i));
    const Partials* const to = grid.same ? &a_ : b_;
    if (to != nullptr) {
      to->write(quantity, back ? video : sensor, i, grid.begin(j), columns, grid.rows_of_b(j));
    }
  }

  const ContrastPair<T>& pair_;
  const Partials& a_;
  const Partials* b_;
  T* saved_;
  TileWorker<T> worker_;
};

/// The tiles of column blocks [first, last), row block after row block.
struct TileGroup {
  std::int64_t first_of(std::int64_t i) const { return std::max(first, grid.first_column(i)); }
  std::int64_t rows() const { return grid.same ? last : grid.count_a(); }
  std::int64_t tiles() const {
    std::int64_t all = 0;
    for (std::int64_t i = 0; i < rows(); ++i) {
      all += last - first_of(i);
    }
    return all;
  }
  std::pair<std::int64_t, std::int64_t> tile(std::int64_t t) const {
    std::int64_t i = 0;
    while (t >= last - first_of(i)) {
      t -= last - first_of(i);
      ++i;
    }
    return {i, first_of(i) + t};
  }

  const TileGrid& grid;
  std::int64_t first;
  std::int64_t last;
};

template <typename T>
void run_tiles(const ContrastPair<T>& pair, const TileGroup& group, const Partials& a,
               const Partials* b, T* saved, int threads) {
  Ranges ranges(group.tiles(), 1, threads);
  on_threads(threads, [&] {
    TileSums<T> worker(pair, a, b, saved);
    std::int64_t begin = 0;
    std::int64_t end = 0;
    while (ranges.take(begin, end)) {
      auto [i, j] = group.tile(begin);
      for (std::int64_t t = begin; t < end; ++t) {
        worker.run(i, j);
        if (++j == group.last) {
          ++i;
          j = group.first_of(i);
        }
      }
    }
  });
}

/// All tiles; `columns` are the rows of B, or of A where it is the only block.
template <typename T>
void run_groups(const ContrastPair<T>& pair, ContrastRows<T>& columns, const Partials& a,
                const Partials* b, T* saved, int threads) {
  for_groups(pair.grid, columns, threads, [&](std::int64_t first, std::int64_t last) {
    run_tiles(pair, TileGroup{pair.grid, first, last}, a, b, saved, threads);
  });
}

template <typename T>
double* copy_lengths(const ContrastRows<T>& rows, double* to) {
  for (int f = 0; f < modalities * halves; ++f) {
    to = std::copy_n(rows.length_of(f), rows.rows, to);
  }
  return to;
}

/// What the gradient then need not find out again.
template <typename T>
void save_rows(const ContrastPair<T>& pair, const double* own_logits, T* saved) {
  const SavedRows layout(pair.grid);
  const Buffer<double> all(layout.count());
  double* to = std::copy_n(own_logits, layout.own, all.get());
  to = copy_lengths(pair.a, to);
  if (!pair.grid.same) {
    copy_lengths(pair.b, to);
  }
  std::memcpy(saved + layout.begin, all.get(),
              static_cast<std::size_t>(layout.count()) * sizeof(double));
}

}  // namespace

std::int64_t contrast_saved_size(std::int64_t rows_a, std::int64_t rows_b, bool same) {
  return SavedRows(TileGrid(rows_a, rows_b, same)).end();
}

template <typename T>
void contrast_sums(const ContrastBlock<T>& a, const ContrastBlock<T>* b,
                   const ContrastParams& params, const PairMask& mask, const ContrastSums& sums_a,
                   const ContrastSums* sums_b, T* saved, int threads) {
  check_call(a, b, params, mask, threads);
  const bool same = b == nullptr;
  const Buffer<double> own(a.rows);
  RowsWanted wanted;
  wanted.used = features_of_tiles(params);
  const TileGrid grid(a.rows, same ? a.rows : b->rows, same);
  const bool panels = packed_at_once(grid);
  wanted.panels = same && panels;
  wanted.own_logits = same ? own.get() : nullptr;
  wanted.temperature = params.temperature;
  ContrastRows<T> rows_a = prepare_rows(a, params.normalize, wanted, threads);
  ContrastRows<T> rows_b;
  if (!same) {
    wanted.panels = panels;
    rows_b = prepare_rows(*b, params.normalize, wanted, threads);
  }
  const ContrastPair<T> pair(rows_a, same ? rows_a : rows_b, a, same ? a : *b, params, mask);
  if (saved != nullptr) {
    save_rows(pair, own.get(), saved);
  }
  const bool weights = wants_weights(&sums_a) || wants_weights(sums_b);
  const bool masked = mask.dense != nullptr || mask.reach > 0.0;
  const Partials partials_a(a.rows, pair.grid.count_b(), pair.range.wide, weights, masked);
  const bool two = !same && sums_b != nullptr;
  const Partials partials_b(two ? b->rows : 0, pair.grid.count_a(), pair.range.wide, weights,
                            masked);
  run_groups(pair, same ? rows_a : rows_b, partials_a, two ? &partials_b : nullptr, saved, threads);
  add_up(partials_a, pair.range, same ? a.rows - 1 : b->rows, sums_a, threads);
  if (two) {
    add_up(partials_b, pair.range, a.rows, *sums_b, threads);
  }
  if (same && sums_a.positive != nullptr) {
    std::copy_n(own.get(), a.rows, sums_a.positive);
  }
}

template void contrast_sums(const ContrastBlock<float>&, const ContrastBlock<float>*,
                            const ContrastParams&, const PairMask&, const ContrastSums&,
                            const ContrastSums*, float*, int);
template void contrast_sums(const ContrastBlock<double>&, const ContrastBlock<double>*,
                            const ContrastParams&, const PairMask&, const ContrastSums&,
                            const ContrastSums*, double*, int);

}  // namespace detach
