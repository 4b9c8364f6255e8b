// Where everything lies in the workspace of a contrast call, and how its blocks are cut.
#pragma once

#include <algorithm>
#include <cstdint>

#include "contrast_primitives_cuda.cuh"
#include "contrast_problem_cuda.cuh"
#include "detach/contrast_cuda.h"

namespace detach::cuda {

/// How a call's two blocks are related: B is A, A is a part of B, or neither.
enum class Relation { same, part, apart };

/// Rows above which tiles of 128 x 128 pairs leave no multiprocessor idle.
DETACH_TUNABLE std::int64_t small_rows = 2048;
/// Bytes of numbers along a column of a stripe's panel: the rows whose pairs are in memory at a
/// time.
DETACH_TUNABLE std::int64_t stripe_bytes = 2048;
/// Fewer large product tiles than this leave multiprocessors idle.
DETACH_TUNABLE int enough_product_tiles = 96;
constexpr std::int64_t small_block = 64;
constexpr std::int64_t large_block = 128;
constexpr std::int64_t alignment = 256;

inline std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

inline bool two_bytes(ContrastPrecision precision) {
  return precision == ContrastPrecision::float16 || precision == ContrastPrecision::bfloat16;
}

/// Rows are padded to this.
inline std::int64_t block_rows(ContrastPrecision precision, std::int64_t rows) {
  const bool small = rows <= small_rows || precision == ContrastPrecision::float32;
  return small ? small_block : large_block;
}

/// Offsets of what contrast_prepare writes about one block's rows.
struct PreparedArrays {
  std::int64_t packed;
  std::int64_t cosine_video;
  std::int64_t cosine_sensor;
  std::int64_t video_factor[2];
  std::int64_t sensor_factor[2];
  std::int64_t video_length;
  std::int64_t sensor_length;
  std::int64_t positive;
  std::int64_t rows;  ///< that are packed: whole blocks and one more, for parts that start anywhere
};

/// Offsets of what contrast_factors writes about one side's rows.
struct FactorArrays {
  std::int64_t base2_video;
  std::int64_t base2_sensor;
  std::int64_t scaled_video;
  std::int64_t scaled_sensor;
  std::int64_t video_factor;
  std::int64_t sensor_factor;
  std::int64_t diagonal;
};

struct Plan {
  Relation relation;
  std::int64_t number_bytes;  ///< of packed and of saved numbers
  std::int64_t block;
  std::int64_t slabs[3];   ///< of a spatial, a temporal and a momentum part
  std::int64_t padded[3];  ///< the same in numbers
  std::int64_t row_bytes;
  std::int64_t padded_a;
  std::int64_t padded_b;
  PreparedArrays b;  ///< of the only block, or of B
  PreparedArrays a;  ///< of A where it is apart
  std::int64_t flag;
  std::int64_t sums_a;
  std::int64_t sums_b;
  FactorArrays factors_a;
  FactorArrays factors_b;
  std::int64_t unscale;
  std::int64_t products[2];      ///< video, sensor: of B's rows
  std::int64_t own_products[2];  ///< of A's rows, where A is not B
  std::int64_t product_width;
  std::int64_t stripe;  ///< rows of A whose pairs are in memory at a time
  bool square;          ///< all pairs of one block in one array, both orders
  std::int64_t panels;  ///< memory for these where nothing was saved
  std::int64_t total;

  std::int64_t blocks_a() const { return padded_a / block; }
  std::int64_t blocks_b() const { return padded_b / block; }
};

/// Hands out pieces of the workspace.
class Pieces {
 public:
  explicit Pieces(std::int64_t start) : end_(start) {}
  std::int64_t take(std::int64_t bytes) {
    const std::int64_t start = end_;
    end_ += round_up(bytes, alignment);
    return start;
  }
  std::int64_t end() const { return end_; }

 private:
  std::int64_t end_;
};

inline PreparedArrays prepared_arrays(Pieces& memory, std::int64_t rows, std::int64_t row_bytes) {
  PreparedArrays p{};
  const std::int64_t line = rows * static_cast<std::int64_t>(sizeof(float));
  p.rows = rows;
  p.packed = memory.take(rows * row_bytes);
  p.cosine_video = memory.take(line);
  p.cosine_sensor = memory.take(line);
  for (int half = 0; half < 2; ++half) {
    p.video_factor[half] = memory.take(line);
    p.sensor_factor[half] = memory.take(line);
  }
  p.video_length = memory.take(line);
  p.sensor_length = memory.take(line);
  p.positive = memory.take(2 * line);
  return p;
}

inline FactorArrays factor_arrays(Pieces& memory, std::int64_t rows) {
  const std::int64_t line = rows * static_cast<std::int64_t>(sizeof(float));
  return {memory.take(line), memory.take(line), memory.take(line), memory.take(line),
          memory.take(line), memory.take(line), memory.take(line)};
}

/// Numbers that hold all pairs: both orders of A against B.
inline std::int64_t pair_numbers(const Plan& p, std::int64_t rows) {
  return p.square ? p.padded_b * p.padded_b : 2 * rows * p.padded_b;
}

inline Plan make_plan(ContrastPrecision precision, std::int64_t rows_a, std::int64_t rows_b,
                      Relation relation, const std::int64_t (&widths)[3], bool saved) {
  Plan p{};
  p.relation = relation;
  p.number_bytes = two_bytes(precision) ? 2 : 4;
  p.block = block_rows(precision, std::max(rows_a, rows_b));
  for (int part = 0; part < 3; ++part) {
    p.slabs[part] = round_up(widths[part] * p.number_bytes, slab_bytes) / slab_bytes;
    p.padded[part] = p.slabs[part] * slab_bytes / p.number_bytes;
  }
  p.row_bytes = 2 * (p.slabs[0] + p.slabs[1] + p.slabs[2]) * slab_bytes;
  p.padded_a = round_up(rows_a, p.block);
  p.padded_b = round_up(rows_b, p.block);
  Pieces start(0);
  p.b = prepared_arrays(start, p.padded_b + p.block, p.row_bytes);
  if (relation == Relation::apart) {
    p.a = prepared_arrays(start, p.padded_a + p.block, p.row_bytes);
  }
  p.flag = start.take(sizeof(int));

  Pieces forward(start.end());
  const auto line = static_cast<std::int64_t>(sizeof(float));
  p.sums_a = forward.take(2 * p.blocks_b() * p.padded_a * line);
  p.sums_b =
      relation == Relation::apart ? forward.take(2 * p.blocks_a() * p.padded_b * line) : p.sums_a;

  Pieces backward(start.end());
  p.factors_a = factor_arrays(backward, p.padded_a);
  p.factors_b = relation == Relation::same ? p.factors_a : factor_arrays(backward, p.padded_b);
  p.unscale = backward.take(sizeof(float));
  p.product_width = p.padded[0] + p.padded[1];
  for (std::int64_t& product : p.products) {
    product = backward.take(p.padded_b * p.product_width * line);
  }
  for (std::int64_t& product : p.own_products) {
    product = relation == Relation::same ? -1 : backward.take(p.padded_a * p.product_width * line);
  }
  // Both panels of a stripe take as much memory as a square of twice its rows.
  const std::int64_t stripe = round_up(stripe_bytes / p.number_bytes, p.block);
  p.square = relation == Relation::same && (saved || p.padded_a <= 2 * stripe);
  p.stripe = saved || p.square ? p.padded_a : std::min(stripe, p.padded_a);
  p.panels = saved ? -1 : backward.take(pair_numbers(p, p.stripe) * p.number_bytes);
  p.total = std::max(forward.end(), backward.end());
  return p;
}

}  // namespace detach::cuda
