// What contrast_primitives_cuda.cuh does with PTX: the same functions, with the layouts of operands
// among lanes written out from the PTX manual.
#pragma once

#include <algorithm>

namespace detach::cuda {

using std::isnan;
using std::min;

inline char* shared_memory() { return cuda_on_cpu::shared_start(); }

inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const char*>(pointer) -
                                    cuda_on_cpu::shared_start());
}

inline void copy_async(std::uint32_t to, const void* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    cuda_on_cpu::fail("a copy from an address that is not aligned");
  }
  const cuda_on_cpu::Copy copy{cuda_on_cpu::shared_at(to), static_cast<const char*>(from)};
  if (cuda_on_cpu::copies_are_late) {
    cuda_on_cpu::self().group.push_back(copy);
  } else {
    cuda_on_cpu::arrive({copy});
  }
}

inline void copy_commit() {
  cuda_on_cpu::Fiber& fiber = cuda_on_cpu::self();
  fiber.groups.push_back(std::move(fiber.group));
  fiber.group.clear();
}

template <int Left>
void copy_wait() {
  auto& groups = cuda_on_cpu::self().groups;
  while (groups.size() > Left) {
    cuda_on_cpu::arrive(groups.front());
    groups.erase(groups.begin());
  }
}

struct Matrices {
  std::uint32_t address;
  std::uint32_t (*result)[4];
};

/// Number (row, column) of matrix q, whose rows' addresses lanes 8q to 8q + 7 hold.
inline std::uint16_t matrix_number(Matrices* const (&lane)[32], int q, int row, int column) {
  std::uint16_t number;
  std::memcpy(&number, cuda_on_cpu::shared_at(lane[(8 * q) + row]->address) + (2 * column), 2);
  return number;
}

template <bool Transposed>
void read_matrices(Matrices* const (&lane)[32]) {
  for (int i = 0; i < 32; ++i) {
    for (int q = 0; q < 4; ++q) {
      std::uint32_t pair[2];
      for (int k = 0; k < 2; ++k) {
        const int row = i / 4;
        const int column = (2 * (i % 4)) + k;
        pair[k] =
            Transposed ? matrix_number(lane, q, column, row) : matrix_number(lane, q, row, column);
      }
      (*lane[i]->result)[q] = pair[0] | (pair[1] << 16U);
    }
  }
}

inline void load_matrices(std::uint32_t (&d)[4], std::uint32_t address) {
  Matrices own{address, &d};
  cuda_on_cpu::together<Matrices>(own, read_matrices<false>);
}

inline void load_transposed(std::uint32_t (&d)[4], std::uint32_t address) {
  Matrices own{address, &d};
  cuda_on_cpu::together<Matrices>(own, read_matrices<true>);
}

struct Turned {
  std::uint32_t before;
  std::uint32_t after;
};

inline void turn(Turned* const (&lane)[32]) {
  for (int i = 0; i < 32; ++i) {
    lane[i]->after = 0;
    for (int k = 0; k < 2; ++k) {
      // This lane gets row i / 4, columns 2 (i % 4) + k: what row 2 (i % 4) + k held in column i
      // / 4.
      const int row = (2 * (i % 4)) + k;
      const int column = i / 4;
      const std::uint32_t pair = lane[(4 * row) + (column / 2)]->before;
      const std::uint32_t number = (pair >> (16U * static_cast<unsigned>(column % 2))) & 0xffffU;
      lane[i]->after |= number << (16U * static_cast<unsigned>(k));
    }
  }
}

inline std::uint32_t transpose_matrix(std::uint32_t x) {
  Turned own{x, 0};
  cuda_on_cpu::together<Turned>(own, turn);
  return own.after;
}

struct Multiply {
  float (*c)[4];
  const std::uint32_t (*a)[4];
  const std::uint32_t (*b)[2];
};

/// Number k (0 or 1) of a pair of 16-bit numbers.
template <bool Brain>
float half_of(std::uint32_t pair, int k) {
  const auto bits = static_cast<std::uint16_t>(pair >> (16U * static_cast<unsigned>(k)));
  if (Brain) {
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16U);
  }
  return __half2float(__half(__half_raw{bits}));
}

/// c[i][j] += a[i][k] b[k][j]; the sum over k is exact before it is added.
template <int K>
void multiply_matrices(Multiply* const (&lane)[32], const float (&a)[16][K],
                       const float (&b)[K][8]) {
  for (int i = 0; i < 32; ++i) {
    for (int r = 0; r < 4; ++r) {
      const int row = (i / 4) + (8 * (r / 2));
      const int column = (2 * (i % 4)) + (r % 2);
      double sum = (*lane[i]->c)[r];
      for (int k = 0; k < K; ++k) {
        sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
      }
      (*lane[i]->c)[r] = static_cast<float>(sum);
    }
  }
}

template <bool Brain>
void multiply_k16(Multiply* const (&lane)[32]) {
  float a[16][16];
  float b[16][8];
  for (int i = 0; i < 32; ++i) {
    for (int k = 0; k < 2; ++k) {
      for (int r = 0; r < 4; ++r) {
        a[(i / 4) + (8 * (r % 2))][(2 * (i % 4)) + k + (8 * (r / 2))] =
            half_of<Brain>((*lane[i]->a)[r], k);
      }
      for (int r = 0; r < 2; ++r) {
        b[(2 * (i % 4)) + k + (8 * r)][i / 4] = half_of<Brain>((*lane[i]->b)[r], k);
      }
    }
  }
  multiply_matrices<16>(lane, a, b);
}

/// The tensor core reads no more of a number than TF32 has.
inline float cut_tf32(std::uint32_t bits) { return __uint_as_float(bits & 0xffffe000U); }

inline void multiply_k8(Multiply* const (&lane)[32]) {
  float a[16][8];
  float b[8][8];
  for (int i = 0; i < 32; ++i) {
    for (int r = 0; r < 4; ++r) {
      a[(i / 4) + (8 * (r % 2))][(i % 4) + (4 * (r / 2))] = cut_tf32((*lane[i]->a)[r]);
    }
    for (int r = 0; r < 2; ++r) {
      b[(i % 4) + (4 * r)][i / 4] = cut_tf32((*lane[i]->b)[r]);
    }
  }
  multiply_matrices<8>(lane, a, b);
}

inline void multiply_float16(float (&c)[4], const std::uint32_t (&a)[4],
                             const std::uint32_t (&b)[2]) {
  Multiply own{&c, &a, &b};
  cuda_on_cpu::together<Multiply>(own, multiply_k16<false>);
}

inline void multiply_bfloat16(float (&c)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2]) {
  Multiply own{&c, &a, &b};
  cuda_on_cpu::together<Multiply>(own, multiply_k16<true>);
}

inline void multiply_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  Multiply own{&c, &a, &b};
  cuda_on_cpu::together<Multiply>(own, multiply_k8);
}

inline float round_tf32(float x) {
  return std::isfinite(x) ? __uint_as_float((__float_as_uint(x) + 0x1000U) & 0xffffe000U) : x;
}

inline float power_of_two(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38F ? 0.0F : y;
}

inline float larger(float a, float b) {
  return std::isnan(a) || std::isnan(b) ? a + b : std::fmax(a, b);
}

inline float reciprocal(float x) { return 1.0F / x; }

/// Runs a kernel to its end.
template <class Problem>
void launch(void (*kernel)(Problem), dim3 grid, int threads, int shared_bytes, cudaStream_t,
            const Problem& problem) {
  gridDim = {grid.x, grid.y};
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y};
      cuda_on_cpu::start_block(threads, shared_bytes);
      cuda_on_cpu::block.body = [&] { kernel(problem); };
      cuda_on_cpu::run_block();
    }
  }
}

}  // namespace detach::cuda
