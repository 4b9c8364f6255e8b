// The weighted contrastive loss on a GPU, forward: what contrast_cuda.h declares, as launches.
#include "contrast_call_cuda.cuh"

namespace detach {

using cuda::Call;
using cuda::PairMode;
using cuda::PairProblem;
using cuda::Plan;
using cuda::ReduceProblem;
using cuda::Relation;
using cuda::WeightProblem;

namespace {

/// Sums of one side's windows; null members are not wanted.
struct Wanted {
  double* weight[2] = {};
  double* count[2] = {};
  double* mean[2] = {};
  bool any() const {
    return weight[0] != nullptr || count[0] != nullptr || mean[0] != nullptr ||
           weight[1] != nullptr || count[1] != nullptr;
  }
};

Wanted wanted(const ContrastSums& sums) {
  Wanted w;
  w.weight[0] = sums.weight_video;
  w.weight[1] = sums.weight_sensor;
  w.count[0] = sums.count_video;
  w.count[1] = sums.count_sensor;
  return w;
}

/// Runs the pair kernel for sums, of W exp(s) or of W.
void add_up(const Call& call, PairMode mode, bool sums_b, void* saved) {
  PairProblem p = call.pair_problem(mode);
  const Plan& plan = call.plan;
  p.sums_a = call.at<float>(plan.sums_a);
  p.sums_b = sums_b || p.triangular ? call.at<float>(plan.sums_b) : nullptr;
  if (saved != nullptr && mode == PairMode::sums) {
    const bool square = plan.square;
    p.upper = saved;
    p.lower = square
                  ? saved
                  : static_cast<char*>(saved) + (plan.padded_a * plan.padded_b * plan.number_bytes);
    p.upper_stride = plan.padded_b;
    p.lower_stride = plan.padded_a;
  }
  call.kernels().pairs(p, plan.block, call.stream);
}

ReduceProblem reduce_a(const Call& call) {
  ReduceProblem p{};
  p.sums = call.at<const float>(call.plan.sums_a);
  p.blocks = call.plan.blocks_b();
  p.padded = call.plan.padded_a;
  p.rows = call.rows_a;
  p.range = call.range();
  if (call.relation != Relation::apart) {
    p.positive = call.at<const double>(call.plan.b.positive) + call.first_a();
  }
  return p;
}

ReduceProblem reduce_b(const Call& call) {
  ReduceProblem p{};
  p.sums = call.at<const float>(call.plan.sums_b);
  p.blocks = call.plan.blocks_a();
  p.padded = call.plan.padded_b;
  p.rows = call.b.rows;
  p.range = call.range();
  return p;
}

/// Weights and counts of A's windows and, where asked for, of B's.
void weigh(const Call& call, const Wanted& of_a, const Wanted& of_b) {
  if (!of_a.any() && !of_b.any()) {
    return;
  }
  const Plan& plan = call.plan;
  if (!call.plain()) {
    add_up(call, PairMode::weights, of_b.any(), nullptr);
  }
  const auto launch = [&](const Wanted& w, bool back) {
    if (!w.any()) {
      return;
    }
    WeightProblem p{};
    p.a = back ? call.side_b() : call.side_a();
    p.b = back ? call.side_a() : call.side_b();
    p.rule = back ? call.rule_back() : call.rule();
    p.sums = call.plain() ? nullptr : call.at<const float>(back ? plan.sums_b : plan.sums_a);
    p.blocks = back ? plan.blocks_a() : plan.blocks_b();
    p.padded = back ? plan.padded_b : plan.padded_a;
    for (int direction = 0; direction < 2; ++direction) {
      p.weight[direction] = w.weight[direction];
      p.count[direction] = w.count[direction];
      p.mean[direction] = w.mean[direction];
    }
    launch_weights(p, call.stream);
  };
  launch(of_a, false);
  launch(of_b, true);
}

/// Checks [start, stop) of a batch and says how it is related to all of it.
Relation part_of(std::int64_t rows, std::int64_t start, std::int64_t stop) {
  if (!(0 <= start && start < stop && stop <= rows)) {
    throw std::invalid_argument("rows must be 0 <= start < stop <= " + std::to_string(rows) +
                                ", got " + std::to_string(start) + " and " + std::to_string(stop));
  }
  return start == 0 && stop == rows ? Relation::same : Relation::part;
}

std::int64_t saved_bytes(ContrastPrecision precision, std::int64_t rows_a, std::int64_t rows_b,
                         Relation relation) {
  const Plan plan = cuda::make_plan(precision, rows_a, rows_b, relation, {1, 1, 1}, true);
  return cuda::pair_numbers(plan, plan.padded_a) * plan.number_bytes;
}

}  // namespace

std::int64_t contrast_cuda_saved_size(ContrastPrecision precision, std::int64_t rows_a,
                                      std::int64_t rows_b, bool same) {
  return saved_bytes(precision, rows_a, rows_b, same ? Relation::same : Relation::apart);
}

std::int64_t contrast_cuda_workspace(ContrastPrecision precision, std::int64_t rows_a,
                                     std::int64_t rows_b, bool same,
                                     const std::int64_t (&widths)[3], bool saved) {
  const Relation relation = same ? Relation::same : Relation::apart;
  return cuda::make_plan(precision, rows_a, rows_b, relation, widths, saved).total;
}

void contrast_cuda_sums(ContrastPrecision precision, const ContrastBlock<void>& a,
                        const ContrastBlock<void>* b, const ContrastParams& params,
                        const PairMask& mask, const ContrastSums& sums_a,
                        const ContrastSums* sums_b, void* saved, void* workspace, void* stream) {
  const Call call(precision, a, b, params, mask, saved != nullptr, workspace, stream);
  call.prepare();
  const bool both = b != nullptr && sums_b != nullptr;
  add_up(call, PairMode::sums, both, saved);
  ReduceProblem p = reduce_a(call);
  p.log_sum[0] = sums_a.log_video;
  p.log_sum[1] = sums_a.log_sensor;
  p.positive_out = sums_a.positive;
  launch_reduce(p, call.stream);
  if (both) {
    p = reduce_b(call);
    p.log_sum[0] = sums_b->log_video;
    p.log_sum[1] = sums_b->log_sensor;
    launch_reduce(p, call.stream);
  }
  weigh(call, wanted(sums_a), both ? wanted(*sums_b) : Wanted{});
}

std::int64_t contrast_cuda_batch_saved_size(ContrastPrecision precision, std::int64_t rows,
                                            std::int64_t start, std::int64_t stop) {
  return saved_bytes(precision, stop - start, rows, part_of(rows, start, stop));
}

std::int64_t contrast_cuda_batch_workspace(ContrastPrecision precision, std::int64_t rows,
                                           const std::int64_t (&widths)[3], std::int64_t start,
                                           std::int64_t stop, bool saved) {
  const Relation relation = part_of(rows, start, stop);
  return cuda::make_plan(precision, stop - start, rows, relation, widths, saved).total;
}

void contrast_cuda_batch(ContrastPrecision precision, const ContrastBlock<void>& batch,
                         const ContrastParams& params, const PairMask& mask, std::int64_t start,
                         std::int64_t stop, const ContrastStats& stats, void* saved,
                         void* workspace, void* stream) {
  const Call call(precision, batch, start, stop, params, mask, saved != nullptr, workspace, stream);
  call.prepare();
  add_up(call, PairMode::sums, false, saved);
  ReduceProblem p = reduce_a(call);
  p.loss = stats.loss;
  p.log_denominator = stats.log_denominator;
  launch_reduce(p, call.stream);
  Wanted w;
  if (stats.mean_weight != nullptr) {
    w.mean[0] = stats.mean_weight;
    w.mean[1] = stats.mean_weight + call.rows_a;
  }
  weigh(call, w, Wanted{});
}

}  // namespace detach
