// Number formats of the contrast kernels, and how a warp takes its share of a product out of shared
// memory. Operands lie there in panels: rows of 128 bytes whose eight 16-byte pieces are permuted
// by the row, so that neither copies nor loads meet in one bank.
#pragma once

#include <cstring>

#include "contrast_primitives_cuda.cuh"
#include "contrast_problem_cuda.cuh"

namespace detach::cuda {

constexpr int piece_bytes = 16;
constexpr int pieces = slab_bytes / piece_bytes;
constexpr int step_bytes = 32;  // of k in one product instruction, whatever the numbers are
constexpr int steps_a_slab = slab_bytes / step_bytes;

/// `Parts` operands add up to the number: 2 where TF32 is to be as good as float.
template <int Parts>
struct FragmentA {
  std::uint32_t part[Parts][4];
};
template <int Parts>
struct FragmentB {
  std::uint32_t part[Parts][2];
};

template <typename Pair>
__device__ __forceinline__ std::uint32_t bits_of(const Pair& pair) {
  static_assert(sizeof(pair) == sizeof(std::uint32_t));
  std::uint32_t bits;
  std::memcpy(&bits, &pair, sizeof(bits));
  return bits;
}
__device__ __forceinline__ std::uint32_t pack_bfloat16(float low, float high) {
  return bits_of(__floats2bfloat162_rn(low, high));
}
/// Both numbers of a pair of bfloat16.
__device__ __forceinline__ float2 unpack_bfloat16(std::uint32_t pair) {
  return {__uint_as_float(pair << 16U), __uint_as_float(pair & 0xffff0000U)};
}

/// Two weights of a pair tile, kept in one register.
struct HalfWeights {
  __half2 value;
  __device__ __forceinline__ void set(float low, float high) {
    value = __floats2half2_rn(low, high);
  }
  __device__ __forceinline__ float2 get() const { return __half22float2(value); }
};
struct FloatWeights {
  float2 value;
  __device__ __forceinline__ void set(float low, float high) { value = {low, high}; }
  __device__ __forceinline__ float2 get() const { return value; }
};

struct Float16 {
  using Number = __half;
  using Weights = HalfWeights;
  static constexpr int bytes = 2;
  static constexpr int parts = 1;
  static __device__ __forceinline__ Number round(float x) { return __float2half_rn(x); }
  static __device__ __forceinline__ float widen(Number x) { return __half2float(x); }
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    return bits_of(__floats2half2_rn(low, high));
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<1>& a,
                                                  const FragmentB<1>& b) {
    multiply_float16(c, a.part[0], b.part[0]);
  }
};

struct BFloat16 {
  using Number = __nv_bfloat16;
  using Weights = HalfWeights;
  static constexpr int bytes = 2;
  static constexpr int parts = 1;
  static __device__ __forceinline__ Number round(float x) { return __float2bfloat16_rn(x); }
  static __device__ __forceinline__ float widen(Number x) { return __bfloat162float(x); }
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    return pack_bfloat16(low, high);
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<1>& a,
                                                  const FragmentB<1>& b) {
    multiply_bfloat16(c, a.part[0], b.part[0]);
  }
};

/// float, multiplied as TF32. Packed numbers are rounded when they are packed.
struct Tf32 {
  using Number = float;
  using Weights = HalfWeights;
  static constexpr int bytes = 4;
  static constexpr int parts = 1;
  static __device__ __forceinline__ Number round(float x) { return round_tf32(x); }
  static __device__ __forceinline__ float widen(Number x) { return x; }
  static __device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<1>& a,
                                                  const FragmentB<1>& b) {
    multiply_tf32(c, a.part[0], b.part[0]);
  }
};

/// float, each number multiplied as a large and a small TF32 number.
struct Float32 {
  using Number = float;
  using Weights = FloatWeights;
  static constexpr int bytes = 4;
  static constexpr int parts = 2;
  static __device__ __forceinline__ Number round(float x) { return x; }
  static __device__ __forceinline__ float widen(Number x) { return x; }
  static __device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<2>& a,
                                                  const FragmentB<2>& b) {
    multiply_tf32(c, a.part[1], b.part[0]);  // small terms first
    multiply_tf32(c, a.part[0], b.part[1]);
    multiply_tf32(c, a.part[0], b.part[0]);
  }
};

/// Splits what was loaded where the format has two parts.
template <int Parts, int Size>
__device__ __forceinline__ void split(std::uint32_t (&part)[Parts][Size]) {
  if constexpr (Parts == 2) {
#pragma unroll
    for (int r = 0; r < Size; ++r) {
      const float whole = __uint_as_float(part[0][r]);
      const float large = round_tf32(whole);
      part[0][r] = __float_as_uint(large);
      part[1][r] = __float_as_uint(round_tf32(whole - large));
    }
  }
}

/// Where a 16-byte piece of a panel's row lies. Panels of float whose k runs along the rows
/// ("tall") are read number by number, which wants another permutation.
template <bool Spread>
__device__ __forceinline__ std::uint32_t piece_offset(int row, int piece) {
  const int key = Spread ? row * 2 : row;
  return static_cast<std::uint32_t>((row * slab_bytes) + ((piece ^ (key & 7)) * piece_bytes));
}

/// Where a lane starts to read a wide panel, from row `first` on, as operand A or B. Step s of k is
/// 32 s bytes further in the row, which the permutation turns into an exclusive or.
__device__ __forceinline__ std::uint32_t wide_offset_a(int first, int lane) {
  return piece_offset<false>(first + (lane & 15), lane >> 4);
}
__device__ __forceinline__ std::uint32_t wide_offset_b(int first, int lane) {
  return piece_offset<false>(first + (lane & 7) + ((lane >> 4) * 8), (lane >> 3) & 1);
}
__device__ __forceinline__ std::uint32_t wide_step(std::uint32_t address, int step) {
  return address ^ static_cast<std::uint32_t>(step * step_bytes);
}
/// Bytes of the 16 rows of a panel that an instruction's operand A, or two operands B, take.
constexpr std::uint32_t tile_bytes = 16 * slab_bytes;

/// Operands B of two instructions, 16 columns, from rows of k.
template <class P>
__device__ __forceinline__ void load_wide(FragmentB<P::parts> (&b)[2], std::uint32_t address) {
  std::uint32_t d[4];
  load_matrices(d, address);
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    b[q / 2].part[0][q % 2] = d[q];
  }
  split(b[0].part);
  split(b[1].part);
}

/// Numbers of k in a slab, which is also how many rows a tall panel has.
template <class P>
constexpr int slab_numbers = slab_bytes / P::bytes;
template <class P>
constexpr int tall_panel_bytes = slab_numbers<P> * slab_bytes;

/// Number (k, m) of tall panels of float.
template <class P>
__device__ __forceinline__ std::uint32_t tall_number(const char* panels, int k, int m) {
  const int panel = m / slab_numbers<P>;
  const int column = m % slab_numbers<P>;
  const char* at = panels + (panel * tall_panel_bytes<P>)+piece_offset<true>(k, column / 4);
  return reinterpret_cast<const std::uint32_t*>(at)[column % 4];
}

template <class P>
__device__ __forceinline__ std::uint32_t tall_address(std::uint32_t panels, int k, int m) {
  const int panel = m / slab_numbers<P>;
  const int piece = (m % slab_numbers<P>) / (piece_bytes / P::bytes);
  return panels + static_cast<std::uint32_t>(panel * tall_panel_bytes<P>) +
         piece_offset<false>(k, piece);
}

/// Operand A from panels whose rows run along m, one row for each k. Not split yet.
template <class P>
__device__ __forceinline__ void load_tall(FragmentA<P::parts>& a, const char* panels, int m,
                                          int step, int lane) {
  if constexpr (P::bytes == 2) {
    const int k = (16 * step) + (lane & 7) + ((lane >> 4) * 8);
    const int column = m + (((lane >> 3) & 1) * 8);
    load_transposed(a.part[0], tall_address<P>(shared_address(panels), k, column));
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int k = (8 * step) + (lane & 3) + ((r / 2) * 4);
      a.part[0][r] = tall_number<P>(panels, k, m + (lane >> 2) + ((r % 2) * 8));
    }
  }
}

template <class P>
__device__ __forceinline__ void load_tall(FragmentB<P::parts> (&b)[2], const char* panels, int n,
                                          int step, int lane) {
  if constexpr (P::bytes == 2) {
    std::uint32_t d[4];
    const int k = (16 * step) + (lane & 15);
    load_transposed(d, tall_address<P>(shared_address(panels), k, n + ((lane >> 4) * 8)));
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      b[q / 2].part[0][q % 2] = d[q];
    }
  } else {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int k = (8 * step) + (lane & 3) + ((q % 2) * 4);
      b[q / 2].part[0][q % 2] = tall_number<P>(panels, k, n + (lane >> 2) + ((q / 2) * 8));
    }
  }
  split(b[0].part);
  split(b[1].part);
}

}  // namespace detach::cuda
