// The weighted contrastive loss on a GPU, backward: gradients of pairs, saved or computed again,
// and their products with packed features, stripe by stripe of A's rows.
#include "contrast_call_cuda.cuh"
#include "contrast_product_cuda.cuh"

namespace detach {
namespace cuda {
namespace {

/// Which columns of the embeddings get a gradient, of one modality.
struct Columns {
  std::int64_t first = 0;  ///< numbers
  std::int64_t count = 0;
};

Columns wanted(const Plan& plan, const void* spatial, const void* temporal) {
  Columns c;
  c.first = spatial != nullptr ? 0 : plan.padded[0];
  c.count = (spatial != nullptr ? plan.padded[0] : 0) + (temporal != nullptr ? plan.padded[1] : 0);
  return c;
}

/// What one call multiplies: products of A's and B's rows and the columns wanted of each.
struct Work {
  const Call& call;
  Columns video_a, sensor_a, video_b, sensor_b;
  const void* upper = nullptr;
  const void* lower = nullptr;
  std::int64_t upper_stride = 0;
  std::int64_t lower_stride = 0;
  bool saved = false;  ///< W exp(s) rather than gradients
  ProductProblem problem{};

  /// Adds the product of `m` rows from `to` on with `k` rows of `side`. Sensor products take the
  /// video's embeddings and the reverse.
  void add(const Columns& columns, bool video, std::int64_t product, std::int64_t to,
           std::int64_t m, const PairSide& side, std::int64_t from, std::int64_t k,
           bool upper_panel, std::int64_t offset, bool accumulate) {
    if (columns.count == 0 || m == 0) {
      return;
    }
    const Plan& plan = call.plan;
    MatrixProduct& p = problem.list[problem.count++];
    const std::int64_t stride = upper_panel ? upper_stride : lower_stride;
    p.a = static_cast<const char*>(upper_panel ? upper : lower) + (offset * plan.number_bytes);
    p.a_bytes = stride * plan.number_bytes;
    const std::int64_t embedding = (plan.slabs[0] + plan.slabs[1]) * slab_bytes;
    p.b = side.packed + (from * plan.row_bytes) + (video ? embedding : 0) +
          (columns.first * plan.number_bytes);
    p.b_bytes = plan.row_bytes;
    p.c = call.at<float>(product) + (to * plan.product_width) + columns.first;
    p.c_numbers = plan.product_width;
    p.m = static_cast<int>(m);
    p.n = static_cast<int>(columns.count);
    p.k = static_cast<int>(k);
    p.accumulate = accumulate;
    // Rows of a panel are videos and its columns sensors: those of B and A in the lower one.
    p.transposed = !video;
    const bool lower_panel = !upper_panel && upper != lower;
    const FactorArrays& rows = lower_panel ? plan.factors_b : plan.factors_a;
    const FactorArrays& others = lower_panel ? plan.factors_a : plan.factors_b;
    p.row_factor = call.at<const float>(rows.video_factor);
    p.column_factor = call.at<const float>(others.sensor_factor);
  }

  void launch() {
    problem.saved = saved;
    problem.range = call.range();
    if (problem.count > 0) {
      call.kernels().products(problem, call.plan.block, call.stream);
    }
    problem = ProductProblem{};
  }
};

/// Gradients of the pairs of A's rows [i, i + rows) into the panels of `work`.
void differentiate(const Work& work, std::int64_t i, std::int64_t rows, bool only_wide) {
  const Call& call = work.call;
  const auto block = [&](std::int64_t row) { return static_cast<int>(row / call.plan.block); };
  PairProblem p = call.pair_problem(PairMode::gradient);
  p.only_wide = only_wide;
  p.upper = const_cast<void*>(work.upper);
  p.lower = const_cast<void*>(work.lower);
  p.upper_stride = work.upper_stride;
  p.lower_stride = work.lower_stride;
  if (!call.plan.square) {
    p.i_begin = block(i);
    p.i_end = block(i + rows);
    if (call.relation == Relation::same) {
      p.triangular = false;
      p.j_begin = p.i_begin;
      p.j_once = p.i_end;
    }
  }
  call.kernels().pairs(p, call.plan.block, call.stream);
}

void set_panels(Work& work, void* memory, std::int64_t rows, std::int64_t columns) {
  const Plan& plan = work.call.plan;
  work.upper = memory;
  work.upper_stride = columns;
  work.lower_stride = rows;
  work.lower =
      plan.square ? memory : static_cast<char*>(memory) + (rows * columns * plan.number_bytes);
}

/// All pairs of one block in one array.
void multiply_square(Work& work) {
  const Call& call = work.call;
  const Plan& plan = call.plan;
  const PairSide side = call.side_b();
  const std::int64_t rows = plan.padded_b;
  work.add(work.video_b, true, plan.products[0], 0, rows, side, 0, rows, true, 0, false);
  work.add(work.sensor_b, false, plan.products[1], 0, rows, side, 0, rows, true, 0, false);
  work.launch();
}

/// One block's rows [i, i + rows) against all from i on.
void multiply_own_stripe(Work& work, std::int64_t i, std::int64_t rows) {
  const Call& call = work.call;
  const Plan& plan = call.plan;
  const PairSide side = call.side_b();
  const std::int64_t width = plan.padded_b - i;
  const std::int64_t beyond = width - rows;
  const bool again = i > 0;
  work.add(work.video_b, true, plan.products[0], i, rows, side, i, width, true, 0, again);
  work.add(work.sensor_b, false, plan.products[1], i, rows, side, i, width, false, 0, again);
  work.add(work.video_b, true, plan.products[0], i + rows, beyond, side, i, rows, false,
           rows * work.lower_stride, again);
  work.add(work.sensor_b, false, plan.products[1], i + rows, beyond, side, i, rows, true, rows,
           again);
  work.launch();
}

/// A's rows [i, i + rows) against all of B.
void multiply_stripe(Work& work, std::int64_t i, std::int64_t rows) {
  const Call& call = work.call;
  const Plan& plan = call.plan;
  const PairSide a = call.side_a();
  const PairSide b = call.side_b();
  const std::int64_t all = plan.padded_b;
  const bool again = i > 0;
  work.add(work.video_a, true, plan.own_products[0], i, rows, b, 0, all, true, 0, false);
  work.add(work.sensor_a, false, plan.own_products[1], i, rows, b, 0, all, false, 0, false);
  work.add(work.video_b, true, plan.products[0], 0, all, a, i, rows, false, 0, again);
  work.add(work.sensor_b, false, plan.products[1], 0, all, a, i, rows, true, 0, again);
  work.launch();
}

/// All products, from what was saved or computing pairs again.
void multiply(Work& work, void* saved) {
  const Call& call = work.call;
  const Plan& plan = call.plan;
  if (saved != nullptr) {
    set_panels(work, saved, plan.padded_a, plan.padded_b);
    work.saved = true;
    const Range range = call.range();
    if (range.wide || range.flag != nullptr) {
      differentiate(work, 0, plan.padded_a, range.flag != nullptr);
    }
  }
  for (std::int64_t i = 0; i < plan.padded_a; i += plan.stripe) {
    const std::int64_t rows = std::min(plan.stripe, plan.padded_a - i);
    if (saved == nullptr) {
      const bool own = call.relation == Relation::same && !plan.square;
      set_panels(work, call.at<void>(plan.panels), rows, plan.padded_b - (own ? i : 0));
      differentiate(work, i, rows, false);
    }
    if (plan.square) {
      multiply_square(work);
    } else if (call.relation == Relation::same) {
      multiply_own_stripe(work, i, rows);
    } else {
      multiply_stripe(work, i, rows);
    }
  }
}

FactorSide factor_side(const Call& call, const FactorArrays& arrays, std::int64_t rows,
                       std::int64_t padded, const ContrastDenominators& denominators) {
  FactorSide side{};
  side.log_video = denominators.log_video;
  side.log_sensor = denominators.log_sensor;
  side.upstream = denominators.upstream;
  side.rows = rows;
  side.padded = padded;
  side.base2_video = call.at<float>(arrays.base2_video);
  side.base2_sensor = call.at<float>(arrays.base2_sensor);
  side.scaled_video = call.at<float>(arrays.scaled_video);
  side.scaled_sensor = call.at<float>(arrays.scaled_sensor);
  side.video_factor = call.at<float>(arrays.video_factor);
  side.sensor_factor = call.at<float>(arrays.sensor_factor);
  return side;
}

void make_factors(const Call& call, const ContrastDenominators& of_a,
                  const ContrastDenominators& of_b) {
  const Plan& plan = call.plan;
  FactorProblem p{};
  p.side[0] = factor_side(call, plan.factors_a, call.rows_a, plan.padded_a, of_a);
  if (call.relation != Relation::apart) {
    p.side[0].positive = call.at<const double>(plan.b.positive) + call.first_a();
    p.side[0].diagonal = call.at<float>(plan.factors_a.diagonal);
  }
  if (call.relation != Relation::same) {
    p.side[1] = factor_side(call, plan.factors_b, call.b.rows, plan.padded_b, of_b);
  }
  p.unscale = call.at<float>(plan.unscale);
  launch_factors(p, call.stream);
}

template <typename T>
FinishProblem finish_problem(const Call& call, const ContrastBlock<void>& block,
                             const PreparedArrays& prepared, const ContrastGradients<T>& to) {
  FinishProblem p{};
  p.features = call.feature_rows(block, prepared);
  p.width = call.plan.product_width;
  p.unscale = call.at<const float>(call.plan.unscale);
  p.video_out[0] = to.video_spatial;
  p.video_out[1] = to.video_temporal;
  p.sensor_out[0] = to.sensor_spatial;
  p.sensor_out[1] = to.sensor_temporal;
  return p;
}

/// B's rows, which A's are among unless they are apart.
template <typename T>
void finish_b(const Call& call, const ContrastGradients<T>& to, bool add) {
  const Plan& plan = call.plan;
  FinishProblem p = finish_problem(call, call.b, plan.b, to);
  p.add = add;
  p.video = call.at<const float>(plan.products[0]);
  p.sensor = call.at<const float>(plan.products[1]);
  if (call.relation != Relation::apart) {
    p.start = call.start;
    p.stop = call.start + call.rows_a;
    p.diagonal = call.at<const float>(plan.factors_a.diagonal);
  }
  if (call.relation == Relation::part) {
    p.own_video = call.at<const float>(plan.own_products[0]);
    p.own_sensor = call.at<const float>(plan.own_products[1]);
  }
  call.kernels().finish(p, call.stream);
}

void finish_a(const Call& call, const ContrastGradients<float>& to) {
  FinishProblem p = finish_problem(call, call.a, call.plan.a, to);
  p.add = true;
  p.video = call.at<const float>(call.plan.own_products[0]);
  p.sensor = call.at<const float>(call.plan.own_products[1]);
  call.kernels().finish(p, call.stream);
}

template <typename T>
Columns video_columns(const Plan& plan, const ContrastGradients<T>& g) {
  return wanted(plan, g.video_spatial, g.video_temporal);
}
template <typename T>
Columns sensor_columns(const Plan& plan, const ContrastGradients<T>& g) {
  return wanted(plan, g.sensor_spatial, g.sensor_temporal);
}

/// The saved pairs in place to gradients, for a caller with its own products.
void scale_saved(const Call& call, void* saved) {
  const Plan& plan = call.plan;
  Work work{call, {}, {}, {}, {}};
  set_panels(work, saved, plan.padded_a, plan.padded_b);
  const Range range = call.range();
  if (range.wide || range.flag != nullptr) {
    differentiate(work, 0, plan.padded_a, range.flag != nullptr);
  }
  ScaleProblem p{};
  p.pairs = static_cast<char*>(saved);
  p.rows = plan.padded_b;
  p.row_bytes = plan.padded_b * plan.number_bytes;
  p.row_factor = call.at<const float>(plan.factors_a.video_factor);
  p.column_factor = call.at<const float>(plan.factors_a.sensor_factor);
  p.range = range;
  call.kernels().scale(p, call.stream);
}

}  // namespace
}  // namespace cuda

void contrast_cuda_gradient(ContrastPrecision precision, const ContrastBlock<void>& a,
                            const ContrastBlock<void>* b, const ContrastParams& params,
                            const PairMask& mask, const ContrastDenominators& denominators_a,
                            const ContrastDenominators* denominators_b, void* saved,
                            const ContrastGradients<float>& gradients_a,
                            const ContrastGradients<float>* gradients_b, void* workspace,
                            void* stream) {
  const cuda::Call call(precision, a, b, params, mask, saved != nullptr, workspace, stream);
  call.prepare();
  const bool two = b != nullptr;
  cuda::make_factors(call, denominators_a,
                     denominators_b != nullptr ? *denominators_b : ContrastDenominators{});
  const ContrastGradients<float> none{};
  const ContrastGradients<float>& of_b = !two                     ? gradients_a
                                         : gradients_b != nullptr ? *gradients_b
                                                                  : none;
  cuda::Work work{call, cuda::video_columns(call.plan, gradients_a),
                  cuda::sensor_columns(call.plan, gradients_a),
                  cuda::video_columns(call.plan, of_b), cuda::sensor_columns(call.plan, of_b)};
  cuda::multiply(work, saved);
  cuda::finish_b(call, of_b, true);
  if (two) {
    cuda::finish_a(call, gradients_a);
  }
}

void contrast_cuda_batch_gradient(ContrastPrecision precision, const ContrastBlock<void>& batch,
                                  const ContrastParams& params, const PairMask& mask,
                                  std::int64_t start, std::int64_t stop,
                                  const double* log_denominator, const double* upstream,
                                  void* saved, const ContrastGradients<void>& gradients,
                                  void* workspace, void* stream, bool prepared, ContrastStep step) {
  const cuda::Call call(precision, batch, start, stop, params, mask, saved != nullptr, workspace,
                        stream);
  if (step != ContrastStep::all && (saved == nullptr || call.relation != cuda::Relation::same)) {
    throw std::invalid_argument("a gradient in steps needs what was saved and the whole batch");
  }
  if (step != ContrastStep::finish) {
    if (!prepared) {
      call.prepare();
    }
    cuda::make_factors(call, {log_denominator, log_denominator + call.rows_a, upstream}, {});
  }
  if (step == ContrastStep::pairs) {
    cuda::scale_saved(call, saved);
    return;
  }
  if (step == ContrastStep::all) {
    const cuda::Columns video = cuda::video_columns(call.plan, gradients);
    const cuda::Columns sensor = cuda::sensor_columns(call.plan, gradients);
    cuda::Work work{call, video, sensor, video, sensor};
    cuda::multiply(work, saved);
  }
  cuda::finish_b(call, gradients, false);
}

ContrastCudaLayout contrast_cuda_layout(ContrastPrecision precision, std::int64_t rows,
                                        const std::int64_t (&widths)[3]) {
  const cuda::Plan plan =
      cuda::make_plan(precision, rows, rows, cuda::Relation::same, widths, true);
  ContrastCudaLayout layout;
  layout.rows_padded = plan.padded_b;
  layout.row_numbers = plan.row_bytes / plan.number_bytes;
  layout.spatial_width_padded = plan.padded[0];
  layout.temporal_width_padded = plan.padded[1];
  layout.video_column = 0;
  layout.sensor_column = plan.padded[0] + plan.padded[1];
  layout.packed = plan.b.packed;
  layout.product_video = plan.products[0];
  layout.product_sensor = plan.products[1];
  layout.product_width = plan.product_width;
  return layout;
}

}  // namespace detach
