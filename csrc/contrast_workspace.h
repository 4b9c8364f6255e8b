// Memory that is kept between calls: the first touch of fresh pages would cost a tenth of the time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace detach {

/// 64-byte aligned memory of at least `bytes`, from what earlier calls returned where that fits.
/// Throws std::bad_alloc. Any thread may take and return.
void* take_workspace(std::size_t bytes);
void return_workspace(void* memory) noexcept;

/// An array of numbers in the workspace; not initialised.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t count)
      : data_(static_cast<T*>(take_workspace(static_cast<std::size_t>(count) * sizeof(T)))) {}
  ~Buffer() { return_workspace(data_); }
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      return_workspace(data_);
      data_ = other.data_;
      other.data_ = nullptr;
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* get() const { return data_; }
  T* operator+(std::int64_t offset) const { return data_ + offset; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace detach
