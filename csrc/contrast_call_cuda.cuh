// One call on a pair of blocks: checked, planned, and turned into what the kernels are told.
#pragma once

#include "contrast_denominators_cuda.cuh"
#include "contrast_launch_cuda.cuh"

namespace detach::cuda {

/// A call on windows of A against windows of B. For Relation::part A is the rows [start, start +
/// rows of A) of B, and `a` is not set.
struct Call {
  ContrastPrecision precision;
  Relation relation;
  ContrastBlock<void> b;  ///< the only block, or B
  ContrastBlock<void> a;  ///< A where it is apart
  std::int64_t start;
  std::int64_t rows_a;
  ContrastParams params;
  PairMask mask;
  char* workspace;
  cudaStream_t stream;
  Plan plan;

  /// Throws std::invalid_argument where a shape or parameter is out of range.
  Call(ContrastPrecision precision, const ContrastBlock<void>& a, const ContrastBlock<void>* b,
       const ContrastParams& params, const PairMask& mask, bool saved, void* workspace,
       void* stream);
  /// The windows [start, stop) of a batch against all of it.
  Call(ContrastPrecision precision, const ContrastBlock<void>& batch, std::int64_t start,
       std::int64_t stop, const ContrastParams& params, const PairMask& mask, bool saved,
       void* workspace, void* stream);

  template <typename T>
  T* at(std::int64_t offset) const {
    return offset < 0 ? nullptr : reinterpret_cast<T*>(workspace + offset);
  }
  const PrecisionKernels& kernels() const;
  /// Where A's rows start in the arrays that hold them.
  std::int64_t first_a() const { return relation == Relation::part ? start : 0; }
  const PreparedArrays& prepared_a() const { return relation == Relation::apart ? plan.a : plan.b; }
  const ContrastBlock<void>& block_a() const { return relation == Relation::apart ? a : b; }

  float logit_scale() const;
  /// Whether sums need maxima; known without the device where embeddings have length 1.
  Range range() const;
  /// Whether all weights are 1.
  bool plain() const;

  FeatureRows feature_rows(const ContrastBlock<void>& block, const PreparedArrays& prepared) const;
  /// A's or B's rows, without what only gradients need.
  PairSide side_a() const;
  PairSide side_b() const;
  PairRule rule() const;
  /// The same seen from B.
  PairRule rule_back() const;

  /// All but the results.
  PairProblem pair_problem(PairMode mode) const;

  /// Packs features and decides the range.
  void prepare() const;

 private:
  void check_call() const;
  void prepare(const ContrastBlock<void>& block, const PreparedArrays& prepared) const;
  void add_steps(PairProblem& problem) const;
};

}  // namespace detach::cuda
