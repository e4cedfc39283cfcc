// A file descriptor with one owner: closed on destruction, so that no error path leaks it.
#pragma once

#include <unistd.h>

#include <utility>

namespace fairlead {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }

  /** Gives up ownership: from here on the receiver closes it. */
  int Release() { return std::exchange(fd_, -1); }

  void Reset(int fd = -1) {
    // SAFETY: this object is the only owner, so nothing else can have closed (and the kernel reused) this number. Linux
    // frees the number even when close() reports EINTR: a second call could hit a stranger's descriptor.
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace fairlead
