// The one epoll thread of an environment (main thread or worker), and the operations that wait on it.
//
//   JavaScript thread                       epoll thread
//   Add ──epoll_ctl(ADD, ONESHOT)──▶ ┐
//                                    epoll_wait ──id──▶ thread-safe function ──▶ Dispatch ──▶ Ready ──▶ promise settled
//   Cancel ──epoll_ctl(DEL)          │
//   Stop ──eventfd──▶ ───────────────┘ returns, joined
//
// The thread only carries ids: every Pending is created, settled and destroyed on the JavaScript thread, so nothing is
// locked. Ids are never used twice, so an event that was on its way when its operation was cancelled finds nothing and is
// dropped. The thread starts with the first operation and ends with the environment.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>

#include "unique-fd.h"

namespace fairlead {

/** One operation that waits for its descriptor. Exactly one of Ready and Fail is called, once, and settles the promise;
 * at the end of the environment neither is, and the destructor frees what the operation owns. */
class Pending {
 public:
  virtual ~Pending() = default;
  virtual int fd() const = 0;
  /** The epoll events to wait for; errors and hang-up are always among them. */
  virtual uint32_t events() const = 0;
  /** Whether the event loop must stay up for it. */
  virtual bool holds_loop() const = 0;
  virtual void Ready(Napi::Env env) = 0;
  virtual void Fail(Napi::Env env, int errnum) = 0;
};

class Reactor {
 public:
  Reactor() = default;
  ~Reactor() { Stop(); }
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /** Waits for `pending` and returns its id (from 1). Throws a SystemError, with nothing kept, where it cannot. */
  uint64_t Add(Napi::Env env, std::unique_ptr<Pending> pending);

  /** Fails the operation with `errnum`; false where it has settled already. */
  bool Cancel(Napi::Env env, uint64_t id, int errnum);

  /** The id of the operation that waits on `fd`, 0 for none. */
  uint64_t Waiting(int fd) const;

  /** Ends the thread and frees every operation unsettled. Called by the environment's cleanup hook. */
  void Stop();

 private:
  static void CallJs(Napi::Env env, Napi::Function, Reactor* reactor, void* data);
  using Carrier = Napi::TypedThreadSafeFunction<Reactor, void, CallJs>;

  void Start(Napi::Env env);
  void Run();
  void Dispatch(Napi::Env env, uint64_t id);
  std::unique_ptr<Pending> Take(Napi::Env env, uint64_t id);
  void FailAll(Napi::Env env, int errnum);

  UniqueFd epoll_;
  UniqueFd wake_;
  Carrier carrier_;
  std::thread thread_;
  std::map<uint64_t, std::unique_ptr<Pending>> pending_;
  uint64_t next_id_ = 1;
  size_t holders_ = 0;
  std::atomic<int> broken_{0};
};

/** The reactor of this environment. */
Reactor& ReactorOf(Napi::Env env);

}  // namespace fairlead
