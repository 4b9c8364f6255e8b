// All kernels of one number format as a table. Included by one file for each format.
#pragma once

#include "contrast_launch_cuda.cuh"
#include "contrast_pairs_cuda.cuh"
#include "contrast_product_cuda.cuh"

namespace detach::cuda {

template <class P>
struct KernelsOf {
  // Pair tiles: eight warps of 32 x 32 or 32 x 16 pairs. Product tiles: 32 x 64 or 32 x 16 numbers.
  using LargePairs = Shape<large_block, 64, 4, 2, 3, 2>;
  using SmallPairs = Shape<small_block, 64, 2, 4, 4, 2>;
  using LargeProduct = Shape<large_block, 128, 4, 2, 3, 1>;
  using SmallProduct = Shape<small_block, 64, 2, 4, 4, 2>;

  static void prepare(const PrepareProblem& problem, cudaStream_t stream) {
    launch(&contrast_prepare<P>, blocks_for(problem.packed_rows, rows_a_block), row_threads, 0,
           stream, problem);
  }

  template <class S>
  static void launch_pairs(const PairProblem& problem, cudaStream_t stream) {
    const int shared = pair_shared_bytes<P, S>(problem.two_weights);
    launch(&contrast_pairs<P, S>, resident_blocks(S::blocks_an_sm, shared, unit_count(problem)),
           S::threads, shared, stream, problem);
  }
  static void pairs(const PairProblem& problem, std::int64_t block, cudaStream_t stream) {
    if constexpr (P::parts == 1) {
      if (block == large_block) {
        launch_pairs<LargePairs>(problem, stream);
        return;
      }
    }
    launch_pairs<SmallPairs>(problem, stream);
  }

  template <class S>
  static int tiles(const ProductProblem& problem) {
    int count = 0;
    for (int i = 0; i < problem.count; ++i) {
      count += product_tiles<S>(problem.list[i]);
    }
    return count;
  }
  template <class S>
  static void launch_products(const ProductProblem& problem, cudaStream_t stream) {
    launch(&contrast_products<P, S>, static_cast<unsigned>(tiles<S>(problem)), S::threads,
           ProductStage<P, S>::shared_bytes, stream, problem);
  }
  static void products(const ProductProblem& problem, std::int64_t block, cudaStream_t stream) {
    if constexpr (P::parts == 1) {
      if (block == large_block && tiles<LargeProduct>(problem) >= enough_product_tiles) {
        launch_products<LargeProduct>(problem, stream);
        return;
      }
    }
    launch_products<SmallProduct>(problem, stream);
  }

  static void scale(const ScaleProblem& problem, cudaStream_t stream) {
    const std::int64_t threads = problem.rows * (problem.row_bytes / piece_bytes);
    launch(&contrast_scale<P>, blocks_for(threads, row_threads), row_threads, 0, stream, problem);
  }

  static void finish(const FinishProblem& problem, cudaStream_t stream) {
    launch(&contrast_finish<P>, blocks_for(problem.features.rows, rows_a_block), row_threads, 0,
           stream, problem);
  }

  static constexpr PrecisionKernels table{prepare, pairs, products, scale, finish};
};

}  // namespace detach::cuda
