// When a TCP socket has little left to send. Node asks the kernel only while it has something to write itself.
#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "reactor.h"
#include "unique-fd.h"

namespace fairlead {
namespace {

/** Has a descriptor of its own: the socket's belongs to libuv, which may close it, and its number may be given to another at once. */
class Sendable final : public Pending {
 public:
  Sendable(Napi::Env env, UniqueFd fd) : fd_(std::move(fd)), deferred_(env) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  int fd() const override { return fd_.get(); }
  uint32_t events() const override { return EPOLLOUT; }
  // The socket does that itself, as long as it is open.
  bool holds_loop() const override { return false; }
  void Ready(Napi::Env env) override { Resolve(env, true); }
  void Fail(Napi::Env env, int errnum) override {
    if (errnum == ECANCELED) return Resolve(env, false);
    fd_.Reset();
    deferred_.Reject(SystemError(env, errnum, "epoll_wait", "could not wait until a socket has sent").Value());
  }

 private:
  void Resolve(Napi::Env env, bool is_sendable) {
    fd_.Reset();
    deferred_.Resolve(Napi::Boolean::New(env, is_sendable));
  }

  UniqueFd fd_;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Value WaitSendable(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Fd(info, 0, "fd");
  // SAFETY: close-on-exec from birth, and owned from here on; a descriptor that is not open is EBADF.
  UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) {
    throw SystemError(env, errno, "fcntl", "could not wait until descriptor " + std::to_string(fd) + " has sent");
  }
  auto pending = std::make_unique<Sendable>(env, std::move(own));
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", pending->promise());
  result.Set("id", Napi::Number::New(env, static_cast<double>(ReactorOf(env).Add(env, std::move(pending)))));
  return result;
}

Napi::Value CancelSendable(const Napi::CallbackInfo& info) {
  const int64_t id = Integer(info, 0, "id", 1, int64_t{1} << 52);
  return Napi::Boolean::New(info.Env(), ReactorOf(info.Env()).Cancel(info.Env(), static_cast<uint64_t>(id), ECANCELED));
}

}  // namespace fairlead
