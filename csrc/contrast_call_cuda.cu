#include <cmath>

#include "contrast_call_cuda.cuh"

namespace detach::cuda {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) {
    throw std::invalid_argument(what);
  }
}

void check_widths(const ContrastBlock<void>& block, const ContrastParams& params) {
  const std::string got = std::to_string(block.spatial_width) + ", " +
                          std::to_string(block.temporal_width) + " and " +
                          std::to_string(block.momentum_width);
  require(block.spatial_width >= 0 && block.temporal_width >= 0 && block.momentum_width >= 0,
          "widths must not be negative, got " + got);
  require(block.spatial_width + block.temporal_width >= 1,
          "an embedding must have at least one number, got widths " + got);
  require(params.temporal == ContrastTemporal::none ||
              (block.momentum_width >= 1 && block.video_momentum != nullptr &&
               block.sensor_momentum != nullptr),
          "momentum features must be given unless temporal is none, got widths " + got);
}

ContrastPrecision checked(ContrastPrecision precision) {
  const int number = static_cast<int>(precision);
  require(number >= 0 && number <= 3,
          "precision must be 0, 1, 2 or 3, got " + std::to_string(number));
  return precision;
}

}  // namespace

Call::Call(ContrastPrecision precision_, const ContrastBlock<void>& a_,
           const ContrastBlock<void>* b_, const ContrastParams& params_, const PairMask& mask_,
           bool saved, void* workspace_, void* stream_)
    : precision(checked(precision_)),
      relation(b_ == nullptr ? Relation::same : Relation::apart),
      b(b_ == nullptr ? a_ : *b_),
      a(a_),
      start(0),
      rows_a(a_.rows),
      params(params_),
      mask(mask_),
      workspace(static_cast<char*>(workspace_)),
      stream(static_cast<cudaStream_t>(stream_)),
      plan{} {
  check_call();
  plan = make_plan(precision, rows_a, b.rows, relation,
                   {b.spatial_width, b.temporal_width, b.momentum_width}, saved);
}

Call::Call(ContrastPrecision precision_, const ContrastBlock<void>& batch, std::int64_t start_,
           std::int64_t stop, const ContrastParams& params_, const PairMask& mask_, bool saved,
           void* workspace_, void* stream_)
    : precision(checked(precision_)),
      relation(start_ == 0 && stop == batch.rows ? Relation::same : Relation::part),
      b(batch),
      a(batch),
      start(start_),
      rows_a(stop - start_),
      params(params_),
      mask(mask_),
      workspace(static_cast<char*>(workspace_)),
      stream(static_cast<cudaStream_t>(stream_)),
      plan{} {
  require(0 <= start && start < stop && stop <= batch.rows,
          "rows must be 0 <= start < stop <= " + std::to_string(batch.rows) + ", got " +
              std::to_string(start) + " and " + std::to_string(stop));
  check_call();
  plan = make_plan(precision, rows_a, b.rows, relation,
                   {b.spatial_width, b.temporal_width, b.momentum_width}, saved);
}

void Call::check_call() const {
  constexpr std::int64_t most_rows = 1 << 22;  // units of pairs are counted in an int
  require(rows_a >= 1 && rows_a <= most_rows && b.rows >= 1 && b.rows <= most_rows,
          "rows must be in [1, " + std::to_string(most_rows) + "], got " + std::to_string(rows_a) +
              " and " + std::to_string(b.rows));
  check_widths(b, params);
  require(a.spatial_width == b.spatial_width && a.temporal_width == b.temporal_width &&
              a.momentum_width == b.momentum_width,
          "both blocks must have the same widths");
  require(std::isfinite(params.temperature) && params.temperature > 0,
          "temperature must be above 0, got " + std::to_string(params.temperature));
  require(std::isfinite(params.lambda_hard),
          "lambda_hard must be finite, got " + std::to_string(params.lambda_hard));
  require(params.power == 1 || params.power == 2,
          "power must be 1 or 2, got " + std::to_string(params.power));
  require((mask.dense == nullptr) == (mask.back == nullptr), "a dense mask needs both directions");
  require(!(mask.reach > 0) || (b.group != nullptr && b.position != nullptr && a.group != nullptr &&
                                a.position != nullptr),
          "reach needs groups and positions");
}

const PrecisionKernels& Call::kernels() const {
  switch (precision) {
    case ContrastPrecision::float16:
      return float16_kernels();
    case ContrastPrecision::bfloat16:
      return bfloat16_kernels();
    case ContrastPrecision::tf32:
      return tf32_kernels();
    default:
      return float32_kernels();
  }
}

float Call::logit_scale() const {
  return static_cast<float>(1.0 / (params.temperature * log_of_2));
}

Range Call::range() const {
  return params.normalize ? Range{nullptr, !(logit_scale() <= log2_range)}
                          : Range{at<const int>(plan.flag), false};
}

bool Call::plain() const {
  return params.temporal == ContrastTemporal::none &&
         (params.lambda_hard == 1.0 || b.spatial_width == 0);
}

FeatureRows Call::feature_rows(const ContrastBlock<void>& block,
                               const PreparedArrays& prepared) const {
  FeatureRows f{};
  const bool motion = params.temporal != ContrastTemporal::none;
  const void* const video[] = {block.video_spatial, block.video_temporal,
                               motion ? block.video_momentum : nullptr};
  const void* const sensor[] = {block.sensor_spatial, block.sensor_temporal,
                                motion ? block.sensor_momentum : nullptr};
  const std::int64_t width[] = {block.spatial_width, block.temporal_width, block.momentum_width};
  for (int part = 0; part < 3; ++part) {
    f.video[part] = video[part];
    f.sensor[part] = sensor[part];
    f.width[part] = static_cast<int>(width[part]);
    f.padded[part] = static_cast<int>(plan.padded[part]);
  }
  f.rows = block.rows;
  f.normalize = params.normalize;
  f.per_temperature = 1.0 / params.temperature;
  for (int half = 0; half < 2; ++half) {
    f.video_factor[half] = at<float>(prepared.video_factor[half]);
    f.sensor_factor[half] = at<float>(prepared.sensor_factor[half]);
  }
  return f;
}

PairSide Call::side_a() const {
  const PreparedArrays& prepared = prepared_a();
  const ContrastBlock<void>& block = block_a();
  const std::int64_t first = first_a();
  PairSide side{};
  side.packed = at<const char>(prepared.packed) + (first * plan.row_bytes);
  side.cosine_video = at<const float>(prepared.cosine_video) + first;
  side.cosine_sensor = at<const float>(prepared.cosine_sensor) + first;
  side.log_video = at<const float>(plan.factors_a.base2_video);
  side.log_sensor = at<const float>(plan.factors_a.base2_sensor);
  side.upstream_video = at<const float>(plan.factors_a.scaled_video);
  side.upstream_sensor = at<const float>(plan.factors_a.scaled_sensor);
  side.group = block.group == nullptr ? nullptr : block.group + first;
  side.position = block.position == nullptr ? nullptr : block.position + first;
  side.rows = rows_a;
  return side;
}

PairSide Call::side_b() const {
  PairSide side{};
  side.packed = at<const char>(plan.b.packed);
  side.cosine_video = at<const float>(plan.b.cosine_video);
  side.cosine_sensor = at<const float>(plan.b.cosine_sensor);
  side.log_video = at<const float>(plan.factors_b.base2_video);
  side.log_sensor = at<const float>(plan.factors_b.base2_sensor);
  side.upstream_video = at<const float>(plan.factors_b.scaled_video);
  side.upstream_sensor = at<const float>(plan.factors_b.scaled_sensor);
  side.group = b.group;
  side.position = b.position;
  side.rows = b.rows;
  return side;
}

PairRule Call::rule() const {
  const std::int64_t first = first_a();
  const bool dense = mask.dense != nullptr;
  return {relation == Relation::apart ? disjoint : first,
          dense ? mask.dense + (first * mask.stride) : nullptr,
          mask.stride,
          dense ? mask.back + first : nullptr,
          mask.back_stride,
          mask.reach};
}

PairRule Call::rule_back() const {
  const PairRule r = rule();
  return {relation == Relation::apart ? disjoint : -r.own,
          r.back,
          r.back_stride,
          r.dense,
          r.stride,
          r.reach};
}

PairProblem Call::pair_problem(PairMode mode) const {
  PairProblem p{};
  p.a = side_a();
  p.b = side_b();
  p.row_bytes = plan.row_bytes;
  p.mode = mode;
  p.i_end = static_cast<int>(plan.blocks_a());
  p.j_end = static_cast<int>(plan.blocks_b());
  p.triangular = relation == Relation::same;
  p.rule = rule();
  p.lambda_minus_one = static_cast<float>(params.lambda_hard - 1.0);
  p.motion_scale = params.temporal == ContrastTemporal::intra ? 0.5F : 1.0F;
  p.two_weights = params.temporal == ContrastTemporal::cross;
  p.gated = params.gate == ContrastGate::spatial;
  p.squared = params.power == 2;
  p.logit_scale = logit_scale();
  p.logit_scale_rest = static_cast<float>((1.0 / (params.temperature * log_of_2)) - p.logit_scale);
  p.range = range();
  p.padded_a = plan.padded_a;
  p.padded_b = plan.padded_b;
  p.blocks_a = static_cast<int>(plan.blocks_a());
  p.blocks_b = static_cast<int>(plan.blocks_b());
  add_steps(p);
  return p;
}

void Call::add_steps(PairProblem& p) const {
  const int spatial = static_cast<int>(plan.slabs[0]);
  const int embedding = spatial + static_cast<int>(plan.slabs[1]);
  const int momentum = static_cast<int>(plan.slabs[2]);
  const int motion = 2 * embedding;
  const bool temporal = params.temporal != ContrastTemporal::none;
  const bool cross = params.temporal == ContrastTemporal::cross;
  const int logits = p.mode == PairMode::weights ? 0 : embedding;
  const auto add = [&p](StepKind kind, int slab_a, int slab_b, int slabs) {
    p.steps[p.step_count++] = {kind, slab_a, slab_b, slabs};
  };
  if (params.lambda_hard != 1.0 || (temporal && p.gated)) {
    add(StepKind::video_place, 0, 0, spatial);
    add(StepKind::sensor_place, embedding, embedding, spatial);
  }
  const int both = cross ? momentum : 2 * momentum;
  add(StepKind::motion, motion, cross ? motion + momentum : motion, temporal ? both : 0);
  add(StepKind::forward, 0, embedding, logits);
  p.steps_once = p.step_count;
  if (cross) {
    add(StepKind::motion_back, motion + momentum, motion, momentum);
  }
  add(StepKind::back, embedding, 0, logits);
}

void Call::prepare(const ContrastBlock<void>& block, const PreparedArrays& prepared) const {
  PrepareProblem p{};
  p.features = feature_rows(block, prepared);
  p.packed = at<char>(prepared.packed);
  p.row_bytes = plan.row_bytes;
  p.packed_rows = prepared.rows;
  p.cosine_video = at<float>(prepared.cosine_video);
  p.cosine_sensor = at<float>(prepared.cosine_sensor);
  p.positive = at<double>(prepared.positive);
  if (!params.normalize) {
    p.video_length = at<float>(prepared.video_length);
    p.sensor_length = at<float>(prepared.sensor_length);
  }
  kernels().prepare(p, stream);
}

void Call::prepare() const {
  prepare(b, plan.b);
  if (relation == Relation::apart) {
    prepare(a, plan.a);
  }
  if (params.normalize) {
    return;
  }
  RangeProblem p{};
  const PreparedArrays& other = prepared_a();
  p.video[0] = at<const float>(plan.b.video_length);
  p.sensor[0] = at<const float>(plan.b.sensor_length);
  p.rows[0] = b.rows;
  p.video[1] = at<const float>(other.video_length);
  p.sensor[1] = at<const float>(other.sensor_length);
  p.rows[1] = relation == Relation::apart ? rows_a : 0;
  p.logit_scale = logit_scale();
  p.flag = at<int>(plan.flag);
  launch_range(p, stream);
}

}  // namespace detach::cuda
