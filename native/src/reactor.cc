#include "reactor.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

#include "errors.h"

namespace fairlead {
namespace {

// The id of the wake-up eventfd; never an operation's. As a message to JavaScript it says that the thread broke.
constexpr uint64_t kWake = 0;

// Ids travel in the pointer argument of the thread-safe function: nothing to allocate, nothing to leak at the end.
static_assert(sizeof(void*) >= sizeof(uint64_t), "an id must fit a pointer");

/** All signals stay with Node's own threads: the new thread inherits a mask that blocks them. */
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

void Reactor::Start(Napi::Env env) {
  // SAFETY: both descriptors are created close-on-exec and owned from here on; a failure of the second closes the first.
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) throw SystemError(env, errno, "epoll_create1", "could not start the add-on's event thread");
  // SAFETY: see above.
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) throw SystemError(env, errno, "eventfd", "could not start the add-on's event thread");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWake;
  // SAFETY: both are open and owned by this function.
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    throw SystemError(env, errno, "epoll_ctl", "could not start the add-on's event thread");
  }

  // Queue without a limit: the thread never blocks in it, so Stop can always join.
  Carrier carrier = Carrier::New(env, "fairlead", 0, 1, this);
  carrier.Unref(env);
  epoll_ = std::move(epoll);
  wake_ = std::move(wake);
  carrier_ = carrier;
  broken_ = 0;
  try {
    const SignalsBlocked blocked;
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    carrier_.Release();
    epoll_.Reset();
    wake_.Reset();
    throw SystemError(env, error.code().value(), "pthread_create", "could not start the add-on's event thread");
  }
  pthread_setname_np(thread_.native_handle(), "fairlead-epoll");
  // Hooks run last-in first-out: this one, registered after the thread-safe function's own, finds that still alive.
  env.AddCleanupHook([](Reactor* reactor) { reactor->Stop(); }, this);
}

void Reactor::Run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    // SAFETY: epoll_ is closed only after this thread was joined.
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      broken_ = errno;
      carrier_.NonBlockingCall(reinterpret_cast<void*>(kWake));
      return;
    }
    for (int i = 0; i < count; i++) {
      const uint64_t id = events[static_cast<size_t>(i)].data.u64;
      if (id == kWake) return;
      // Fails only when the environment is closing, and then nobody waits for the answer.
      carrier_.NonBlockingCall(reinterpret_cast<void*>(id));
    }
  }
}

void Reactor::CallJs(Napi::Env env, Napi::Function, Reactor* reactor, void* data) {
  // Without an environment the queue is only being emptied, and the reactor may be gone.
  if (static_cast<napi_env>(env) == nullptr) return;
  const uint64_t id = reinterpret_cast<uint64_t>(data);
  if (id == kWake) {
    reactor->FailAll(env, reactor->broken_);
  } else {
    reactor->Dispatch(env, id);
  }
}

uint64_t Reactor::Add(Napi::Env env, std::unique_ptr<Pending> pending) {
  if (!thread_.joinable()) Start(env);
  if (broken_ != 0) throw SystemError(env, broken_, "epoll_wait", "the add-on's event thread has ended");
  const uint64_t id = next_id_++;
  epoll_event event{};
  event.events = pending->events() | EPOLLONESHOT;
  event.data.u64 = id;
  // SAFETY: epoll_ is open while the thread is; a bad pending->fd() is EBADF, a second wait on one descriptor EEXIST.
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pending->fd(), &event) != 0) {
    throw SystemError(env, errno, "epoll_ctl", "could not wait on descriptor " + std::to_string(pending->fd()));
  }
  if (pending->holds_loop() && holders_++ == 0) carrier_.Ref(env);
  pending_.emplace(id, std::move(pending));
  return id;
}

std::unique_ptr<Pending> Reactor::Take(Napi::Env env, uint64_t id) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return nullptr;
  std::unique_ptr<Pending> pending = std::move(found->second);
  pending_.erase(found);
  // SAFETY: the descriptor is still open: its operation owns it, or closing it is refused while it is waited on. Should
  // JavaScript have closed it behind our back, the kernel has removed it itself and says EBADF or ENOENT.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pending->fd(), nullptr);
  if (pending->holds_loop() && --holders_ == 0) carrier_.Unref(env);
  return pending;
}

void Reactor::Dispatch(Napi::Env env, uint64_t id) {
  if (const auto pending = Take(env, id)) pending->Ready(env);
}

bool Reactor::Cancel(Napi::Env env, uint64_t id, int errnum) {
  const auto pending = Take(env, id);
  if (pending != nullptr) pending->Fail(env, errnum);
  return pending != nullptr;
}

void Reactor::FailAll(Napi::Env env, int errnum) {
  while (!pending_.empty()) Cancel(env, pending_.begin()->first, errnum);
}

uint64_t Reactor::Waiting(int fd) const {
  for (const auto& [id, pending] : pending_) {
    if (pending->fd() == fd) return id;
  }
  return 0;
}

void Reactor::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  // SAFETY: wake_ is open until the thread was joined. The counter is at most one: the write cannot fail.
  while (write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) continue;
  thread_.join();
  carrier_.Release();
  pending_.clear();
  epoll_.Reset();
  wake_.Reset();
}

}  // namespace fairlead
