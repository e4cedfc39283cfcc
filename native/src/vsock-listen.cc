// Listening over AF_VSOCK, and the addresses of sockets. Accepting is Node's own: see swapInto.
#include <climits>
#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "unique-fd.h"
#include "vsock-address.h"

namespace fairlead {

Napi::Value VsockListen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto cid = static_cast<uint32_t>(Integer(info, 0, "cid", 0, kMaxU32));
  const auto port = static_cast<uint32_t>(Integer(info, 1, "port", 0, kMaxU32));
  const int backlog = static_cast<int>(Integer(info, 2, "backlog", 1, INT_MAX));
  const auto buffer_bytes = static_cast<uint64_t>(Integer(info, 3, "bufferBytes", 0, kMaxBufferBytes));
  const std::string what = "could not listen on " + VsockName(cid, port);

  // SAFETY: close-on-exec from birth, and owned from here on: every throw below closes it.
  UniqueFd fd(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) throw SystemError(env, errno, "socket", what, errno == EAFNOSUPPORT ? "load the kernel module vsock" : "");
  if (const int errnum = SetVsockBuffer(fd.get(), buffer_bytes)) throw SystemError(env, errnum, "setsockopt", what);
  const sockaddr_vm address = VsockAddress(cid, port);
  // SAFETY: fd is owned and open; the kernel copies the address.
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const char* hint = errno == EACCES ? "ports below 1024 need CAP_NET_BIND_SERVICE" : "";
    throw SystemError(env, errno, "bind", what, hint);
  }
  // SAFETY: fd is owned and open.
  if (listen(fd.get(), backlog) != 0) throw SystemError(env, errno, "listen", what);
  // SAFETY: ownership goes to JavaScript with the number.
  return Napi::Number::New(env, fd.Release());
}

namespace {

using NameOf = int (*)(int, sockaddr*, socklen_t*);

Napi::Value Address(const Napi::CallbackInfo& info, NameOf name_of, const char* syscall, const char* whose) {
  const int fd = Fd(info, 0, "fd");
  sockaddr_vm address{};
  socklen_t length = sizeof address;
  // SAFETY: the kernel writes at most `length` bytes and refuses a number that is no open socket.
  int errnum = name_of(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? 0 : errno;
  if (errnum == 0 && address.svm_family != AF_VSOCK) errnum = EAFNOSUPPORT;
  if (errnum != 0) {
    const std::string what = std::string("could not read the ") + whose + " vsock address of descriptor ";
    throw SystemError(info.Env(), errnum, syscall, what + std::to_string(fd));
  }
  return VsockAddressObject(info.Env(), address);
}

}  // namespace

Napi::Value VsockPeer(const Napi::CallbackInfo& info) {
  return Address(info, [](int fd, sockaddr* address, socklen_t* length) { return getpeername(fd, address, length); },
                 "getpeername", "peer's");
}

Napi::Value VsockLocal(const Napi::CallbackInfo& info) {
  return Address(info, [](int fd, sockaddr* address, socklen_t* length) { return getsockname(fd, address, length); },
                 "getsockname", "local");
}

}  // namespace fairlead
