// Connecting over AF_VSOCK without blocking any thread of Node: a non-blocking connect whose end the epoll thread reports.
//
// The time limit is the kernel's own SO_VM_SOCKETS_CONNECT_TIMEOUT. It governs non-blocking connects too, and its default
// of 2 s would cut every longer wait short, whatever the caller polls for.
#include <sys/epoll.h>
#include <sys/time.h>

#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "reactor.h"
#include "unique-fd.h"
#include "vsock-address.h"

namespace fairlead {
namespace {

// A day: above it lies a mistake, not a wait.
constexpr int64_t kMaxTimeoutMs = 86'400'000;

// Headers older than Linux 5.17 know only the first number, under the name without a suffix.
constexpr int kConnectTimeoutOld = 6;
constexpr int kConnectTimeoutNew = 8;

std::string Hint(int errnum, int64_t timeout_ms) {
  switch (errnum) {
    case ENODEV:
      return "no running VM has this CID, or no vsock transport is loaded";
    case ECONNRESET:
      return "nothing in the guest listens on this port, or its backlog is full";
    case ETIMEDOUT:
      return "the guest did not answer within " + std::to_string(timeout_ms) + " ms: booting, paused or hung";
    case EAFNOSUPPORT:
      return "load the kernel module vsock";
    case ECANCELED:
      return "the caller gave up";
    default:
      return {};
  }
}

Napi::Error ConnectError(Napi::Env env, int errnum, const char* syscall, uint32_t cid, uint32_t port,
                         int64_t timeout_ms) {
  return SystemError(env, errnum, syscall, "could not connect to " + VsockName(cid, port), Hint(errnum, timeout_ms));
}

int SetConnectTimeout(int fd, int64_t timeout_ms) {
  // Sixty-four bits in both fields, as the new option wants it and the old one on 64-bit machines.
  struct {
    int64_t seconds;
    int64_t microseconds;
  } const timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000};
  // SAFETY: the caller owns fd; the kernel copies `timeout`.
  if (setsockopt(fd, AF_VSOCK, kConnectTimeoutNew, &timeout, sizeof timeout) == 0) return 0;
  if (errno != ENOPROTOOPT) return errno;
  static_assert(sizeof(timeval) == sizeof timeout, "the old option takes the machine's own timeval");
  // SAFETY: see above.
  return setsockopt(fd, AF_VSOCK, kConnectTimeoutOld, &timeout, sizeof timeout) == 0 ? 0 : errno;
}

class Connect final : public Pending {
 public:
  Connect(Napi::Env env, UniqueFd fd, uint32_t cid, uint32_t port, int64_t timeout_ms)
      : fd_(std::move(fd)), deferred_(env), cid_(cid), port_(port), timeout_ms_(timeout_ms) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  int fd() const override { return fd_.get(); }
  uint32_t events() const override { return EPOLLOUT; }
  bool holds_loop() const override { return true; }

  void Ready(Napi::Env env) override {
    int errnum = 0;
    socklen_t length = sizeof errnum;
    // SAFETY: fd_ is owned by this object; the kernel writes one int.
    if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &errnum, &length) != 0) errnum = errno;
    if (errnum != 0) return Fail(env, errnum);
    // SAFETY: ownership goes to JavaScript with the number.
    deferred_.Resolve(Napi::Number::New(env, fd_.Release()));
  }

  void Fail(Napi::Env env, int errnum) override {
    fd_.Reset();
    deferred_.Reject(ConnectError(env, errnum, "connect", cid_, port_, timeout_ms_).Value());
  }

 private:
  UniqueFd fd_;
  Napi::Promise::Deferred deferred_;
  uint32_t cid_;
  uint32_t port_;
  int64_t timeout_ms_;
};

}  // namespace

Napi::Value VsockConnect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto cid = static_cast<uint32_t>(Integer(info, 0, "cid", 0, kMaxU32 - 1));
  const auto port = static_cast<uint32_t>(Integer(info, 1, "port", 0, kMaxU32 - 1));
  const int64_t timeout_ms = Integer(info, 2, "timeoutMs", 1, kMaxTimeoutMs);
  const auto buffer_bytes = static_cast<uint64_t>(Integer(info, 3, "bufferBytes", 0, kMaxBufferBytes));

  // SAFETY: close-on-exec from birth, and owned from here on: every throw below closes it.
  UniqueFd fd(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) throw ConnectError(env, errno, "socket", cid, port, timeout_ms);
  int errnum = SetConnectTimeout(fd.get(), timeout_ms);
  if (errnum == 0) errnum = SetVsockBuffer(fd.get(), buffer_bytes);
  if (errnum != 0) throw ConnectError(env, errnum, "setsockopt", cid, port, timeout_ms);

  const sockaddr_vm address = VsockAddress(cid, port);
  // An interrupted connect goes on in the kernel like one in progress; one that is done at once is reported writable.
  // SAFETY: fd is owned and open; the kernel copies the address.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS &&
      errno != EINTR) {
    throw ConnectError(env, errno, "connect", cid, port, timeout_ms);
  }

  auto pending = std::make_unique<Connect>(env, std::move(fd), cid, port, timeout_ms);
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", pending->promise());
  result.Set("id", Napi::Number::New(env, static_cast<double>(ReactorOf(env).Add(env, std::move(pending)))));
  return result;
}

Napi::Value CancelConnect(const Napi::CallbackInfo& info) {
  const int64_t id = Integer(info, 0, "id", 1, int64_t{1} << 52);
  return Napi::Boolean::New(info.Env(), ReactorOf(info.Env()).Cancel(info.Env(), static_cast<uint64_t>(id), ECANCELED));
}

}  // namespace fairlead
