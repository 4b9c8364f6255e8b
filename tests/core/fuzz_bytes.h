// What a fuzzer feeds, as numbers.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

/// The input, read from the front; zeros when it is used up.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T raw() {
    T value{};
    const std::size_t taken = left_ < sizeof(T) ? left_ : sizeof(T);
    std::memcpy(&value, data_, taken);
    data_ += taken;
    left_ -= taken;
    return value;
  }

  int below(int limit) { return raw<std::uint8_t>() % limit; }

  /// Mostly numbers of ordinary size; any bits now and then, so NaN and infinity too.
  template <typename T>
  T number() {
    const auto way = raw<std::uint8_t>();
    return way < 8 ? raw<T>() : static_cast<T>((way - 128) / 16.0);
  }

  template <typename T>
  std::vector<T> numbers(std::int64_t count) {
    std::vector<T> found(static_cast<std::size_t>(count));
    for (T& x : found) {
      x = number<T>();
    }
    return found;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};
