// Processes by descriptor: a pidfd names one process for good, where a number may be given to another one.
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <climits>
#include <csignal>
#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "reactor.h"

namespace fairlead {
namespace {

/** Does not own the pidfd: it stays open after the exit, for who wants to signal or close it. */
class Wait final : public Pending {
 public:
  Wait(Napi::Env env, int fd) : fd_(fd), deferred_(env) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  int fd() const override { return fd_; }
  uint32_t events() const override { return EPOLLIN; }
  // A VM outlives its agent: waiting for its end must not keep the agent up.
  bool holds_loop() const override { return false; }
  void Ready(Napi::Env env) override { deferred_.Resolve(env.Undefined()); }
  void Fail(Napi::Env env, int errnum) override {
    const std::string what = "could not wait for the exit of the process of pidfd " + std::to_string(fd_);
    const char* hint = errnum == ECANCELED ? "the pidfd was closed" : "";
    deferred_.Reject(SystemError(env, errnum, "epoll_wait", what, hint).Value());
  }

 private:
  int fd_;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Value PidfdOpen(const Napi::CallbackInfo& info) {
  const auto pid = static_cast<pid_t>(Integer(info, 0, "pid", 1, INT_MAX));
  // SAFETY: a pidfd is close-on-exec by definition; ownership goes to JavaScript with the number.
  const long fd = syscall(SYS_pidfd_open, pid, 0u);
  if (fd < 0) {
    const char* hint = errno == ENOSYS ? "Linux 5.3 or later is needed" : "";
    throw SystemError(info.Env(), errno, "pidfd_open", "could not open process " + std::to_string(pid), hint);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

void PidfdSignal(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "pidfd");
  const int signal = static_cast<int>(Integer(info, 1, "signal", 0, NSIG - 1));
  // SAFETY: the kernel refuses a descriptor that is no pidfd (EBADF); the signal reaches that very process or none.
  if (syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0u) != 0) {
    const std::string what = "could not send signal " + std::to_string(signal) + " to the process of pidfd ";
    const char* hint = errno == ESRCH ? "it has exited" : "";
    throw SystemError(info.Env(), errno, "pidfd_send_signal", what + std::to_string(fd), hint);
  }
}

Napi::Value PidfdWait(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "pidfd");
  auto pending = std::make_unique<Wait>(info.Env(), fd);
  const Napi::Promise promise = pending->promise();
  ReactorOf(info.Env()).Add(info.Env(), std::move(pending));
  return promise;
}

void PidfdClose(const Napi::CallbackInfo& info) {
  Reactor& reactor = ReactorOf(info.Env());
  if (const uint64_t id = reactor.Waiting(Fd(info, 0, "pidfd"))) reactor.Cancel(info.Env(), id, ECANCELED);
  CloseFd(info);
}

}  // namespace fairlead
