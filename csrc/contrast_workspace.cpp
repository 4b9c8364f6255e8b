#include "contrast_workspace.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace detach {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t large_page = std::size_t{1} << 21;
constexpr std::size_t most_kept = std::size_t{1} << 27;  // bytes that wait for the next call
constexpr std::size_t most_blocks = 64;

/// Stands before the memory it describes.
struct Block {
  std::size_t bytes;
  std::uint64_t last_used;
};
static_assert(sizeof(Block) <= alignment);

/// Blocks that nobody uses. The mutex is only ever tried: who does not get it does without the
/// pool, so that a child of fork() cannot wait for a thread it does not have.
struct Pool {
  std::mutex mutex;
  Block* blocks[most_blocks] = {};
  std::size_t count = 0;
  std::size_t bytes = 0;
  std::uint64_t clock = 0;
};

Pool& pool() {
  static Pool* const the_pool = new Pool;  // never deleted: threads may return memory at exit
  return *the_pool;
}

/// A hint; ours alone, since the caller's memory is new at every call, and a system that takes
/// unused memory back gives large pages more slowly than small ones.
void advise_large_pages(void* memory, std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + large_page - 1) / large_page * large_page;
  const std::uintptr_t last = (begin + bytes) / large_page * large_page;
  if (first < last) {
    static_cast<void>(madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE));
  }
#else
  static_cast<void>(memory);
  static_cast<void>(bytes);
#endif
}

Block* allocate(std::size_t bytes) {
  const std::size_t align = bytes >= 2 * large_page ? large_page : alignment;
  void* const memory = ::operator new(bytes + alignment, std::align_val_t(align));
  if (align == large_page) {
    advise_large_pages(memory, bytes + alignment);
  }
  return new (memory) Block{bytes, 0};
}

void release(Block* block) noexcept {
  const std::size_t align = block->bytes >= 2 * large_page ? large_page : alignment;
  ::operator delete(static_cast<void*>(block), std::align_val_t(align));
}

Block* remove(Pool& from, std::size_t i) {
  Block* const block = from.blocks[i];
  from.blocks[i] = from.blocks[--from.count];
  from.bytes -= block->bytes;
  return block;
}

/// The smallest block that fits and is not more than twice as large; null if there is none.
Block* find(Pool& in, std::size_t bytes) {
  std::size_t best = most_blocks;
  for (std::size_t i = 0; i < in.count; ++i) {
    const std::size_t size = in.blocks[i]->bytes;
    if (size >= bytes && size <= 2 * bytes &&
        (best == most_blocks || size < in.blocks[best]->bytes)) {
      best = i;
    }
  }
  return best == most_blocks ? nullptr : remove(in, best);
}

/// What is too small for a large block would only stand beside it.
void make_way(Pool& in) {
  for (std::size_t i = in.count; i-- > 0;) {
    if (in.blocks[i]->bytes >= 2 * large_page) {
      release(remove(in, i));
    }
  }
}

std::size_t oldest(const Pool& in) {
  Block* const* const found =
      std::min_element(in.blocks, in.blocks + in.count,
                       [](const Block* a, const Block* b) { return a->last_used < b->last_used; });
  return static_cast<std::size_t>(found - in.blocks);
}

}  // namespace

void* take_workspace(std::size_t bytes) {
  constexpr std::size_t step = 4096;
  bytes = (std::max<std::size_t>(bytes, 1) + step - 1) / step * step;
  Block* block = nullptr;
  {
    const std::unique_lock<std::mutex> lock(pool().mutex, std::try_to_lock);
    if (lock.owns_lock()) {
      block = find(pool(), bytes);
      if (block == nullptr && bytes >= 2 * large_page) {
        make_way(pool());
      }
    }
  }
  if (block == nullptr) {
    block = allocate(bytes);
  }
  return reinterpret_cast<char*>(block) + alignment;
}

void return_workspace(void* memory) noexcept {
  if (memory == nullptr) {
    return;
  }
  auto* const block = reinterpret_cast<Block*>(static_cast<char*>(memory) - alignment);
  const std::unique_lock<std::mutex> lock(pool().mutex, std::try_to_lock);
  if (!lock.owns_lock() || block->bytes > most_kept) {
    release(block);
    return;
  }
  Pool& kept = pool();
  while (kept.count == most_blocks || kept.bytes + block->bytes > most_kept) {
    release(remove(kept, oldest(kept)));
  }
  block->last_used = ++kept.clock;
  kept.blocks[kept.count++] = block;
  kept.bytes += block->bytes;
}

}  // namespace detach
