// Descriptors: pairs, the swap, closing, and passing over AF_UNIX sockets.
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "reactor.h"
#include "unique-fd.h"

namespace fairlead {
namespace {

// SCM_MAX_FD of the kernel: what one message can carry.
constexpr size_t kMaxFds = 253;
constexpr int64_t kMaxMessageBytes = 1 << 20;

}  // namespace

Napi::Value Socketpair(const Napi::CallbackInfo& info) {
  int fds[2];
  // SAFETY: both ends are close-on-exec from birth and go to JavaScript, which owns them.
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    throw SystemError(info.Env(), errno, "socketpair", "could not make a pair of sockets");
  }
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), fds[0]));
  pair.Set(1u, Napi::Number::New(info.Env(), fds[1]));
  return pair;
}

void SwapInto(const Napi::CallbackInfo& info) {
  const int target = Fd(info, 0, "targetFd");
  const int source = Fd(info, 1, "sourceFd");
  const std::string what =
      "could not put descriptor " + std::to_string(source) + " in the place of " + std::to_string(target);
  // SAFETY: dup3 would create a target that is not open; the number could then belong to whoever opens one next.
  if (fcntl(target, F_GETFD) < 0) throw SystemError(info.Env(), errno, "fcntl", what);
  // O_NONBLOCK belongs to the open file, not to the number: libuv has set it on the one that goes away. Without it here a
  // full buffer would block the event loop for good.
  // SAFETY: a number that is not open gives EBADF and changes nothing.
  const int flags = fcntl(source, F_GETFL);
  if (flags < 0 || fcntl(source, F_SETFL, flags | O_NONBLOCK) != 0) throw SystemError(info.Env(), errno, "fcntl", what);
  // SAFETY: the caller owns both numbers; the old file behind target is closed atomically, source stays open.
  if (dup3(source, target, O_CLOEXEC) < 0) throw SystemError(info.Env(), errno, "dup3", what);
}

void CloseFd(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "fd");
  const std::string what = "could not close descriptor " + std::to_string(fd);
  if (ReactorOf(info.Env()).Waiting(fd) != 0) {
    throw SystemError(info.Env(), EBUSY, "close", what, "a wait on it is pending: use pidfdClose");
  }
  // SAFETY: the caller owns fd. Linux frees the number even on EINTR, so that the call is never repeated.
  if (close(fd) != 0 && errno != EINTR) throw SystemError(info.Env(), errno, "close", what);
}

Napi::Value SendFds(const Napi::CallbackInfo& info) {
  const int socket = Fd(info, 0, "socketFd");
  const std::vector<int> fds = Fds(info, 1, "fds", kMaxFds);
  Napi::Uint8Array bytes = Bytes(info, 2, "bytes");

  iovec data{bytes.Data(), bytes.ByteLength()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  // SAFETY: the kernel duplicates the descriptors into the message; ours stay open and ours.
  const ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    const std::string what = "could not send descriptors over descriptor " + std::to_string(socket);
    throw SystemError(info.Env(), errno, "sendmsg", what);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(sent));
}

Napi::Value RecvFds(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int socket = Fd(info, 0, "socketFd");
  const auto max_bytes = static_cast<size_t>(Integer(info, 1, "maxBytes", 1, kMaxMessageBytes));
  const std::string what = "could not receive descriptors from descriptor " + std::to_string(socket);

  std::vector<char> buffer(max_bytes);
  iovec data{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // SAFETY: what arrives is close-on-exec and owned by `received` below before anything can throw.
  const ssize_t count = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (count < 0) throw SystemError(env, errno, "recvmsg", what);

  std::vector<UniqueFd> received;
  received.reserve(kMaxFds);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < fds; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      // SAFETY: the kernel made this number for us in recvmsg.
      received.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) throw SystemError(env, EMSGSIZE, "recvmsg", what);

  Napi::Array fds = Napi::Array::New(env, received.size());
  Napi::Object result = Napi::Object::New(env);
  result.Set("bytes", Napi::Buffer<char>::Copy(env, buffer.data(), static_cast<size_t>(count)));
  result.Set("fds", fds);
  for (uint32_t i = 0; i < received.size(); i++) fds.Set(i, Napi::Number::New(env, received[i].get()));
  // SAFETY: nothing can throw any more: ownership goes to JavaScript with the numbers.
  for (UniqueFd& fd : received) fd.Release();
  return result;
}

}  // namespace fairlead
