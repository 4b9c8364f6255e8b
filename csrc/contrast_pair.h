// A pair of blocks of windows as a grid of tiles: where tiles lie, and how one is computed.
//
// Tile (I, J) holds rows I of block A and rows J of block B in both directions: forward is video of
// A against sensor of B, backward sensor of A against video of B (back[i][j] is the logit of video
// j and sensor i). Where B is A only J >= I is visited, and the diagonal tiles have no back.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"

namespace detach {

/// Splits both blocks into tiles and lays saved tiles out one after the other.
struct TileGrid {
  TileGrid(std::int64_t a, std::int64_t b, bool same_block)
      : rows_a(a), rows_b(b), same(same_block), size(std::max(a, b) <= 1024 ? 48 : 96) {}

  static std::int64_t padded(std::int64_t columns) { return (columns + 7) / 8 * 8; }
  std::int64_t count_a() const { return (rows_a + size - 1) / size; }
  std::int64_t count_b() const { return (rows_b + size - 1) / size; }
  std::int64_t begin(std::int64_t tile) const { return tile * size; }
  std::int64_t rows_of_a(std::int64_t tile) const { return std::min(size, rows_a - (tile * size)); }
  std::int64_t rows_of_b(std::int64_t tile) const { return std::min(size, rows_b - (tile * size)); }
  /// From row to row in a saved tile of column block `j`.
  std::int64_t stride(std::int64_t j) const { return padded(rows_of_b(j)); }

  /// Where the saved tiles of row block `i` begin; i = count_a() gives the number of all.
  std::int64_t strip(std::int64_t i) const {
    const std::int64_t row = std::min(i * size, rows_a);
    if (!same) {
      return 2 * row * padded(rows_b);
    }
    const std::int64_t whole = row / size;
    const std::int64_t upper =
        (whole * size * (size + (2 * padded(rows_b)))) - (size * size * whole * (whole + 1));
    return row == whole * size ? upper : upper + ((row - (whole * size)) * padded(row % size));
  }
  std::int64_t forward(std::int64_t i, std::int64_t j) const {
    const std::int64_t rows = rows_of_a(i);
    if (!same) {
      return strip(i) + (2 * rows * begin(j));
    }
    const std::int64_t before = j == i ? 0 : rows * (stride(i) + (2 * (begin(j) - begin(i + 1))));
    return strip(i) + before;
  }
  std::int64_t back(std::int64_t i, std::int64_t j) const {
    return forward(i, j) + (rows_of_a(i) * stride(j));
  }
  /// Tiles of row block `i` are columns [first_column(i), count_b()).
  std::int64_t first_column(std::int64_t i) const { return same ? i : 0; }

  std::int64_t rows_a;
  std::int64_t rows_b;
  bool same;
  std::int64_t size;
};

/// Column blocks whose windows are packed at a time: 9, so that their panels stay in a cache, and
/// three runs of the gradient's products make one group. All of a small batch.
inline std::int64_t blocks_together(const TileGrid& grid) {
  return std::max(grid.rows_a, grid.rows_b) <= 1024 ? std::max(grid.count_a(), grid.count_b()) : 9;
}

/// Whether prepare_rows is to pack all rows of B.
inline bool packed_at_once(const TileGrid& grid) { return blocks_together(grid) >= grid.count_b(); }

/// run(first, last) for groups of column blocks, whose windows are packed then.
template <typename T, class Run>
void for_groups(const TileGrid& grid, ContrastRows<T>& columns, int threads, const Run& run) {
  const std::int64_t together = blocks_together(grid);
  for (std::int64_t first = 0; first < grid.count_b(); first += together) {
    const std::int64_t last = std::min(first + together, grid.count_b());
    if (!packed_at_once(grid)) {
      pack_panels(columns, grid.begin(first), std::min(grid.begin(last), grid.rows_b), threads);
    }
    run(first, last);
  }
}

/// Room behind saved tiles, which are read a register at a time.
constexpr std::int64_t saved_slack = 16;

/// What is saved of rows behind the tiles, in double: own logits where B is A, then the lengths of
/// the halves of A and, where it is another block, of B.
struct SavedRows {
  explicit SavedRows(const TileGrid& tile_grid)
      : grid(tile_grid),
        begin(grid.strip(grid.count_a()) + saved_slack),
        own(grid.same ? grid.rows_a : 0),
        lengths_a(modalities * halves * grid.rows_a),
        lengths_b(grid.same ? 0 : modalities * halves * grid.rows_b) {}

  std::int64_t count() const { return own + lengths_a + lengths_b; }
  /// Numbers of type T up to here, for a T of at least 4 bytes.
  std::int64_t end() const { return begin + (2 * count()); }

  TileGrid grid;
  std::int64_t begin;
  std::int64_t own;
  std::int64_t lengths_a;
  std::int64_t lengths_b;
};

/// How exponentials are kept in range: all divided by 2^shift, or relative to each row's and
/// column's own maximum.
struct ContrastRange {
  bool wide = false;
  int shift = 0;
};

template <typename T>
ContrastRange range_of(const ContrastRows<T>& a, const ContrastRows<T>& b, double temperature);

/// One call's view of a pair. `b` is `a` where both are the same block.
template <typename T>
struct ContrastPair {
  ContrastPair(const ContrastRows<T>& rows_a, const ContrastRows<T>& rows_b,
               const ContrastBlock<T>& block_a, const ContrastBlock<T>& block_b,
               const ContrastParams& parameters, const PairMask& pair_mask);

  const ContrastKernels<T>& kernels;
  const ContrastRows<T>& a;
  const ContrastRows<T>& b;
  const ContrastBlock<T>& block_a;
  const ContrastBlock<T>& block_b;
  const ContrastParams& params;
  const PairMask& mask;
  TileGrid grid;
  ContrastRange range;
  ContrastWeight<T> weight;
  bool uses_place;
  bool uses_motion;
  /// Scales that make logits of products, in units of log 2: rows of A carry 1 / temperature.
  Buffer<T> row_scale;  ///< [modalities][a.stride]
};

/// Which features a pair's tiles need.
std::array<bool, features> features_of_tiles(const ContrastParams& params);
/// Throws std::invalid_argument; `b` may be null.
template <typename T>
void check_call(const ContrastBlock<T>& a, const ContrastBlock<T>* b, const ContrastParams& params,
                const PairMask& mask, int threads);

/// Computes tiles, one after the other, in memory of its own.
template <typename T>
class TileWorker {
 public:
  explicit TileWorker(const ContrastPair<T>& pair);

  /// Products and weights of tile (i, j).
  void compute(std::int64_t i, std::int64_t j);
  /// The forward or backward direction of the tile, ready for ContrastKernels::sums and the like.
  /// Row and column sums go to row_sum and column_sum below.
  ContrastTile<T> direction(bool back);
  bool has_back() const { return !pair_.grid.same || i_ != j_; }
  const T* weights(bool back) const { return back ? weight_back_ : weight_; }
  /// Pairs of each row and column that are not left out; of the latest tile.
  const double* row_count(bool back) const { return counts_ + (back ? 2 : 0) * tile_columns_; }
  const double* column_count(bool back) const { return counts_ + (back ? 3 : 1) * tile_columns_; }
  double* row_sum() const { return sums_.get(); }
  double* column_sum() const { return sums_ + tile_columns_; }
  T* row_top() const { return tops_.get(); }
  T* column_top() const { return tops_ + tile_columns_; }

 private:
  static constexpr std::int64_t tile_columns_ = 96;

  void load_rows(std::int64_t i);
  void plan(int rows_feature, int columns_feature, T* out, bool add, bool upper = false);
  void mirror(T* tile) const;
  void plan_logits();
  void plan_weights();
  void multiply_planned();
  void compute_weights();
  void scale_place(T* tile, int modality);
  void leave_out(bool back);
  void drop(T* weight, bool back, std::int64_t row, std::int64_t column);

  const ContrastPair<T>& pair_;
  std::int64_t i_ = -1;
  std::int64_t j_ = -1;
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::array<Buffer<T>, features> left_;
  std::vector<ContrastProduct<T>> planned_;
  Buffer<T> tiles_;
  T* video_place_;
  T* sensor_place_;
  T* motion_;
  T* motion_back_;
  T* logit_;
  T* logit_back_;
  T* weight_ = nullptr;
  T* weight_back_ = nullptr;
  Buffer<double> counts_;
  Buffer<double> sums_;
  Buffer<T> tops_;
};

}  // namespace detach
