// Listening AF_UNIX sockets: one with a path, for QEMU to inherit, and one with a name of the kernel's choice, as the
// socket that Node opens before a vsock listener is swapped into its place.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <climits>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "unique-fd.h"

namespace fairlead {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

/** A socket whose file, once bound, has mode 0600: on Linux bind takes it from the socket's own inode, less the umask.
 * A chmod after bind would leave a gap, and a changed umask is the whole process's. */
UniqueFd PrivateSocket(Napi::Env env, const std::string& what) {
  // SAFETY: close-on-exec from birth, owned by the result.
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw SystemError(env, errno, "socket", what);
  // SAFETY: fd is owned and open.
  if (fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) throw SystemError(env, errno, "fchmod", what);
  return fd;
}

}  // namespace

Napi::Value UnixListen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = Text(info, 0, "path");
  const int backlog = static_cast<int>(Integer(info, 1, "backlog", 1, INT_MAX));
  const std::string what = "could not listen on unix socket " + path;
  if (path.size() > kMaxPath) {
    const std::string hint = "the path has " + std::to_string(path.size()) + " bytes and may have " +
                             std::to_string(kMaxPath) + ": use a shorter directory";
    throw SystemError(env, ENAMETOOLONG, "bind", what, hint);
  }
  UniqueFd fd = PrivateSocket(env, what);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // SAFETY: fd is owned and open; the address is zero-filled, so that the path ends with NUL.
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const char* hint = errno == EADDRINUSE ? "remove the file where nothing uses it" : "";
    throw SystemError(env, errno, "bind", what, hint);
  }
  // SAFETY: fd is owned and open.
  if (listen(fd.get(), backlog) != 0) {
    const int errnum = errno;
    unlink(path.c_str());
    throw SystemError(env, errnum, "listen", what);
  }
  // SAFETY: ownership goes to JavaScript with the number.
  return Napi::Number::New(env, fd.Release());
}

Napi::Value UnixListenAbstract(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string what = "could not listen on a unix socket without a path";
  UniqueFd fd = PrivateSocket(env, what);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // SAFETY: fd is owned and open. An address that ends after the family makes the kernel choose a name (unix(7), autobind).
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), offsetof(sockaddr_un, sun_path)) != 0) {
    throw SystemError(env, errno, "bind", what);
  }
  // SAFETY: fd is owned and open.
  if (listen(fd.get(), 16) != 0) throw SystemError(env, errno, "listen", what);
  socklen_t length = sizeof address;
  // SAFETY: the kernel writes at most `length` bytes and says how many.
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw SystemError(env, errno, "getsockname", what);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("path", Napi::String::New(env, address.sun_path, length - offsetof(sockaddr_un, sun_path)));
  // SAFETY: ownership goes to JavaScript with the number.
  result.Set("fd", Napi::Number::New(env, fd.Release()));
  return result;
}

}  // namespace fairlead
