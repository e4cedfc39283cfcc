// The service manager's notification protocol (sd_notify(3)): one datagram to the socket that NOTIFY_SOCKET names.
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "unique-fd.h"

namespace fairlead {

void SdNotify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string state = Text(info, 0, "state");
  const std::string path = Text(info, 1, "socketPath");
  const std::string what = "could not notify the service manager at " + path;

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool is_abstract = path.front() == '@';
  if (!is_abstract && path.front() != '/') {
    throw SystemError(env, EAFNOSUPPORT, "sendto", what, "an absolute path or an abstract name (@) is needed");
  }
  if (path.size() >= sizeof address.sun_path) throw SystemError(env, ENAMETOOLONG, "sendto", what);
  std::memcpy(address.sun_path, path.data(), path.size());
  // An abstract name starts with NUL and is as long as its address says; a path ends with NUL.
  if (is_abstract) address.sun_path[0] = '\0';
  const size_t length = offsetof(sockaddr_un, sun_path) + path.size() + (is_abstract ? 0 : 1);

  // SAFETY: close-on-exec from birth, closed on every way out.
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw SystemError(env, errno, "socket", what);
  // SAFETY: fd is owned and open; `length` bytes of `address` are set. A full queue is EAGAIN: Node's thread never waits.
  const ssize_t sent = sendto(fd.get(), state.data(), state.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(length));
  if (sent < 0) throw SystemError(env, errno, "sendto", what);
}

}  // namespace fairlead
