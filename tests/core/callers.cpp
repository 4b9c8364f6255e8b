// Eight callers of the core at once, for the sanitizers: every result must be that of one caller.
//
//   tests/core/run.sh thread | address,undefined
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "detach/contrast.h"
#include "detach/percentile.h"
#include "detach/thread_pool.h"

namespace {

constexpr std::int64_t rows = 61, spatial = 7, temporal = 19, momentum = 11;
constexpr int callers = 8, rounds = 20;

std::vector<float> numbers(std::int64_t count, unsigned seed) {
  std::vector<float> found(static_cast<std::size_t>(count));
  for (auto& x : found) {
    seed = seed * 1664525U + 1013904223U;
    x = static_cast<float>(seed >> 8) / 8388608.0F - 1.0F;
  }
  return found;
}

/// Losses, all gradients and percentiles of one problem, one after the other.
std::vector<double> solve(unsigned seed, int threads) {
  std::vector<std::vector<float>> parts;
  for (const std::int64_t width : {spatial, temporal, spatial, temporal, momentum, momentum}) {
    parts.push_back(numbers(rows * width, seed++));
  }
  detach::ContrastBlock<float> batch;
  batch.rows = rows;
  batch.spatial_width = spatial;
  batch.temporal_width = temporal;
  batch.momentum_width = momentum;
  batch.video_spatial = parts[0].data();
  batch.video_temporal = parts[1].data();
  batch.sensor_spatial = parts[2].data();
  batch.sensor_temporal = parts[3].data();
  batch.video_momentum = parts[4].data();
  batch.sensor_momentum = parts[5].data();
  const detach::ContrastParams params;
  const detach::PairMask mask;
  std::vector<double> loss(2 * rows), log_denominator(2 * rows), upstream(rows, 0.5 / rows);
  std::vector<float> saved(
      static_cast<std::size_t>(detach::contrast_batch_saved_size(rows, 0, rows)));
  detach::contrast_batch(batch, params, mask, 0, rows,
                         {loss.data(), log_denominator.data(), nullptr}, saved.data(), threads);
  std::vector<std::vector<float>> gradients;
  for (int i = 0; i < 4; ++i) {
    gradients.emplace_back(parts[i].size(), 0.0F);
  }
  detach::contrast_batch_gradient(
      batch, params, mask, 0, rows, log_denominator.data(), upstream.data(), saved.data(),
      {gradients[0].data(), gradients[1].data(), gradients[2].data(), gradients[3].data()},
      threads);
  std::vector<float> percentile(rows);
  detach::percentile_cpu(detach::PercentileType::float32, parts[1].data(), percentile.data(),
                         {rows, temporal, 1}, {0.9, true}, threads);
  std::vector<double> all(loss);
  for (const auto& gradient : gradients) {
    all.insert(all.end(), gradient.begin(), gradient.end());
  }
  all.insert(all.end(), percentile.begin(), percentile.end());
  return all;
}

}  // namespace

int main() {
  std::vector<std::vector<double>> alone;
  for (unsigned k = 0; k < callers; ++k) {
    alone.push_back(solve(100 * k + 1, 1));
  }
  std::vector<int> wrong(callers, 0);
  std::vector<std::thread> threads;
  for (unsigned k = 0; k < callers; ++k) {
    threads.emplace_back([k, &alone, &wrong] {
      for (int round = 0; round < rounds; ++round) {
        wrong[k] += solve(100 * k + 1, 1 + round % 4) != alone[k];
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  int total = 0;
  for (const int count : wrong) {
    total += count;
  }
  for (const double x : alone[0]) {
    total += !std::isfinite(x);
  }
  std::printf("%d callers, %d rounds each: %d differ\n", callers, rounds, total);
  return total == 0 ? 0 : 1;
}
